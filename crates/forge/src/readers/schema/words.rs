//! What a row says of a schema: its type in words, choices, limits.

use serde_json::{Map, Value};

use super::{Schemas, View};
use crate::readers::prose;

/// Values listed of an enumeration.
const CHOICES: usize = 40;
/// Longest description of a row, in bytes.
const DESCRIPTION: usize = 1_200;
/// Longest name of a format, in bytes.
const FORMAT: usize = 40;
/// Longest text of a default or example in a row, in bytes.
pub(super) const INLINE: usize = 200;

impl<'a> Schemas<'a> {
    /// A schema's type in words: `string`, `array of integers`, `Pet object or null`.
    pub(in crate::readers) fn type_of(&self, schema: &'a Value) -> String {
        self.words(&self.view(schema), 0)
    }

    fn words(&self, view: &View<'a>, depth: usize) -> String {
        let mut words = Vec::new();
        let branches = view.branches();
        if view.lost || depth > 2 {
            words.push(view.name().unwrap_or("any").to_owned());
        } else if !branches.is_empty() && view.properties().is_empty() {
            for branch in branches.iter().take(8) {
                let word = self.words(&self.view(branch), depth + 1);
                if !words.contains(&word) {
                    words.push(word);
                }
            }
            if branches.len() > 8 {
                words.push("others".to_owned());
            }
        } else {
            let types: Vec<&str> = match view.get("type") {
                Some(Value::String(name)) => vec![name],
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).take(8).collect(),
                _ => Vec::new(),
            };
            words.extend(types.iter().filter(|name| **name != "null").map(|name| self.word(name, view, depth)));
            if words.is_empty() {
                words.push(self.word(implied(view), view, depth));
            }
            if types.contains(&"null") {
                words.push("null".to_owned());
            }
        }
        // What may be anything may be null too.
        if words == ["any"] {
            return words.remove(0);
        }
        if view.nullable() && !words.iter().any(|word| word == "null") {
            words.push("null".to_owned());
        }
        // Of several objects the names alone tell which.
        if words.len() > 1 {
            words.iter_mut().for_each(|word| *word = word.strip_suffix(" object").unwrap_or(word).to_owned());
        }
        listed(&words)
    }

    fn word(&self, name: &str, view: &View<'a>, depth: usize) -> String {
        match canonical(name) {
            "array" => match view.get("items") {
                Some(items) if items.as_object().is_some_and(|map| !map.is_empty()) => {
                    format!("array of {}", plural(&self.words(&self.view(items), depth + 1)))
                }
                _ => "array".to_owned(),
            },
            "object" => match (
                view.name().or_else(|| view.text("title").filter(|title| !title.contains(' '))),
                view.get("additionalProperties"),
            ) {
                (None, Some(values))
                    if values.as_object().is_some_and(|map| !map.is_empty()) && view.properties().is_empty() =>
                {
                    format!("map of strings to {}", plural(&self.words(&self.view(values), depth + 1)))
                }
                (Some(name), _) => format!("{} object", prose::cut(name, 80)),
                (None, _) => "object".to_owned(),
            },
            name => name.to_owned(),
        }
    }

    /// What there is to say of a value in a row of its own: type, description, default, choices, limits, example.
    pub(in crate::readers) fn facts(&self, schema: &'a Value) -> Map<String, Value> {
        self.row(&self.view(schema))
    }

    pub(super) fn row(&self, view: &View<'a>) -> Map<String, Value> {
        let mut row = Map::new();
        let kind = self.words(view, 0);
        if let Some(format) =
            view.text("format").filter(|format| !kind.starts_with(format) && view.get("items").is_none())
        {
            row.insert("format".to_owned(), prose::cut(format, FORMAT).into());
        }
        row.insert("type".to_owned(), kind.into());
        if let Some(text) = view.text("description") {
            row.insert("description".to_owned(), prose::short(text, DESCRIPTION).into());
        }
        if let Some(value) = view.get("default").filter(|value| !value.is_null()).and_then(inline) {
            row.insert("default".to_owned(), value);
        }
        let items = view.get("items").map(|items| self.view(items));
        let choices = [Some(view), items.as_ref()].into_iter().flatten().find_map(choices);
        if let Some(choices) = choices {
            row.insert("enum".to_owned(), choices);
        }
        let example = view.get("example").or_else(|| view.get("examples").and_then(|list| list.get(0)));
        if let Some(value) = example.filter(|value| !value.is_null() && !value.is_object()).and_then(inline) {
            row.insert("example".to_owned(), value);
        }
        if let Some(limits) = limits(view) {
            row.insert("limits".to_owned(), limits.into());
        }
        if view.get("deprecated") == Some(&Value::Bool(true)) {
            row.insert("deprecated".to_owned(), true.into());
        }
        row
    }
}

/// What a schema without a type is.
fn implied(view: &View<'_>) -> &'static str {
    let first = view.get("const").or_else(|| view.get("enum").and_then(|list| list.get(0)));
    match first {
        _ if view.get("properties").is_some() || view.get("additionalProperties").is_some() => "object",
        _ if view.get("items").is_some() => "array",
        Some(Value::String(_)) => "string",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(number)) => {
            if number.is_f64() {
                "number"
            } else {
                "integer"
            }
        }
        _ => "any",
    }
}

/// JSON Schema's name of a type that others write otherwise (Python's names, mostly).
fn canonical(name: &str) -> &str {
    match name {
        "dict" | "Dict" | "map" | "struct" => "object",
        "list" | "List" | "tuple" | "set" => "array",
        "str" | "String" => "string",
        "int" | "Integer" => "integer",
        "float" | "double" => "number",
        "bool" | "Boolean" => "boolean",
        "" => "any",
        name => name,
    }
}

fn plural(words: &str) -> String {
    match words {
        "any" | "null" => "any values".to_owned(),
        _ if words.contains(' ') && !words.ends_with(" object") => words.to_owned(),
        _ => format!("{words}s"),
    }
}

/// `a`, `a or b`, `a, b or c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => "any".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

fn choices(view: &View<'_>) -> Option<Value> {
    let mut found: Vec<Value> = match (view.get("enum"), view.get("const")) {
        (Some(Value::Array(list)), _) => {
            list.iter().filter(|value| !value.is_null()).filter_map(inline).take(CHOICES + 1).collect()
        }
        (_, Some(value)) => inline(value).into_iter().collect(),
        // Names that anyone may add to are published as an enumeration beside a free string.
        _ => {
            let lists = view.branches().into_iter().filter_map(|branch| branch.get("enum").and_then(Value::as_array));
            lists.flatten().filter(|value| !value.is_null()).filter_map(inline).take(CHOICES + 1).collect()
        }
    };
    let more = found.len() > CHOICES;
    found.truncate(CHOICES);
    if more {
        found.push("…".into());
    }
    (!found.is_empty()).then_some(Value::Array(found))
}

/// A value short enough for a line.
fn inline(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => (text.len() <= INLINE && !text.contains('\n')).then(|| value.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.clone()),
        Value::Array(_) | Value::Object(_) => (value.to_string().len() <= INLINE).then(|| value.clone()),
    }
}

fn limits(view: &View<'_>) -> Option<String> {
    let number = |key: &str| view.get(key).filter(|value| value.is_number()).map(ToString::to_string);
    let range = |least: Option<String>, most: Option<String>, unit: &str| match (least, most) {
        (Some(least), Some(most)) if least == most => Some(format!("exactly {least}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) if least != "0" || unit.is_empty() => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        _ => None,
    };
    let mut found: Vec<String> = [
        range(number("minLength"), number("maxLength"), " characters"),
        range(number("minItems"), number("maxItems"), " items"),
    ]
    .into_iter()
    .flatten()
    .collect();
    // Before 3.1 `exclusiveMinimum` is a switch beside `minimum`, since then a number.
    let strict = |key: &str| view.get(key) == Some(&Value::Bool(true));
    let (above, below) = (number("exclusiveMinimum"), number("exclusiveMaximum"));
    let (least, most) = (number("minimum"), number("maximum"));
    let (above, least) = if strict("exclusiveMinimum") { (least, None) } else { (above, least) };
    let (below, most) = if strict("exclusiveMaximum") { (most, None) } else { (below, most) };
    found.extend(above.map(|bound| format!("above {bound}")));
    found.extend(below.map(|bound| format!("below {bound}")));
    found.extend(range(least, most, ""));
    found.extend(number("multipleOf").map(|step| format!("a multiple of {step}")));
    found.extend(
        view.text("pattern").filter(|text| text.len() <= INLINE).map(|pattern| format!("matching `{pattern}`")),
    );
    (!found.is_empty()).then(|| found.join(", "))
}
