//! The reference of a kind of settings, made from its schema: docs/recipe.md, docs/forge.md.

use std::fmt::Write as _;

use serde_json::Value;

use super::Settings;
use super::check::{choices, describe, exclusive, expected, or, resolve};

const QUANTITIES: [&str; 7] = ["Count", "Share", "Part", "Interval", "Time", "Rows", "Bytes"];

/// The reference of every key, as Markdown, after an `opening` that ends with the head of a table of quantities.
#[must_use]
pub fn reference<T: Settings>(opening: &str) -> String {
    let schema = super::schema::<T>();
    let mut page = opening.to_owned();
    for name in QUANTITIES.into_iter().filter(|name| schema["$defs"].get(name).is_some()) {
        let says = schema["$defs"][name]["description"].as_str().unwrap_or_default();
        let _ = writeln!(page, "| {} | {says} |", name.to_lowercase());
    }
    let _ = writeln!(page, "\nA `?` after a type says that the key may be left out; what then holds is its default.\n");
    let mut told = Vec::new();
    section(&mut page, &schema, "Top level", &schema, &mut told);
    page
}

/// A section's table, and after it those of the sections in it; `told` are the sections described so far, with their paths.
fn section<'a>(page: &mut String, root: &'a Value, path: &str, schema: &'a Value, told: &mut Vec<(&'a Value, String)>) {
    if let Some((_, before)) = told.iter().find(|(known, _)| std::ptr::eq(*known, schema)) {
        let _ = writeln!(page, "## {path}\n\nThe same keys as `{before}`.\n");
        return;
    }
    told.push((schema, path.to_owned()));
    let says = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let _ = writeln!(page, "## {path}\n\n{says}\n\n| key | type | default | meaning |\n|---|---|---|---|");
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut inner = Vec::new();
    let mut names = Vec::new();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let resolved = resolve(root, property).schema;
        let named = if resolved["items"].is_object() { resolve(root, &resolved["items"]).schema } else { resolved };
        let (kind, below) = kind(root, property);
        let needed = required.contains(&key.as_str());
        let default = match &property["default"] {
            _ if needed => "required".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        let optional = if needed { "" } else { "?" };
        let says = describe(root, property).replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(page, "| `{key}` | {kind}{optional} | {default} | {says} |");
        if let Some((suffix, schema)) = below {
            let path = if path == "Top level" { format!("{key}{suffix}") } else { format!("{path}.{key}{suffix}") };
            inner.push((path, schema));
        }
        if !choices(named).is_empty() {
            names.push((key, named));
        }
    }
    let either: Vec<String> = exclusive(schema).iter().map(|key| format!("`{key}`")).collect();
    if !either.is_empty() {
        let either: Vec<&str> = either.iter().map(String::as_str).collect();
        let _ = writeln!(page, "\nGive either {}.", or(&either));
    }
    for (key, schema) in names {
        let _ = writeln!(page, "\n`{key}` is one of:\n");
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            let (name, says) = (choice["const"].as_str(), choice["description"].as_str());
            let _ = writeln!(page, "- `{}`: {}", name.unwrap_or_default(), says.unwrap_or_default().replace('\n', " "));
        }
    }
    page.push('\n');
    for (path, schema) in inner {
        section(page, root, &path, schema, told);
    }
}

/// A property's type in words, and the section it holds with what is added to its path.
fn kind<'a>(root: &'a Value, property: &'a Value) -> (String, Option<(&'static str, &'a Value)>) {
    let resolved = resolve(root, property);
    let schema = resolved.schema;
    if QUANTITIES.contains(&resolved.name) {
        return (resolved.name.to_lowercase(), None);
    }
    if !choices(schema).is_empty() {
        return ("name".to_owned(), None);
    }
    let types = match &schema["type"] {
        Value::String(one) => one.as_str(),
        Value::Array(several) => several.first().and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    match types {
        "object" if schema["properties"].is_object() => ("section".to_owned(), Some(("", schema))),
        "object" => match kind(root, &schema["additionalProperties"]) {
            (_, Some((_, inner))) => ("sections by name".to_owned(), Some((".NAME", inner))),
            (inner, None) => (format!("{inner} by name"), None),
        },
        "array" => match kind(root, &schema["items"]) {
            (_, Some((_, inner))) => ("list of sections".to_owned(), Some(("[]", inner))),
            (inner, None) => (format!("list of {inner}"), None),
        },
        // In the words of the errors: `a number of 0 or more`.
        _ => (expected(schema).trim_start_matches("a ").to_owned(), None),
    }
}
