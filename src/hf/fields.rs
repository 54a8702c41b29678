//! Reads the keys of a JSON object one by one, remembers which were read, and collects every complaint.

use serde_json::{Map, Value};

/// A JSON object being read; what is never read can be listed at the end.
pub(super) struct Fields {
    object: Map<String, Value>,
    /// Prepended to keys in complaints, such as `rope_parameters.`.
    prefix: &'static str,
    /// One line a complaint.
    pub(super) problems: Vec<String>,
}

impl Fields {
    pub(super) fn new(object: Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, prefix, problems: Vec::new() }
    }

    /// Records a complaint about a key.
    pub(super) fn complain(&mut self, key: &str, text: impl std::fmt::Display) {
        self.problems.push(format!("`{}{key}` {text}", self.prefix));
    }

    /// Takes a key out; `null` counts as absent.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.object.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there, be it `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    /// Whether a key is there with a value other than `null`.
    pub(super) fn has_value(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The value of a key, unless it is `null`.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A size within `1..=most`, or the default where the key is absent or `null`.
    pub(super) fn size_or(&mut self, key: &str, default: usize, most: usize) -> usize {
        let Some(value) = self.take(key) else { return default };
        match value.as_u64().and_then(|size| usize::try_from(size).ok()) {
            Some(size) if (1..=most).contains(&size) => size,
            _ => {
                self.complain(key, format_args!("is {value}: expected a whole number from 1 to {most}"));
                default
            }
        }
    }

    /// A size that must be given.
    pub(super) fn size(&mut self, key: &str, most: usize) -> usize {
        if !self.has_value(key) {
            self.object.shift_remove(key);
            self.complain(key, "is missing");
            return 1;
        }
        self.size_or(key, 1, most)
    }

    /// A finite number above `above`, or the default.
    pub(super) fn number_or(&mut self, key: &str, default: f64, above: f64) -> f64 {
        let Some(value) = self.take(key) else { return default };
        match value.as_f64() {
            Some(number) if number.is_finite() && number > above => number,
            _ => {
                self.complain(key, format_args!("is {value}: expected a number above {above}"));
                default
            }
        }
    }

    /// A number that must be given.
    pub(super) fn number(&mut self, key: &str, above: f64) -> f64 {
        if !self.has_value(key) {
            self.object.shift_remove(key);
            self.complain(key, "is missing");
            return above + 1.0;
        }
        self.number_or(key, above + 1.0, above)
    }

    /// A boolean, or the default.
    pub(super) fn flag_or(&mut self, key: &str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Bool(flag)) => flag,
            Some(value) => {
                self.complain(key, format_args!("is {value}: expected true or false"));
                default
            }
        }
    }

    /// Refuses any value but the one implemented; absent means that one.
    pub(super) fn only(&mut self, key: &str, implemented: &Value) {
        let Some(value) = self.take(key) else { return };
        let same = match (value.as_f64(), implemented.as_f64()) {
            (Some(found), Some(wanted)) => found == wanted,
            _ => value == *implemented,
        };
        if !same {
            self.complain(key, format_args!("is {value}: only {implemented} is implemented"));
        }
    }

    /// Refuses whatever was not read and is not harmless, and returns the rest. `null`, `false` and what is empty ask for
    /// nothing.
    pub(super) fn refuse_rest(&mut self, is_harmless: fn(&str) -> bool) -> Map<String, Value> {
        let (kept, refused): (Map<_, _>, Map<_, _>) =
            std::mem::take(&mut self.object).into_iter().partition(|(key, value)| {
                is_harmless(key) || matches!(value, Value::Null | Value::Bool(false)) || is_empty(value)
            });
        for (key, value) in refused {
            let mut shown = value.to_string();
            if shown.len() > 60 {
                let cut = (0..=60).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
                shown.truncate(cut);
                shown.push('…');
            }
            let text = "not implemented; if it does not change what the model computes, remove it";
            self.complain(&key, format_args!("is {shown}: {text}"));
        }
        kept
    }
}

/// Whether a value is an object or array without entries.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(entries) => entries.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        _ => false,
    }
}
