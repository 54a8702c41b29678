//! A linear classifier over hashed n-grams that finds documents like given ones in a stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::Input;

/// A classifier: what to find, among what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Documents such as are to be found.
    pub positive: Vec<Input>,
    /// Documents such as are not.
    pub negative: Vec<Input>,
}
