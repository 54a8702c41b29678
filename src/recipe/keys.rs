//! A recipe as a flat list of keys and values, so that two of them can be compared.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The values of `settings` by their keys, such as `batch.sequences`; what is not set has no key. An element of a list goes by
/// its `name` where it has one, such as `stages.main.steps`, else by its number.
///
/// # Errors
/// A value that has no form in JSON.
pub fn by_key(settings: &impl Serialize) -> serde_json::Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    flatten("", &serde_json::to_value(settings)?, &mut all);
    Ok(all)
}

fn flatten(key: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(values) => values.iter().for_each(|(name, value)| flatten(&below(name), value, into)),
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                let name = value.get("name").and_then(Value::as_str);
                flatten(&below(name.map_or_else(|| at.to_string(), str::to_owned).as_str()), value, into);
            }
        }
        Value::Null => {}
        Value::String(text) => drop(into.insert(key.to_owned(), text.clone())),
        value => drop(into.insert(key.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_paths_and_named_elements_go_by_their_names() {
        let recipe = json!({
            "batch": { "sequences": 4, "tokens": null },
            "stages": [{ "name": "main", "steps": 4 }, { "steps": 5 }],
            "run": { "name": "x" }
        });
        let expected = [
            ("batch.sequences", "4"),
            ("run.name", "x"),
            ("stages.1.steps", "5"),
            ("stages.main.name", "main"),
            ("stages.main.steps", "4"),
        ];
        let found = by_key(&recipe).unwrap();
        assert_eq!(found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    }
}
