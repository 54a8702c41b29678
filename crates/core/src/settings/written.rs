//! Quantities as YAML and JSON Schema see them: a number, or text in the form that [`super::quantity`] reads.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::quantity::{Bytes, Count, Interval, Part, Rows, Share, Time};

/// Reads whatever scalar stands there as text.
struct Scalar<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.trim().parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! written {
    ($type:ident, $example:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Scalar(std::marker::PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text = self.to_string();
                match (text.parse::<u64>(), text.parse::<f64>()) {
                    (Ok(number), _) => serializer.serialize_u64(number),
                    (_, Ok(number)) => serializer.serialize_f64(number),
                    _ => serializer.serialize_str(&text),
                }
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": ["number", "string"], "description": $example })
            }
        }
    };
}

written!(Count, "A count: 512, 8k, 4M, 80B or 1.5T; multiples are decimal.");
written!(Share, "A share of a whole: a number from 0 to 1, or a percentage such as 1%.");
written!(Part, "A part of a stage: steps (200), tokens (50M tokens) or a share of the stage (1%).");
written!(Interval, "How often: optimizer steps (500), or a time (90s, 30m, 2h).");
written!(Time, "A time: 90s, 10m or 2h.");
written!(Rows, "Rows at once: a whole number, or auto for as many as fit into memory.");
written!(Bytes, "Bytes of memory: 70GiB, 80GB or 1.5TiB; a whole number is bytes.");
