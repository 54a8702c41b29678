//! Records with their text under one key, as web corpora have them.

use serde_json::Value;

use super::json::kind;
use super::{BadRecord, Document, Read};

/// The document of one record; `None` where its text is empty. `field` is a key, or a JSON pointer.
#[must_use]
pub fn document(origin: &str, mut value: Value, field: &str) -> Option<Read> {
    let bad = |reason| Some(Err(BadRecord { origin: origin.to_owned(), reason }));
    let found = if field.starts_with('/') { value.pointer_mut(field) } else { value.get_mut(field) };
    match found.map(Value::take) {
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(Ok(Document::text(origin, text))),
        Some(other) => bad(format!("field \"{field}\" holds {}, expected a string", kind(&other))),
        None => match &value {
            Value::Object(map) => {
                let keys: Vec<&str> = map.keys().take(8).map(String::as_str).collect();
                bad(format!("no field \"{field}\"; it has: {} (choose one with --field)", keys.join(", ")))
            }
            other => bad(format!("{}, expected an object with field \"{field}\"", kind(other))),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_without_the_field_names_the_fields_it_has() {
        let bad = document("a.jsonl:7", json!({"body": "x", "id": 1}), "text").unwrap().unwrap_err();
        assert_eq!(bad.to_string(), "a.jsonl:7: no field \"text\"; it has: body, id (choose one with --field)");
    }

    #[test]
    fn a_pointer_reaches_into_objects() {
        let read = document("a", json!({"a": {"b": "deep"}}), "/a/b").unwrap().unwrap();
        assert_eq!(read.content, crate::document::Content::Text("deep".to_owned()));
    }
}
