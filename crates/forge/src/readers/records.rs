//! Records of APIs as catalogues hold them: JSON objects of any shape, by a map of their fields.

use serde_json::{Map, Value};

use super::json::kind;
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
    fn every_record_of_the_catalogues_is_read_by_a_map_of_its_fields() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/agent");
        if !folder.exists() {
            crate::skipped("every_record_of_the_catalogues_is_read_by_a_map_of_its_fields", "no shared data");
            return;
        }
        let zoo = input(&[
            ("name", &["api_name"]),
            ("call", &["api_call"]),
            ("version", &["api_version"]),
            ("functionality", &["functionality"]),
            ("description", &["/meta_data/description", "/metadata/description"]),
            ("arguments", &["api_arguments", "supported_params"]),
            ("requirements", &["env_requirements", "additional_requirements"]),
            ("required_roles", &["required_roles", "roles_required", "role_required"]),
            ("example", &["example_code", "curl_command"]),
            ("questions", &["questions", "Questions"]),
            ("performance", &["/meta_data/performance"]),
            ("documentation", &["/meta_data/documentation_link", "/metadata/documentation_link"]),
        ]);
        let bench = input(&[
            ("name", &["api_name"]),
            ("call", &["api_call"]),
            ("provider", &["framework"]),
            ("domain", &["domain"]),
            ("functionality", &["functionality"]),
            ("description", &["description"]),
            ("arguments", &["api_arguments"]),
            ("requirements", &["python_environment_requirements"]),
            ("example", &["example_code"]),
            ("performance", &["performance"]),
        ]);
        let renderer = crate::render::Renderer::plain();
        let mut counts = [0, 0];
        for (at, (part, input)) in [("apizoo", &zoo), ("apibench", &bench)].into_iter().enumerate() {
            for entry in fs_err::read_dir(folder.join(part)).unwrap() {
                let path = entry.unwrap().path();
                let text = fs_err::read_to_string(&path).unwrap();
                // What is not valid JSON, and conversations about records, are for others.
                let records: Vec<Value> = match serde_json::from_str(&text) {
                    Ok(Value::Array(records)) => records,
                    _ => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
                };
                for record in records.into_iter().filter(|record| record.get("api_name").is_some()) {
                    let document = document(&path.display().to_string(), record, input).unwrap();
                    renderer.render(&document).unwrap();
                    counts[at] += 1;
                }
            }
        }
        // As Python counts them: records with a name in the files that are valid JSON.
        assert_eq!(counts, [4_164, 1_726]);
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
