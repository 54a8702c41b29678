//! The rows of an outline.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::words::INLINE;
use super::{CHAIN, Schemas, Side, View};
use crate::readers::prose;

/// Most rows of an outline.
const ROWS: usize = 80;
/// Deepest level of an outline, from 0.
const DEPTH: usize = 4;

impl<'a> Schemas<'a> {
    /// The rows of a schema's parts, outermost first; none for a bare value. There are 80 at most: of a larger schema the
    /// deepest levels are left out first.
    pub(in crate::readers) fn outline(&self, schema: &'a Value, side: Side) -> Vec<Value> {
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
        if !self.schemas.spend(1) {
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
