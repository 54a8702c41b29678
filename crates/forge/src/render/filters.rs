//! What templates can do with values besides what Jinja has.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Value};

use super::catalogue;

/// Longest list shown on one line, in bytes.
const LINE: usize = 100;

type Json = Serde<serde_json::Value>;

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("line", line);
    environment.add_filter("hang", hang);
    environment.add_filter("sentence", |text: Cow<'_, str>| sentence(&text));
    environment.add_filter("show", show);
    environment.add_filter("pretty", |Serde(value): Json| pretty(&value));
    environment.add_filter("said", said);
    environment.add_filter("bullets", |Serde(value): Json| bullets(&value));
    environment.add_filter("rows", |Serde(value): Json| Value::from(Serde(catalogue::rows(value))));
    environment.add_filter("code", |Serde(value): Json| catalogue::code(&value));
    environment.add_filter("label", label);
    environment.add_filter("fence", fence);
    environment.add_filter("reason", |status: Cow<'_, str>| super::request::reason(&status));
}

/// A text on one line.
pub(super) fn line(text: Cow<'_, str>) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text that ends as a sentence does.
fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let open = |last: char| last.is_alphanumeric() || ")]`'\"}*_>".contains(last);
    if text.chars().last().is_some_and(open) { format!("{text}.") } else { text.to_owned() }
}

/// A text whose lines after the first are indented, to stand under the first in a list.
fn hang(text: Cow<'_, str>, width: usize) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            out.push('\n');
            if !line.is_empty() {
                out.extend(std::iter::repeat_n(' ', width.min(80)));
            }
        }
        out.push_str(line);
    }
    out
}

/// A value as one writes it in prose: a string bare, anything else as JSON.
pub(super) fn show(Serde(value): Json) -> String {
    match value {
        serde_json::Value::String(text) => text,
        value => value.to_string(),
    }
}

/// A value as indented JSON; a string as it is. Short lists of plain values stay on one line.
pub(super) fn pretty(value: &serde_json::Value) -> String {
    if let serde_json::Value::String(text) = value {
        return text.clone();
    }
    let mut out = String::new();
    write_pretty(value, 0, &mut out);
    out
}

fn write_pretty(value: &serde_json::Value, depth: usize, out: &mut String) {
    use serde_json::Value::{Array, Object};
    let plain = |value: &serde_json::Value| !value.is_array() && !value.is_object();
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Array(items) if !items.iter().all(plain) || value.to_string().len() >= LINE => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                indent(out, depth + 1);
                write_pretty(item, depth + 1, out);
            }
            indent(out, depth);
            out.push(']');
        }
        Array(items) => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            *out += &format!("[{}]", items.join(", "));
        }
        Object(map) if !map.is_empty() => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                indent(out, depth + 1);
                *out += &format!("{}: ", serde_json::Value::from(key.as_str()));
                write_pretty(item, depth + 1, out);
            }
            indent(out, depth);
            out.push('}');
        }
        other => *out += &other.to_string(),
    }
}

/// What a row says: its description, and in sentences default, choices, limits and example. With `mark=""` values stand
/// without backticks.
fn said(row: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let mark: Option<Cow<'_, str>> = options.get("mark")?;
    options.assert_all_used()?;
    let mark = mark.as_deref().unwrap_or("`");
    let get = |key: &str| row.get_attr(key).ok().filter(|value| !value.is_undefined());
    let described = get("description");
    let description = described.as_ref().and_then(Value::as_str).unwrap_or_default().trim();
    let quoted = |value: &Value| match value.as_str() {
        Some("…") => "…".to_owned(),
        Some("") => "an empty string".to_owned(),
        _ => format!("{mark}{}{mark}", bare(value)),
    };
    let mut notes = Vec::new();
    if get("deprecated").is_some() {
        notes.push("Deprecated.".to_owned());
    }
    // What the description says already is not said twice.
    let choices: Vec<Value> = get("enum").and_then(|list| list.try_iter().ok()).into_iter().flatten().collect();
    if !choices.iter().all(|choice| description.contains(&bare(choice))) {
        let quoted: Vec<String> = choices.iter().map(quoted).collect();
        notes.push(match quoted.as_slice() {
            [one] => format!("Always {one}."),
            many => format!("One of {}.", many.join(", ")),
        });
    }
    if let Some(default) = get("default").filter(|default| choices.as_slice() != std::slice::from_ref(default))
        && !(description.to_lowercase().contains("default") && description.contains(&bare(&default)))
    {
        notes.push(format!("Default: {}.", quoted(&default)));
    }
    if let Some(limits) = get("limits") {
        let limits = bare(&limits);
        notes.push(format!("Limits: {}.", if mark.is_empty() { limits.replace('`', "") } else { limits }));
    }
    if let Some(example) = get("example") {
        notes.push(format!("Example: {}.", quoted(&example)));
    }
    let notes = notes.join(" ");
    Ok(match (description.is_empty(), notes.is_empty()) {
        (_, true) => description.to_owned(),
        (true, _) => notes,
        // A list or block at the end is not to be run on.
        _ if description.contains('\n') => format!("{description}\n\n{notes}"),
        _ => format!("{} {notes}", sentence(description)),
    })
}

/// A value of a template as one writes it in prose.
fn bare(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// A value as nested Markdown bullets; a bare value as a line.
pub(super) fn bullets(value: &serde_json::Value) -> String {
    let mut out = String::new();
    write_bullets(value, 0, &mut out);
    out
}

fn write_bullets(value: &serde_json::Value, depth: usize, out: &mut String) {
    use serde_json::Value::{Array, Object, String as Text};
    let start = |out: &mut String| {
        out.extend(std::iter::repeat_n("  ", depth));
        out.push_str("- ");
    };
    let plain = |value: &serde_json::Value| match value {
        Array(items) => {
            let flat = items.iter().all(|item| !item.is_array() && !item.is_object());
            let items: Vec<_> = items.iter().map(|item| show(Serde(item.clone()))).collect();
            Some(items.join(", ")).filter(|line| flat && line.len() < LINE && !line.contains('\n'))
        }
        Object(_) => None,
        Text(text) => Some(hang(Cow::Borrowed(text), 2 * depth + 2)),
        value => Some(value.to_string()),
    };
    match value {
        Object(map) => {
            for (key, value) in map {
                start(out);
                match plain(value) {
                    Some(text) => *out += &format!("{}: {text}\n", line(Cow::Borrowed(key))),
                    None => {
                        *out += &format!("{}:\n", line(Cow::Borrowed(key)));
                        write_bullets(value, depth + 1, out);
                    }
                }
            }
        }
        Array(items) => {
            for item in items {
                match plain(item) {
                    Some(text) => {
                        start(out);
                        *out += &format!("{text}\n");
                    }
                    None => write_bullets(item, depth, out),
                }
            }
        }
        value => *out += &format!("{}\n", show(Serde(value.clone()))),
    }
}

/// A field's name as a heading: `env_requirements` as `Env requirements`.
fn label(name: Cow<'_, str>) -> String {
    let words = name.replace(['_', '-'], " ");
    let mut letters = words.trim().chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// A code block of a language, its fence longer than any inside.
fn fence(text: Cow<'_, str>, language: Option<Cow<'_, str>>) -> String {
    let mut longest = 0;
    for line in text.lines() {
        longest = longest.max(line.trim_start().bytes().take_while(|byte| *byte == b'`').count());
    }
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}{}\n{}\n{fence}", language.unwrap_or_default(), text.trim_end())
}
