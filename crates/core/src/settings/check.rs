//! The tree against the recipe's own types, by the JSON Schema that is derived from them: every key that does not exist, is
//! missing, or holds what it must not, all of them in one go.

use std::collections::HashSet;
use std::str::FromStr;

use serde_json::{Map, Number, Value as Json};

use super::path;
use super::problem::{Place, Positions, Problem, nearest};
use super::quantity::{Bytes, Count, Interval, Part, Rows, Share, Time};
use super::tree::{Node, Value};

/// Checks `root` against `schema` and notes where each key stands. What it returns holds all that was sound; with no problem
/// it is what the recipe's types deserialize from.
pub(super) fn check(root: &Node, schema: &Json, positions: &mut Positions) -> (Json, Vec<Problem>) {
    let mut walk = Walk { schema, positions, problems: Vec::new() };
    walk.positions.note("", root.place);
    let value = walk.value(root, schema, "", root.place).unwrap_or(Json::Null);
    (value, walk.problems)
}

/// A schema without its reference: the schema, the name of the type where it had one, whether it may be left empty.
pub(super) struct Resolved<'a> {
    pub(super) schema: &'a Json,
    pub(super) name: &'a str,
    nullable: bool,
}

struct Walk<'a> {
    schema: &'a Json,
    positions: &'a mut Positions,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    /// Checks one node; `section` is where its key stands.
    fn value(&mut self, node: &Node, schema: &'a Json, key: &str, section: Place) -> Option<Json> {
        let Resolved { schema, name, nullable } = resolve(self.schema, schema);
        let place = if matches!(node.value, Value::Scalar { .. }) { node.place } else { section };
        self.positions.note(key, place);
        if node.is_null() && nullable {
            return Some(Json::Null);
        }
        if let Some(wrong) = quantity(name, node) {
            return match wrong {
                Ok(text) => Some(Json::String(text)),
                Err(message) => self.wrong(place, key, message),
            };
        }
        let choices = choices(schema);
        match &node.value {
            Value::Scalar { .. } if node.is_null() => {}
            Value::Scalar { text, .. } if !choices.is_empty() => {
                if choices.contains(&text.as_str()) {
                    return Some(Json::String(text.clone()));
                }
                let all = or(&choices);
                let message = match nearest(text, choices.iter().copied()) {
                    Some(near) => format!("is `{text}`; did you mean {near}? It is one of {all}"),
                    None => format!("is `{text}`: expected {all}"),
                };
                return self.wrong(place, key, message);
            }
            Value::Scalar { text, .. } if schema["format"] == "path" => {
                return match path::expand(text, |name| std::env::var(name).ok()) {
                    Ok(path) => Some(Json::String(path)),
                    Err(message) => self.wrong(place, key, message),
                };
            }
            Value::Scalar { text, plain } => {
                if let Some(value) = scalar(text, *plain, schema) {
                    return Some(value);
                }
            }
            Value::List(items) if is(schema, "array") => {
                let kept = items.iter().enumerate().map(|(at, item)| {
                    let key = format!("{key}.{at}");
                    self.value(item, &schema["items"], &key, item.place).unwrap_or(Json::Null)
                });
                return Some(Json::Array(kept.collect()));
            }
            Value::Map(_) if is(schema, "object") => return Some(self.section(node, schema, key, place)),
            _ => {}
        }
        self.wrong(place, key, mistaken(node, schema))
    }

    fn section(&mut self, node: &Node, schema: &'a Json, key: &str, place: Place) -> Json {
        let Value::Map(entries) = &node.value else { return Json::Null };
        let inside = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
        let mut kept = Map::new();
        let Some(properties) = schema["properties"].as_object() else {
            for entry in entries {
                let value = self.value(&entry.node, &schema["additionalProperties"], &inside(&entry.key), entry.place);
                kept.extend(value.map(|value| (entry.key.clone(), value)));
            }
            return Json::Object(kept);
        };
        // A misspelled key is not also said to be missing.
        let mut meant = Vec::new();
        let written: HashSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        for entry in entries {
            if let Some(property) = properties.get(&entry.key) {
                let value = self.value(&entry.node, property, &inside(&entry.key), entry.place);
                kept.extend(value.map(|value| (entry.key.clone(), value)));
                continue;
            }
            let all: Vec<&str> = properties.keys().map(String::as_str).collect();
            let near = nearest(&entry.key, all.iter().copied());
            meant.extend(near);
            let message = match (near, self.elsewhere(&entry.key)) {
                (Some(near), _) if written.contains(near) => {
                    format!("unknown key; did you mean {near}, which is there already?")
                }
                (Some(near), _) => format!("unknown key; did you mean {near}?"),
                (None, Some(section)) => format!("unknown key here; it belongs to {section}"),
                (None, None) => format!("unknown key; expected {}", or(&all)),
            };
            let _: Option<Json> = self.wrong(entry.place, &inside(&entry.key), message);
        }
        let given = |name: &str| node.get(name).is_some_and(|node| !node.is_null()) || meant.contains(&name);
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        for name in required.filter(|name| node.get(name).is_none() && !meant.contains(name)) {
            let says = in_a_sentence(describe(self.schema, &properties[name]));
            let _: Option<Json> = self.wrong(place, &inside(name), format!("missing: {says}"));
        }
        let either = exclusive(schema);
        let held: Vec<_> = either.iter().copied().filter(|name| given(name)).collect();
        if !either.is_empty() && held.is_empty() {
            let _: Option<Json> = self.wrong(place, key, format!("give {}", or(&either)));
        } else if held.len() > 1 {
            let said = held.join(" and ");
            let _: Option<Json> = self.wrong(place, key, format!("{said} exclude each other: keep one of them"));
        }
        Json::Object(kept)
    }

    /// The section of the recipe that has a key of this name.
    fn elsewhere(&self, name: &str) -> Option<&'a str> {
        let sections = self.schema["properties"].as_object()?;
        let has = |schema: &Json| resolve(self.schema, schema).schema["properties"].get(name).is_some();
        sections.iter().find(|(_, schema)| has(schema)).map(|(section, _)| section.as_str())
    }

    fn wrong<T>(&mut self, place: Place, key: &str, message: String) -> Option<T> {
        self.problems.push(self.positions.problem_at(place, key, message));
        None
    }
}

pub(super) fn resolve<'a>(root: &'a Json, schema: &'a Json) -> Resolved<'a> {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return Resolved { schema: &root["$defs"][name], name, nullable: false };
    }
    if let Some([first, _]) = schema["anyOf"].as_array().map(Vec::as_slice) {
        return Resolved { nullable: true, ..resolve(root, first) };
    }
    Resolved { schema, name: "", nullable: is(schema, "null") }
}

/// A description as the end of a sentence: `Tokens a row.` is `tokens a row`, `AdamW.` stays `AdamW`.
fn in_a_sentence(description: &str) -> String {
    let plain = description.trim_end_matches('.');
    let mut letters = plain.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            format!("{}{}", first.to_lowercase(), &plain[first.len_utf8()..])
        }
        _ => plain.to_owned(),
    }
}

/// What a property is.
pub(super) fn describe<'a>(root: &'a Json, property: &'a Json) -> &'a str {
    let own = property["description"].as_str();
    own.or_else(|| resolve(root, property).schema["description"].as_str()).unwrap_or_default()
}

/// Whether a schema admits a type.
fn is(schema: &Json, kind: &str) -> bool {
    match &schema["type"] {
        Json::String(one) => one == kind,
        Json::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    }
}

/// The names an enumeration admits; empty where it is none.
pub(super) fn choices(schema: &Json) -> Vec<&str> {
    let one = |choice: &'_ Json| choice["const"].as_str().is_some();
    match schema["oneOf"].as_array() {
        Some(all) if all.iter().all(one) => all.iter().filter_map(|choice| choice["const"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// The keys of which a section has exactly one.
pub(super) fn exclusive(schema: &Json) -> Vec<&str> {
    let all = schema["oneOf"].as_array().into_iter().flatten();
    all.filter_map(|choice| choice["required"][0].as_str()).collect()
}

/// The text of a quantity, or what is wrong with it; `None` where the type is no quantity.
fn quantity(name: &str, node: &Node) -> Option<Result<String, String>> {
    fn read<T: FromStr<Err = String>>(text: &str) -> Result<(), String> {
        text.parse::<T>().map(|_| ())
    }
    let read = match name {
        "Count" => read::<Count>,
        "Share" => read::<Share>,
        "Part" => read::<Part>,
        "Interval" => read::<Interval>,
        "Time" => read::<Time>,
        "Rows" => read::<Rows>,
        "Bytes" => read::<Bytes>,
        _ => return None,
    };
    Some(match &node.value {
        Value::Scalar { text, .. } => read(text.trim()).map(|()| text.trim().to_owned()),
        // What a quantity's own message says after the value it could not read.
        _ => read("").map(|()| String::new()).map_err(|message| message.replacen("``", &node.describe(), 1)),
    })
}

/// A number, a truth value or text, where it is what the schema asks for.
fn scalar(text: &str, plain: bool, schema: &Json) -> Option<Json> {
    if is(schema, "string") {
        return Some(Json::String(text.to_owned()));
    }
    if !plain {
        return None;
    }
    if is(schema, "boolean") {
        return text.parse().ok().map(Json::Bool);
    }
    let bound = |name: &str| schema[name].as_f64();
    let within = |number: f64| {
        bound("minimum").is_none_or(|least| number >= least)
            && bound("maximum").is_none_or(|most| number <= most)
            && bound("exclusiveMinimum").is_none_or(|below| number > below)
            && bound("exclusiveMaximum").is_none_or(|above| number < above)
    };
    if is(schema, "integer") {
        let number: u64 = text.replace('_', "").parse().ok()?;
        let fits = schema["format"] != "uint32" || u32::try_from(number).is_ok();
        return (fits && within(number as f64)).then(|| Json::from(number));
    }
    if is(schema, "number") {
        let number: f64 = text.parse().ok()?;
        return Number::from_f64(number).filter(|_| within(number)).map(Json::Number);
    }
    None
}

/// Describes a value that is not what a schema asks for.
fn mistaken(node: &Node, schema: &Json) -> String {
    if let Value::Scalar { text, plain } = &node.value {
        if !plain && scalar(text, true, schema).is_some() {
            return format!("is text, as it is in quotes: write {text} without them");
        }
        let meant = match text.to_lowercase().as_str() {
            "true" | "yes" | "on" => Some("true"),
            "false" | "no" | "off" => Some("false"),
            _ => None,
        };
        if let Some(meant) = meant.filter(|_| is(schema, "boolean")) {
            return format!("is `{text}`: write {meant}");
        }
    }
    format!("is {}: expected {}", node.describe(), expected(schema))
}

/// What a schema asks for, in words.
pub(super) fn expected(schema: &Json) -> String {
    let names = choices(schema);
    if !names.is_empty() {
        return or(&names);
    }
    if schema["format"] == "path" {
        return "a path".to_owned();
    }
    for (kind, words) in
        [("object", "a section of keys"), ("array", "a list"), ("boolean", "true or false"), ("string", "text")]
    {
        if is(schema, kind) {
            return words.to_owned();
        }
    }
    let what = if is(schema, "integer") { "a whole number" } else { "a number" };
    let bound = |name: &str| schema[name].as_f64();
    let low = match (bound("minimum"), bound("exclusiveMinimum")) {
        (_, Some(low)) => format!(" above {low}"),
        (Some(low), None) => format!(" of {low} or more"),
        (None, None) => String::new(),
    };
    let high = match (bound("maximum"), bound("exclusiveMaximum")) {
        (_, Some(high)) => format!(", below {high}"),
        (Some(high), None) => format!(", at most {high}"),
        (None, None) => String::new(),
    };
    format!("{what}{low}{high}")
}

/// `a, b or c`
pub fn or(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
