//! A specification's bytes as one JSON value, whether they are JSON or YAML.
//!
//! YAML's aliases repeat what they point at, so that a few lines may stand for more than any memory holds: what a file
//! expands to is bounded by its size.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Bytes that a byte of YAML may stand for.
const EXPANSION: usize = 16;
/// Brackets within brackets; what is read is 128 deep at most.
const NESTED: usize = 1_000;
/// Bytes that any file may stand for.
const LEAST: usize = 1 << 20;

/// Reads JSON where the text begins as an object, YAML otherwise.
///
/// # Errors
/// In words, with line and column.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8: invalid byte at offset {}", error.valid_up_to()))?;
    match text.trim_start().chars().next() {
        None => Err("empty: expected an OpenAPI document in JSON or YAML".to_owned()),
        Some('{' | '[') => serde_json::from_str(text).map_err(|error| format!("not JSON: {error}")),
        Some(_) if nested(text) > NESTED => Err(format!("not YAML: brackets are nested more than {NESTED} deep")),
        Some(_) => {
            let left = Cell::new(text.len().saturating_mul(EXPANSION).saturating_add(LEAST));
            let seed = Bounded { left: &left };
            seed.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| format!("not YAML: {error}"))
        }
    }
}

/// How deep brackets are nested, at most: the YAML parser's time grows with the square of it, and it knows no bound until
/// it has seen everything. Brackets within words do not count, as prose has them (`the range [0, 1)`).
fn nested(text: &str) -> usize {
    let (mut deepest, mut depth, mut starts) = (0, 0_usize, true);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' if starts => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b' ' => {}
            _ => starts = matches!(byte, b'\n' | b':' | b',' | b'-' | b'?'),
        }
    }
    deepest
}

/// Builds a value while `left` bytes are left for it.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn spend<E: Error>(self, bytes: usize) -> Result<(), E> {
        // A node takes memory of its own, whatever its text.
        match self.left.get().checked_sub(bytes.saturating_add(8)) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom("its aliases expand to many times the file's size")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.spend(0).map(|()| value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        self.visit_string(value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.spend(0)?;
        Ok(Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.spend(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(0).map(|()| Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    /// A value with a tag of its own is that value.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let (_, variant) = data.variant::<serde::de::IgnoredAny>()?;
        variant.newtype_variant_seed(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spend(0)?;
        let (mut map, mut merged) = (Map::new(), Vec::new());
        while let Some(key) = entries.next_key::<String>()? {
            self.spend::<A::Error>(key.len())?;
            let value = entries.next_value_seed(self)?;
            match value {
                // YAML's merge key: the keys of another map, unless they are here too.
                Value::Object(other) if key == "<<" => merged.push(other),
                Value::Array(others) if key == "<<" => {
                    merged.extend(others.into_iter().filter_map(|other| match other {
                        Value::Object(other) => Some(other),
                        _ => None,
                    }));
                }
                value => {
                    map.insert(key, value);
                }
            }
        }
        for (key, value) in merged.into_iter().flatten() {
            map.entry(key).or_insert(value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_told_by_their_content() {
        let value = json!({ "a": { "200": [1, 2.5, true, null, "x"] } });
        assert_eq!(parse(br#" {"a": {"200": [1, 2.5, true, null, "x"]}}"#), Ok(value.clone()));
        assert_eq!(parse(b"\xEF\xBB\xBFa:\n  200: [1, 2.5, true, ~, x]\n"), Ok(value));
    }

    #[test]
    fn aliases_merges_and_tags_are_understood() {
        let text = b"base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3, c: !odd x}\n";
        assert_eq!(parse(text), Ok(json!({ "base": { "a": 1, "b": 2 }, "more": { "b": 3, "c": "x", "a": 1 } })));
    }

    #[test]
    fn aliases_that_double_and_double_are_refused() {
        let mut bomb = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..60 {
            bomb += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        let error = parse(bomb.as_bytes()).unwrap_err();
        assert!(error.contains("expand") || error.contains("repetition"), "{error}");
        let long = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(60_000), "*a, ".repeat(1_000));
        assert!(parse(b"a: &x [*x]").is_err());
        assert!(parse(long.as_bytes()).unwrap_err().contains("its aliases expand to many times"));
    }

    #[test]
    fn broken_text_is_refused_with_its_position() {
        assert_eq!(parse(b"  \n"), Err("empty: expected an OpenAPI document in JSON or YAML".to_owned()));
        assert_eq!(parse(b"\xFF"), Err("not UTF-8: invalid byte at offset 0".to_owned()));
        assert_eq!(parse(b"{\n 'a'"), Err("not JSON: key must be a string at line 2 column 2".to_owned()));
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes()).unwrap_err().contains("recursion limit exceeded"));
        let nested = parse(format!("a: {deep}").as_bytes());
        assert_eq!(nested, Err("not YAML: brackets are nested more than 1000 deep".to_owned()));
        let nested = parse(format!("a: {}", "[".repeat(900)).as_bytes());
        assert!(nested.as_ref().is_err_and(|error| error.starts_with("not YAML")), "{nested:?}");
        assert!(parse(b"a: *nowhere").unwrap_err().contains("unknown anchor"));
    }
}
