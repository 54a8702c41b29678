//! JSON Schemas as outlines that a person can read: a row for each property, nested by depth.
//!
//! References are followed inside the document they are in, `allOf` is folded into what it extends, and what refers to
//! itself is named where it comes again. An outline has [`ROWS`] rows at most: of a larger schema the deepest levels are
//! left out first.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::prose;

/// Most rows of an outline.
const ROWS: usize = 80;
/// Deepest level of an outline, from 0.
const DEPTH: usize = 4;
/// References followed one after the other.
const CHAIN: usize = 16;
/// Schemas that one schema is made of, by reference and `allOf`.
const LAYERS: usize = 48;
/// Values listed of an enumeration.
const CHOICES: usize = 40;
/// Longest description of a row, in bytes.
const DESCRIPTION: usize = 1_200;
/// Longest name of a format, in bytes.
const FORMAT: usize = 40;
/// Longest text of a default or example in a row, in bytes.
const INLINE: usize = 200;

/// The document that references are looked up in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schemas<'a> {
    /// Its root.
    pub(super) root: &'a Value,
    /// Whether keys beside a `$ref` count, as they do since OpenAPI 3.1.
    pub(super) siblings: bool,
    /// Steps left to whoever reads the document: what a small file may ask for has no end otherwise.
    pub(super) work: &'a Cell<u64>,
}

/// Where a schema is used: what its other side only reads or only writes is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Sent: nothing that is `readOnly`.
    Request,
    /// Received: nothing that is `writeOnly`.
    Response,
}

/// A schema, as the objects it is made of; a key counts in the first that has it.
struct View<'a> {
    layers: Vec<&'a Map<String, Value>>,
    /// The reference it was found by, last of its chain.
    pointer: Option<&'a str>,
    /// Whether the reference leads nowhere in this document.
    lost: bool,
}

impl<'a> View<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.layers.iter().find_map(|layer| layer.get(key))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    /// By the last name of its reference.
    fn name(&self) -> Option<&'a str> {
        self.pointer.map(|pointer| match pointer.split_once('#') {
            Some((file, "")) => file,
            _ => pointer.rsplit('/').next().unwrap_or(pointer),
        })
    }

    fn properties(&self) -> Vec<(&'a str, &'a Value)> {
        let mut last = HashMap::new();
        let mut order = Vec::new();
        // The base comes first, and the outermost layer that has a property is the one that counts.
        for layer in self.layers.iter().rev() {
            for (name, value) in layer.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if last.insert(name.as_str(), value).is_none() {
                    order.push(name.as_str());
                }
            }
        }
        order.into_iter().map(|name| (name, last[name])).collect()
    }

    /// How many properties and alternatives it names.
    fn width(&self) -> usize {
        let count = |value: &Value| value.as_object().map_or(0, Map::len) + value.as_array().map_or(0, Vec::len);
        let keys = ["properties", "required", "oneOf", "anyOf"];
        self.layers.iter().flat_map(|layer| keys.iter().filter_map(|key| layer.get(*key))).map(count).sum()
    }

    fn required(&self) -> HashSet<&'a str> {
        let lists = self.layers.iter().filter_map(|layer| layer.get("required").and_then(Value::as_array));
        lists.flatten().filter_map(Value::as_str).collect()
    }

    /// The alternatives it names, `null` aside.
    fn branches(&self) -> Vec<&'a Value> {
        let lists = ["oneOf", "anyOf"].iter().filter_map(|key| self.get(key).and_then(Value::as_array));
        lists.flatten().filter(|branch| !is_null(branch)).collect()
    }

    fn nullable(&self) -> bool {
        let named = |key| self.get(key).and_then(Value::as_array).is_some_and(|list| list.iter().any(is_null));
        self.get("nullable") == Some(&Value::Bool(true)) || named("oneOf") || named("anyOf")
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null") || schema.get("const") == Some(&Value::Null)
}

impl<'a> Schemas<'a> {
    /// What a local reference points at.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        let pointer = reference.strip_prefix('#')?;
        self.root.pointer(pointer).or_else(|| self.root.pointer(&percent_decoded(pointer)))
    }

    /// Follows the references of anything but a schema.
    ///
    /// # Errors
    /// In words: the reference leads nowhere, out of the document, or in a circle.
    pub(super) fn follow(&self, value: &'a Value) -> Result<&'a Value, String> {
        let mut at = value;
        for _ in 0..CHAIN {
            let Some(reference) = at.get("$ref").and_then(Value::as_str) else { return Ok(at) };
            at = match self.target(reference) {
                Some(target) => target,
                None if reference.starts_with('#') => {
                    return Err(format!("$ref {reference} leads nowhere in this file"));
                }
                None => return Err(format!("$ref {reference} leads out of this file: bundle the files into one")),
            };
        }
        Err(format!("$ref {} leads in a circle", value.get("$ref").and_then(Value::as_str).unwrap_or_default()))
    }

    /// Takes steps from what is left; false where nothing is.
    fn spend(&self, steps: usize) -> bool {
        let left = self.work.get().saturating_sub(steps as u64);
        self.work.set(left);
        left > 0
    }

    fn view(&self, schema: &'a Value) -> View<'a> {
        let mut view = View { layers: Vec::new(), pointer: None, lost: false };
        if self.spend(1) {
            self.layer(schema, &mut view, true, 0);
        }
        self.spend(view.layers.len());
        view
    }

    fn layer(&self, schema: &'a Value, view: &mut View<'a>, outermost: bool, depth: usize) {
        let mut at = schema;
        for _ in 0..CHAIN {
            let Some(map) = at.as_object() else { return };
            if view.layers.len() >= LAYERS || view.layers.iter().any(|layer| std::ptr::eq(*layer, map)) {
                return;
            }
            let reference = map.get("$ref").and_then(Value::as_str);
            if reference.is_none() || self.siblings {
                view.layers.push(map);
            }
            let Some(reference) = reference else {
                let parts = map.get("allOf").and_then(Value::as_array).into_iter().flatten();
                // A wrapper around one reference is that reference.
                let alone = outermost
                    && view.pointer.is_none()
                    && map.get("allOf").and_then(Value::as_array).is_some_and(|all| all.len() == 1);
                if depth < CHAIN {
                    parts.for_each(|part| self.layer(part, view, alone, depth + 1));
                }
                return;
            };
            if outermost {
                view.pointer = Some(reference);
            }
            match self.target(reference) {
                Some(target) => at = target,
                None => {
                    view.lost |= outermost;
                    return;
                }
            }
        }
    }

    /// A schema's type in words: `string`, `array of integers`, `Pet object or null`.
    pub(super) fn type_of(&self, schema: &'a Value) -> String {
        self.words(&self.view(schema), 0)
    }

    fn words(&self, view: &View<'a>, depth: usize) -> String {
        let mut words = Vec::new();
        let branches = view.branches();
        if view.lost {
            words.push(view.name().unwrap_or("any").to_owned());
        } else if depth > 2 {
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
    pub(super) fn facts(&self, schema: &'a Value) -> Map<String, Value> {
        self.row(&self.view(schema))
    }

    fn row(&self, view: &View<'a>) -> Map<String, Value> {
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

    /// The rows of a schema's parts, outermost first; none for a bare value.
    pub(super) fn outline(&self, schema: &'a Value, side: Side) -> Vec<Value> {
        for depth in (0..=DEPTH).rev() {
            let mut outline =
                Outline { schemas: *self, side, deepest: depth, rows: Vec::new(), seen: HashSet::new(), full: false };
            outline.parts(&self.view(schema), 0, 0);
            if !outline.full || depth == 0 {
                if outline.full {
                    outline.rows.push(json!({ "depth": 0, "more": true }));
                }
                return outline.rows;
            }
        }
        Vec::new()
    }
}

/// An outline being made.
struct Outline<'a> {
    schemas: Schemas<'a>,
    side: Side,
    deepest: usize,
    rows: Vec<Value>,
    /// References whose parts are in it already.
    seen: HashSet<&'a str>,
    full: bool,
}

impl<'a> Outline<'a> {
    /// The rows of what a schema holds. `hops` counts what was gone through without going deeper: items of lists, values
    /// of maps, the one of one alternative.
    fn parts(&mut self, view: &View<'a>, depth: usize, hops: usize) {
        if depth > self.deepest || hops > CHAIN || self.full {
            return;
        }
        if let Some(pointer) = view.pointer
            && !self.seen.insert(pointer)
        {
            return;
        }
        if !self.schemas.spend(view.width()) {
            self.full = true;
            return;
        }
        let properties = view.properties();
        let required = view.required();
        for (name, schema) in &properties {
            let part = self.schemas.view(schema);
            let hidden = match self.side {
                Side::Request => "readOnly",
                Side::Response => "writeOnly",
            };
            if part.get(hidden) == Some(&Value::Bool(true)) {
                continue;
            }
            let mut row = self.schemas.row(&part);
            row.insert("name".to_owned(), prose::cut(name, INLINE).into());
            if required.contains(name) {
                row.insert("required".to_owned(), true.into());
            }
            if !self.push(row, depth) {
                return;
            }
            self.parts(&part, depth + 1, 0);
        }
        if let Some(items) = view.get("items") {
            return self.parts(&self.schemas.view(items), depth, hops + 1);
        }
        if let (true, Some(values @ Value::Object(_))) = (properties.is_empty(), view.get("additionalProperties")) {
            self.parts(&self.schemas.view(values), depth, hops + 1);
        }
        let branches: Vec<View<'a>> = view.branches().into_iter().map(|branch| self.schemas.view(branch)).collect();
        if let [branch] = branches.as_slice() {
            return self.parts(branch, depth, hops + 1);
        }
        for branch in &branches {
            let itself = branch.pointer.is_some() && branch.pointer == view.pointer;
            if itself || !self.structured(branch) {
                continue;
            }
            let mut row = self.schemas.row(branch);
            row.insert("variant".to_owned(), true.into());
            if !self.push(row, depth) {
                return;
            }
            self.parts(branch, depth + 1, 0);
        }
    }

    fn structured(&self, view: &View<'a>) -> bool {
        ["properties", "oneOf", "anyOf"].iter().any(|key| view.get(key).is_some())
            || view.get("items").is_some_and(|items| self.schemas.view(items).get("properties").is_some())
    }

    /// False where the outline is full.
    fn push(&mut self, mut row: Map<String, Value>, depth: usize) -> bool {
        if self.rows.len() == ROWS {
            self.full = true;
            return false;
        }
        row.insert("depth".to_owned(), depth.into());
        self.rows.push(Value::Object(row));
        true
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

/// `%7B` and the like in a reference's pointer, which is a URI fragment.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
