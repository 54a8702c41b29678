//! Fields of API records in the forms that catalogues have them in.

use std::borrow::Cow;

use minijinja::Value;
use minijinja::value::Serde;
use serde_json::Map;

use super::filters::{bullets, line, show};

/// The fields that the built-in templates of API records place themselves.
const PLACED: &[&str] = &[
    "name",
    "call",
    "description",
    "functionality",
    "arguments",
    "requirements",
    "example",
    "version",
    "provider",
    "domain",
    "questions",
    "documentation",
    "performance",
];
/// Arguments in whatever form catalogues have them, as rows: a map of names to descriptions or to objects, a list of names
/// or of objects, names with commas between. Anything else gives no rows.
pub(super) fn rows(value: serde_json::Value) -> Vec<serde_json::Value> {
    use serde_json::Value::{Array, Object, String as Text};
    match value {
        Object(map) => map.into_iter().map(|(name, value)| row(name, value)).collect(),
        Array(items) => {
            let row = |item| match item {
                Text(name) if is_name(&name) => Some(row(name, serde_json::Value::Null)),
                Object(mut map) => {
                    let name = map.remove("name")?.as_str()?.to_owned();
                    Some(row(name, Object(map)))
                }
                _ => None,
            };
            items.into_iter().map(row).collect::<Option<_>>().unwrap_or_default()
        }
        Text(text) => {
            let names: Vec<&str> = text.split(',').map(str::trim).collect();
            let all = names.iter().all(|name| is_name(name));
            names.into_iter().filter(|_| all).map(|name| row(name.to_owned(), serde_json::Value::Null)).collect()
        }
        _ => Vec::new(),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() < 60 && text.chars().all(|c| c.is_alphanumeric() || "_-.[]*$".contains(c))
}

/// A row of an argument, whose description may begin with `[REQUIRED]` and a type.
fn row(name: String, value: serde_json::Value) -> serde_json::Value {
    const TYPES: &[&str] = &[
        "string", "integer", "number", "boolean", "object", "array", "list", "dict", "float", "int", "str", "bool",
        "file",
    ];
    let mut row = Map::new();
    let mut description = None;
    match value {
        serde_json::Value::Null => {}
        serde_json::Value::String(text) => description = Some(text),
        serde_json::Value::Object(mut map) => {
            for (key, names) in
                [("type", &["type", "data_type", "dataType"][..]), ("description", &["description", "desc"])]
            {
                let found = names.iter().find_map(|name| {
                    map.get(*name).is_some_and(serde_json::Value::is_string).then(|| map.remove(*name))
                });
                if let Some(serde_json::Value::String(text)) = found.flatten() {
                    if key == "type" {
                        row.insert("type".to_owned(), text.into());
                    } else {
                        description = Some(text);
                    }
                }
            }
            for (key, name) in
                [("required", "required"), ("default", "default"), ("enum", "enum"), ("example", "example")]
            {
                if let Some(value) = map.remove(name)
                    && (key != "required" || value == true)
                    && (key != "enum" || value.is_array())
                {
                    row.insert(key.to_owned(), value);
                }
            }
            map.retain(|key, value| key != "required" && !value.is_null());
            if !map.is_empty() {
                let rest = bullets(&serde_json::Value::Object(map));
                description =
                    Some(format!("{}\n{}", description.unwrap_or_default(), rest.trim_end()).trim_start().to_owned());
            }
        }
        value => description = Some(value.to_string()),
    }
    if let Some(mut text) = description.map(|text| text.trim().to_owned()) {
        if let Some(rest) = text.strip_prefix("[REQUIRED]") {
            row.insert("required".to_owned(), true.into());
            text = rest.trim_start().to_owned();
        }
        // `string: what it is`, `string (what it is)` and `string`.
        let end = text.find([':', ' ']).unwrap_or(text.len());
        if TYPES.contains(&&text[..end]) {
            let rest = text[end..].trim_start();
            let inside = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            if let Some(rest) = rest.strip_prefix(':').or(inside).or(Some(rest).filter(|rest| rest.is_empty())) {
                row.insert("type".to_owned(), text[..end].into());
                text = rest.trim_start().to_owned();
            }
        }
        for (word, required) in [("Required. ", true), ("Optional. ", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                if required {
                    row.insert("required".to_owned(), true.into());
                }
                text = rest.to_owned();
            }
        }
        if !text.is_empty() {
            row.insert("description".to_owned(), text.into());
        }
    }
    row.insert("name".to_owned(), name.into());
    row.insert("depth".to_owned(), 0.into());
    serde_json::Value::Object(row)
}

/// Code in whatever form catalogues have it, as lines: a list of lines, parts by name, and lines after the first that all
/// begin with one stray space.
pub(super) fn code(value: &serde_json::Value) -> String {
    let text = match value {
        serde_json::Value::String(text) => text.trim().to_owned(),
        serde_json::Value::Array(lines) => {
            lines.iter().map(|line| show(Serde(line.clone()))).collect::<Vec<_>>().join("\n")
        }
        serde_json::Value::Object(parts) => {
            let part = |(name, part): (&String, &serde_json::Value)| {
                format!("# {}\n{}", line(Cow::Borrowed(name)), code(part))
            };
            parts.iter().map(part).collect::<Vec<_>>().join("\n\n")
        }
        value => value.to_string(),
    };
    // Some catalogues join lines by " \n ".
    let mut indents =
        text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    if text.contains("\n ") && indents.all(|indent| indent % 2 == 1) {
        return text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    }
    text
}

/// The fields of an API record that no template places by name.
pub(super) fn others(fields: &Map<String, serde_json::Value>) -> Value {
    let others = fields.iter().filter(|(name, _)| !PLACED.contains(&name.as_str()));
    Value::from_pairs(others.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))))
}
