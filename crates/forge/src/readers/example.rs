//! Values out of specifications and records: which say nothing, and examples short enough to be read.

use serde_json::{Map, Value};

/// Items kept of a list, keys of an object, bytes of a string.
const ITEMS: usize = 3;
const KEYS: usize = 40;
const STRING: usize = 400;
/// Bytes of JSON that an example has at most.
const MOST: usize = 4_000;

/// Words for nothing.
const ABSENT: &[&str] =
    &["n/a", "na", "none", "null", "not available", "not provided", "not specified", "unspecified", "unknown", "-"];

/// Whether a value says nothing: null, empty, or one of the words for that.
pub(super) fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => {
            let text = text.trim();
            text.is_empty() || ABSENT.iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A value without the parts that say nothing; none where nothing is left.
pub(super) fn present(value: Value) -> Option<Value> {
    let value = match value {
        Value::Array(items) => Value::Array(items.into_iter().filter_map(present).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter().filter_map(|(key, value)| Some((key, present(value)?))).collect::<Map<_, _>>(),
        ),
        other => other,
    };
    (!is_absent(&value)).then_some(value)
}

/// An example with its long lists and texts shortened; none where it is too long even so. JSON inside a string, as
/// specifications in YAML have it, is read.
pub(super) fn short(value: &Value) -> Option<Value> {
    let parsed = match value {
        Value::String(text) if text.len() > 4 * MOST => return None,
        Value::String(text) if text.trim_start().starts_with(['{', '[']) => serde_json::from_str::<Value>(text).ok(),
        Value::String(text) => return (text.len() <= MOST && !is_absent(value)).then(|| text.trim_end().into()),
        _ => None,
    };
    let mut left = MOST;
    shortened(parsed.as_ref().unwrap_or(value), &mut left).filter(|value| !is_absent(value))
}

/// None as soon as `left` bytes are taken.
fn shortened(value: &Value, left: &mut usize) -> Option<Value> {
    *left = left.checked_sub(4)?;
    Some(match value {
        Value::String(text) => {
            let text = super::prose::cut(text, STRING);
            *left = left.checked_sub(text.len())?;
            Value::String(text)
        }
        Value::Array(items) => {
            // Numbers are many and short: vectors, points.
            let most = if items.iter().take(ITEMS).all(Value::is_number) { 2 * ITEMS } else { ITEMS };
            Value::Array(items.iter().take(most).map(|item| shortened(item, left)).collect::<Option<_>>()?)
        }
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map.iter().take(KEYS) {
                *left = left.checked_sub(key.len())?;
                out.insert(key.clone(), shortened(value, left)?);
            }
            Value::Object(out)
        }
        other => other.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_left_out_at_any_depth() {
        let value = json!({ "dataset": "N/A", "accuracy": { "a": "", "b": [null, " none "] }, "size": 0 });
        assert_eq!(present(value), Some(json!({ "size": 0 })));
        assert_eq!(present(json!({ "dataset": "N/A", "accuracy": [] })), None);
    }

    #[test]
    fn examples_are_shortened_but_stay_json() {
        assert_eq!(short(&json!("{\"a\": [\"1\", \"2\", \"3\", \"4\"]}")), Some(json!({ "a": ["1", "2", "3"] })));
        assert_eq!(short(&json!("plain {text}\n")), Some(json!("plain {text}")));
        assert_eq!(short(&json!({ "a": "x".repeat(1_000) })).map(|value| value.to_string().len() < 500), Some(true));
        let wide: Value = (0..1_000).map(|key| (key.to_string(), json!("x".repeat(300)))).collect();
        assert_eq!(short(&wide), None);
    }
}
