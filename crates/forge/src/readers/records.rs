//! Records of APIs as catalogues hold them: JSON objects of any shape, by a map of their fields.

use serde_json::{Map, Value};

use super::functions::kind;
use super::{BadRecord, Read, example, prose};
use crate::document::{Content, Document, Facts, RecordKind};
use crate::recipe::Input;

/// Keys that a message about a record names.
const NAMED: usize = 8;
/// Bytes of them.
const NAMES: usize = 200;
/// Fields that are prose.
const PROSE: &[&str] = &["description", "documentation", "performance"];

/// The document of a record, by `input.fields`: under each name the first of its pointers (or keys) that says something.
/// Null, empty values and words such as `N/A` say nothing, at any depth.
///
/// Templates know the names `name`, `call`, `description`, `functionality`, `arguments`, `requirements`, `example`,
/// `version`, `provider`, `domain`, `questions`, `documentation` and `performance`; any other is rendered under its own.
pub fn document(origin: &str, value: Value, input: &Input) -> Read {
    let bad = |reason: String| Err(BadRecord { origin: origin.to_owned(), reason });
    let Value::Object(record) = &value else {
        return bad(format!("no record: found {}, expected an object", kind(&value)));
    };
    // As the recipe's map has no order of its own, fields come in that of the record.
    let mut found: Vec<(usize, &str, Value)> = Vec::new();
    for (name, places) in &input.fields {
        let present = |place: &String| Some((position(record, place), example::present(look(&value, place)?.clone())?));
        if let Some((at, value)) = places.iter().find_map(present) {
            found.push((at, name, value));
        }
    }
    found.sort_by_key(|(at, _, _)| *at);
    let mut fields = Map::new();
    for (_, name, value) in found {
        let value = match value {
            Value::String(text) if PROSE.contains(&name) => prose::markdown(&text).into(),
            value => value,
        };
        fields.insert(name.to_owned(), value);
    }
    let text = |key: &str| match fields.get(key) {
        Some(Value::String(text)) => Some(text.trim().to_owned()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let Some(name) = text("name") else {
        let places = input.fields.get("name").map(|places| places.join(", ")).unwrap_or_default();
        let keys: Vec<&str> = record.keys().map(String::as_str).take(NAMED).collect();
        let keys = prose::cut(&keys.join(", "), NAMES);
        return bad(format!("no name: nothing at {places}; the record's keys are {keys}; say in `fields` where it is"));
    };
    let provider = text("provider").or_else(|| input.provider.clone());
    if let Some(provider) = &provider {
        fields.insert("provider".to_owned(), provider.as_str().into());
    }
    let facts = Facts { api: Some(name), provider };
    Ok(Document { origin: origin.to_owned(), facts, content: Content::Record { kind: RecordKind::Api, fields } })
}

/// What lies at a JSON pointer, or under a key.
fn look<'a>(value: &'a Value, place: &str) -> Option<&'a Value> {
    if place.starts_with('/') { value.pointer(place) } else { value.get(place) }
}

/// Where in the record the outermost key of a place is.
fn position(record: &Map<String, Value>, place: &str) -> usize {
    let key = place.strip_prefix('/').map_or(place, |rest| rest.split('/').next().unwrap_or(rest));
    record.keys().position(|other| other == key).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::readers::Kind;

    fn input(fields: &[(&str, &[&str])]) -> Input {
        let mut input = Input::new(Kind::Records, &[]);
        let places = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect();
        input.fields = fields.iter().map(|(name, list)| ((*name).to_owned(), places(list))).collect();
        input
    }

    #[test]
    fn the_first_place_that_says_something_counts() {
        let mut input = input(&[
            ("name", &["api_name", "/meta/name"]),
            ("description", &["/meta/description", "functionality"]),
            ("performance", &["performance"]),
        ]);
        input.provider = Some("Hub".to_owned());
        let record = json!({
            "functionality": "<b>Does</b> it", "api_name": " ", "meta": { "name": "it", "description": "N/A" },
            "performance": { "dataset": "N/A", "accuracy": null },
        });
        let document = document("a.json:3", record, &input).unwrap();
        assert_eq!(document.facts, Facts { api: Some("it".to_owned()), provider: Some("Hub".to_owned()) });
        let fields = json!({ "description": "**Does** it", "name": "it", "provider": "Hub" });
        assert_eq!(
            document.content,
            Content::Record { kind: RecordKind::Api, fields: fields.as_object().unwrap().clone() }
        );
    }

    #[test]
    fn a_record_without_a_name_says_where_it_was_looked_for() {
        let input = input(&[("name", &["api_name", "/meta/name"])]);
        let bad = |value: Value| document("a.json:3", value, &input).unwrap_err().to_string();
        assert_eq!(
            bad(json!({ "name": "x", "id": 1 })),
            "a.json:3: no name: nothing at api_name, /meta/name; the record's keys are name, id; say in `fields` where it is"
        );
        assert_eq!(bad(json!([1])), "a.json:3: no record: found a list, expected an object");
    }
}
