//! Documents that hold a benchmark's questions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which documents are left out because a benchmark is in them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}
