//! Rotary embedding settings, as transformers 5 (`rope_parameters`) and 4 (`rope_scaling`, `rope_theta`) write them.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::model::config::RopeScaling;

/// Longest context accepted.
pub(super) const MAX_POSITIONS: usize = 1 << 30;

/// Base of the frequencies where a configuration names none; transformers' default.
const DEFAULT_THETA: f64 = 10_000.0;

/// Takes the rotary settings out of a configuration: the base and the stretch.
pub(super) fn read(fields: &mut Fields) -> (f64, RopeScaling) {
    let outer_theta = fields.number_or("rope_theta", DEFAULT_THETA, 0.0);
    let original = fields.take("original_max_position_embeddings");
    let parameters = take_object(fields, "rope_parameters");
    let scaling = take_object(fields, "rope_scaling");
    let object = match (parameters, scaling) {
        (Some(new), Some(old)) if new != old => {
            fields.complain("rope_scaling", "differs from `rope_parameters`: keep one of them");
            return (outer_theta, RopeScaling::None);
        }
        (Some(object), _) | (None, Some(object)) => object,
        (None, None) => return (outer_theta, RopeScaling::None),
    };
    let mut inner = Fields::new(object, "rope_parameters.");
    let theta = inner.number_or("rope_theta", outer_theta, 0.0);
    let scaling = stretch(&mut inner, original);
    inner.refuse_rest(&[]);
    fields.problems.append(&mut inner.problems);
    (theta, scaling)
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

fn stretch(inner: &mut Fields, original: Option<Value>) -> RopeScaling {
    inner.only("partial_rotary_factor", &json!(1.0));
    // `type` is the name before transformers 4.43; later files may hold both.
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
                    let mut outer = Fields::new(Map::from_iter([(key.to_owned(), value)]), "");
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
            inner.complain("rope_type", format_args!("is {kind}: only default, linear and llama3 are implemented"));
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
pub(super) fn to_json(theta: f64, scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => json!({ "rope_type": "default", "rope_theta": theta }),
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "rope_theta": theta, "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => json!({
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_positions,
        }),
    }
}
