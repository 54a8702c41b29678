//! JSON Schemas as outlines that a person can read: a row for each property, nested by depth.
//!
//! References are followed inside the document they are in, `allOf` is folded into what it extends, and what refers to
//! itself is named where it comes again.

mod outline;
mod words;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// References followed one after the other.
const CHAIN: usize = 16;
/// Schemas that one schema is made of, by reference and `allOf`.
const LAYERS: usize = 48;

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

    /// How many properties, alternatives and choices it names.
    fn width(&self) -> usize {
        let count = |value: &Value| value.as_object().map_or(0, Map::len) + value.as_array().map_or(0, Vec::len);
        let keys = ["properties", "required", "oneOf", "anyOf", "enum"];
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
        // What follows goes through its lists a few times.
        self.spend(view.layers.len() + view.width());
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
            self.spend(reference.len() / 16);
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
