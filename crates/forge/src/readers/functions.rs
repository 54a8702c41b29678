//! Lists of functions that a model may call: OpenAI's `tools` and `functions`, tools as JSON Schemas, results of MCP's
//! `tools/list`; a record for each function.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use super::json::kind;
use super::schema::{Schemas, Side};
use super::{BadRecord, Read, example, prose};
use crate::document::{Content, Document, Facts, RecordKind};
use crate::recipe::Input;

/// Lists within lists.
const DEPTH: usize = 8;
/// Longest description of a function and name, in bytes.
const DESCRIPTION: usize = 12_000;
const NAME: usize = 200;
/// Bytes of a JSON Schema that is shown whole.
const WHOLE: usize = 6_000;
/// Steps of work that one function may cause.
const WORK: u64 = 2_000_000;
/// Keys that hold functions, and keys that only a function has besides its name.
const LISTS: &[&str] = &["tools", "functions", "function"];
const PARAMETERS: &[&str] = &["parameters", "inputSchema", "input_schema", "args_schema", "arguments"];
const RETURNS: &[&str] = &["outputSchema", "output_schema", "returns", "return", "response", "output"];

/// The functions of one JSON value: a whole file, or a line of one. Every list it holds is looked through; what is no
/// function is a bad record at its JSON pointer.
///
/// Fields of a record: `name`, `title`, `description`, `signature`, `parameters` and `returns` (rows as those of
/// [`openapi`](super::openapi)), `returns_type`, `returns_description`, `hints`, and `schema`, the JSON Schema of the
/// parameters as it was written. What is not known is not there.
pub fn documents(origin: &str, value: Value, input: &Input, out: &mut Vec<Read>) {
    let pointed = if origin.contains('#') { origin.to_owned() } else { format!("{origin}#") };
    look(&value, origin, &pointed, input, out, 0);
}

/// `origin` names the value; `pointer` is what a key inside it is appended to.
fn look(value: &Value, origin: &str, pointer: &str, input: &Input, out: &mut Vec<Read>, depth: usize) {
    let inside = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    let bad = |reason: String| Err(BadRecord { origin: origin.to_owned(), reason });
    if depth > DEPTH {
        out.push(bad(format!("no function: lists are nested more than {DEPTH} deep")));
        return;
    }
    let map = match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let here = inside(&at.to_string());
                look(item, &here, &here, input, out, depth + 1);
            }
            return;
        }
        Value::Object(map) => map,
        _ => {
            out.push(bad(format!("no function: found {}, expected an object or a list", kind(value))));
            return;
        }
    };
    // MCP answers over JSON-RPC.
    if let Some(result @ Value::Object(inner)) = map.get("result")
        && inner.contains_key("tools")
    {
        let here = inside("result");
        return look(result, &here, &here, input, out, depth + 1);
    }
    let mut lists = LISTS
        .iter()
        .filter_map(|key| map.get_key_value(*key))
        .filter(|(_, held)| held.is_array() || held.is_object())
        .peekable();
    if lists.peek().is_some() {
        for (key, held) in lists {
            let here = inside(key);
            // OpenAI's wrapper around one function is that function.
            let name = if held.is_object() { origin } else { &here };
            look(held, name, &here, input, out, depth + 1);
        }
        return;
    }
    out.push(function(map).map(|fields| document(origin, fields, input)).or_else(bad));
}

fn document(origin: &str, fields: Map<String, Value>, input: &Input) -> Document {
    let api = fields.get("name").and_then(Value::as_str).map(ToOwned::to_owned);
    let facts = Facts { api, provider: input.provider.clone() };
    Document { origin: origin.to_owned(), facts, content: Content::Record { kind: RecordKind::Function, fields } }
}

fn function(map: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let given = PARAMETERS.iter().find_map(|key| map.get(*key));
    // A bare JSON Schema, as pydantic writes a tool, has its name for a title.
    let is_schema = given.is_none() && map.get("properties").is_some_and(Value::is_object);
    let name = text("name").or_else(|| text("title").filter(|_| is_schema));
    let Some(name) = name else {
        let keys: Vec<&str> = map.keys().map(String::as_str).take(8).collect();
        let keys = if keys.is_empty() { "no key".to_owned() } else { prose::cut(&keys.join(", "), NAME) };
        return Err(format!("no function: found {keys}; expected `name` and `parameters`, or a list under `tools`"));
    };
    if given.is_none() && !is_schema && text("description").is_none() {
        return Err(format!("{}: it has neither a description nor parameters", prose::cut(name, NAME)));
    }
    let schema = match given {
        Some(Value::String(json)) => serde_json::from_str(json).map_err(|error| {
            format!("{}: its parameters are a text that is not JSON: {error}", prose::cut(name, NAME))
        })?,
        Some(given) => given.clone(),
        None if is_schema => Value::Object(map.clone()),
        None => Value::Null,
    };
    let schema = whole(schema)
        .ok_or_else(|| format!("{}: its parameters are no JSON Schema: expected an object", prose::cut(name, NAME)))?;
    let mut fields = Map::new();
    fields.insert("name".to_owned(), prose::cut(name, NAME).into());
    if let Some(title) = text("title").filter(|title| *title != name) {
        fields.insert("title".to_owned(), prose::short(title, NAME).into());
    }
    if let Some(description) = text("description") {
        fields.insert("description".to_owned(), prose::short(description, DESCRIPTION).into());
    }
    let rows = outline(&schema, Side::Request);
    fields.insert("signature".to_owned(), signature(name, &rows).into());
    if !rows.is_empty() {
        fields.insert("parameters".to_owned(), rows.into());
    }
    if let Some(returns) = RETURNS.iter().find_map(|key| map.get(*key)).filter(|returns| !example::is_absent(returns)) {
        self::returns(returns, &mut fields);
    }
    if let Some(hints) = map.get("annotations").map(hints).filter(|hints| !hints.is_empty()) {
        fields.insert("hints".to_owned(), hints.into());
    }
    if !schema.is_null() && schema.to_string().len() <= WHOLE {
        fields.insert("schema".to_owned(), schema);
    }
    Ok(fields)
}

/// A JSON Schema of the parameters, whatever form they are in; null where there are none.
fn whole(given: Value) -> Option<Value> {
    const SCHEMA: &[&str] = &["properties", "$ref", "allOf", "anyOf", "oneOf", "additionalProperties", "$schema"];
    match given {
        Value::Null => Some(Value::Null),
        // Some list parameters with their names inside.
        Value::Array(items) => {
            let mut properties = Map::new();
            for item in items {
                let name = item.get("name")?.as_str()?.to_owned();
                properties.insert(name, item);
            }
            Some(flat(properties))
        }
        Value::Object(map) if map.is_empty() => Some(Value::Null),
        Value::Object(map)
            if SCHEMA.iter().any(|key| map.contains_key(*key))
                || map.get("type").is_some_and(|kind| kind.is_string() || kind.is_array()) =>
        {
            Some(Value::Object(map))
        }
        Value::Object(map) if map.values().all(Value::is_object) => Some(flat(map)),
        _ => None,
    }
}

/// Parameters by name, without a schema around them, in the manner of `{"type": "str, optional"}` and `"required": true`.
fn flat(properties: Map<String, Value>) -> Value {
    let mut required = Vec::new();
    let mut all = Map::new();
    for (name, mut property) in properties {
        let kind = property.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, optional) = kind.strip_suffix(", optional").map_or((kind.as_str(), false), |kind| (kind, true));
        let needed = match property.get("required") {
            Some(Value::Bool(needed)) => *needed,
            _ => !optional && property.get("default").is_none(),
        };
        if needed {
            required.push(Value::String(name.clone()));
        }
        if let Some(map) = property.as_object_mut() {
            map.remove("name");
            if map.get("required").is_some_and(Value::is_boolean) {
                map.remove("required");
            }
            if !kind.is_empty() {
                map.insert("type".to_owned(), kind.into());
            }
        }
        all.insert(name, property);
    }
    json!({ "type": "object", "properties": all, "required": required })
}

fn outline(schema: &Value, side: Side) -> Vec<Value> {
    let work = Cell::new(WORK);
    Schemas { root: schema, siblings: true, work: &work }.outline(schema, side)
}

/// `name(first: string, second: integer = 3, third?: boolean)`.
fn signature(name: &str, rows: &[Value]) -> String {
    let part = |row: &Value| {
        let text = |key: &str| row.get(key).and_then(Value::as_str);
        let (name, kind) = (text("name")?, text("type").unwrap_or("any"));
        let default = row.get("default");
        let optional = row.get("required").is_none() && default.is_none();
        let default = default.map(|value| format!(" = {value}")).unwrap_or_default();
        Some(format!("{name}{}: {kind}{default}", if optional { "?" } else { "" }))
    };
    let parts: Vec<String> = rows.iter().filter(|row| row["depth"] == 0).filter_map(part).collect();
    format!("{}({})", prose::cut(name, NAME), parts.join(", "))
}

fn returns(returns: &Value, fields: &mut Map<String, Value>) {
    if let Some(text) = returns.as_str() {
        fields.insert("returns_description".to_owned(), prose::short(text, DESCRIPTION).into());
        return;
    }
    let work = Cell::new(WORK);
    let schemas = Schemas { root: returns, siblings: true, work: &work };
    let mut facts = schemas.facts(returns);
    for (key, name) in [("type", "returns_type"), ("description", "returns_description")] {
        if let Some(value) = facts.remove(key).filter(|value| value != "any") {
            fields.insert(name.to_owned(), value);
        }
    }
    let rows = schemas.outline(returns, Side::Response);
    if !rows.is_empty() {
        fields.insert("returns".to_owned(), rows.into());
    }
}

/// MCP's annotations in words.
fn hints(annotations: &Value) -> Vec<Value> {
    const HINTS: &[(&str, &str, &str)] = &[
        ("readOnlyHint", "changes nothing", "changes its environment"),
        ("destructiveHint", "may destroy what is there", "only adds"),
        ("idempotentHint", "may be repeated with the same arguments without further effect", ""),
        ("openWorldHint", "reaches the outside world", "stays within a closed domain"),
    ];
    let word = |(key, yes, no): &(&str, &'static str, &'static str)| match annotations.get(*key) {
        Some(Value::Bool(true)) => Some(*yes),
        Some(Value::Bool(false)) => Some(*no),
        _ => None,
    };
    HINTS.iter().filter_map(word).filter(|word| !word.is_empty()).map(Value::from).collect()
}

#[cfg(test)]
mod tests;
