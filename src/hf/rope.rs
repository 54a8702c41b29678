//! Rotary embedding settings, as transformers 5 (`rope_parameters`) and 4 (`rope_scaling`, `rope_theta`) write them.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::model::config::RopeScaling;

/// Longest context accepted.
pub(super) const MAX_POSITIONS: usize = 1 << 30;

/// Base of the frequencies where a configuration names none; transformers' default.
const DEFAULT_THETA: f64 = 10_000.0;

/// Takes the rotary settings out of a configuration: the base and the stretch.
///
/// A file may hold both spellings, as exports do; then they must mean the same.
pub(super) fn read(fields: &mut Fields) -> (f64, RopeScaling) {
    let outer_theta = fields.has_value("rope_theta").then(|| fields.number_or("rope_theta", DEFAULT_THETA, 0.0));
    let original = fields.take("original_max_position_embeddings");
    let mut spelled = |key: &str, prefix: &'static str| {
        let object = take_object(fields, key)?;
        let mut inner = Fields::new(object, prefix);
        let theta = inner.has_value("rope_theta").then(|| inner.number_or("rope_theta", DEFAULT_THETA, 0.0));
        let scaling = stretch(&mut inner, original.as_ref());
        inner.refuse_rest(|_| false);
        fields.problems.append(&mut inner.problems);
        Some((theta, scaling))
    };
    let new = spelled("rope_parameters", "rope_parameters.");
    let old = spelled("rope_scaling", "rope_scaling.");
    let thetas = [new.as_ref().and_then(|new| new.0), old.as_ref().and_then(|old| old.0), outer_theta];
    let mut given = thetas.into_iter().flatten();
    let theta = given.next().unwrap_or(DEFAULT_THETA);
    if let Some(other) = given.find(|other| *other != theta) {
        fields.complain("rope_theta", format_args!("is given twice, as {theta} and as {other}: keep the right one"));
    }
    let scaling = match (new, old) {
        (Some((_, new)), Some((_, old))) if new != old => {
            let text = format!("asks for {}, and `rope_parameters` for {}: keep the right one", told(&old), told(&new));
            fields.complain("rope_scaling", text);
            new
        }
        (Some((_, scaling)), _) | (None, Some((_, scaling))) => scaling,
        (None, None) => RopeScaling::None,
    };
    (theta, scaling)
}

/// A stretch in the words of `config.json`, for messages.
fn told(scaling: &RopeScaling) -> String {
    scaling_json(scaling).map_or_else(|| "no scaling".to_owned(), |object| Value::Object(object).to_string())
}

fn take_object(fields: &mut Fields, key: &str) -> Option<Map<String, Value>> {
    match fields.take(key)? {
        Value::Object(object) => Some(object),
        value => {
            fields.complain(key, format_args!("is {value}: expected an object or null"));
            None
        }
    }
}

fn stretch(inner: &mut Fields, original: Option<&Value>) -> RopeScaling {
    inner.only("partial_rotary_factor", &json!(1.0));
    // `type` is the name before transformers 4.43; later files may hold both.
    let written = if inner.has_value("rope_type") { "rope_type" } else { "type" };
    let old = inner.take("type");
    let kind = inner.take("rope_type").or(old).unwrap_or_else(|| json!("default"));
    match kind.as_str() {
        Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: inner.number("factor", 0.0) },
        Some("llama3") => {
            let factor = inner.number("factor", 0.0);
            let low_freq_factor = inner.number("low_freq_factor", 0.0);
            let high_freq_factor = inner.number("high_freq_factor", 0.0);
            let key = "original_max_position_embeddings";
            let original_positions = match original {
                Some(value) if !inner.has(key) => {
                    let mut outer = Fields::new(Map::from_iter([(key.to_owned(), value.clone())]), "");
                    let size = outer.size(key, MAX_POSITIONS);
                    inner.problems.append(&mut outer.problems);
                    size
                }
                _ => inner.size(key, MAX_POSITIONS),
            };
            if high_freq_factor <= low_freq_factor {
                inner.complain(
                    "high_freq_factor",
                    format_args!("is {high_freq_factor}: expected above low_freq_factor, {low_freq_factor}"),
                );
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions }
        }
        _ => {
            inner.complain(written, format_args!("is {kind}: only default, linear and llama3 are implemented"));
            // What belongs to the refused kind is not worth a line each.
            for key in ["factor", "attention_factor", "beta_fast", "beta_slow", "short_factor", "long_factor", "mscale"]
            {
                inner.take(key);
            }
            inner.take("original_max_position_embeddings");
            RopeScaling::None
        }
    }
}

/// The `rope_parameters` object of transformers 5.
pub(super) fn parameters_json(theta: f64, scaling: &RopeScaling) -> Value {
    let mut object =
        scaling_json(scaling).unwrap_or_else(|| Map::from_iter([("rope_type".to_owned(), json!("default"))]));
    object.insert("rope_theta".to_owned(), json!(theta));
    Value::Object(object)
}

/// The `rope_scaling` object of transformers 4, which keeps the base beside it; `None` where nothing is stretched.
pub(super) fn scaling_json(scaling: &RopeScaling) -> Option<Map<String, Value>> {
    let object = match scaling {
        RopeScaling::None => return None,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_positions,
        }),
    };
    object.as_object().cloned()
}
