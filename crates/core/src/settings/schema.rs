//! The JSON Schema of settings, derived from their types: for editors, for the checks, and for the reference.

use serde_json::Value;

use super::Settings;

/// The JSON Schema of a recipe (draft 2020-12).
#[must_use]
pub fn schema<T: Settings>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The recipe as YAML, with every default filled in; loading it gives the same recipe.
#[must_use]
pub fn to_yaml<T: Settings>(recipe: &T) -> String {
    // Plain data without maps of anything but text: there is nothing in it that YAML could refuse.
    serde_yaml::to_string(recipe).unwrap_or_default()
}
