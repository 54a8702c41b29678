//! Which documents are good enough to learn from, and what is taken out of those that are.

pub mod decontamination;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which documents of a source are good enough.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}
