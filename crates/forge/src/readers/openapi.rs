//! OpenAPI 3.0 and 3.1 (and Swagger 2.0, brought up to 3.0 first): a record for each operation.
//!
//! References are followed inside the file; what lies in another file is named. Whatever a file asks for, work and
//! output are bounded by its size, so a schema that expands exponentially costs no more than any other.

mod operation;
mod source;
mod swagger;

use std::cell::Cell;

use serde_json::{Map, Value};

use self::operation::{Operation, Place};
use super::schema::Schemas;
use super::{BadRecord, Read};
use crate::document::{Content, Document, Facts, RecordKind};
use crate::recipe::Input;

/// The keys of a path item that are operations.
const METHODS: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];
/// Steps of work that a byte of the file may cause.
const WORK: u64 = 16;
/// Steps of work that any file may cause.
const LEAST_WORK: u64 = 20_000_000;
/// Bytes of documents that a byte of the file may become.
const OUTPUT: usize = 32;
/// Bytes of documents that any file may become.
const LEAST_OUTPUT: usize = 16 << 20;

/// The operations of a specification, `bytes` being the whole file: JSON or YAML, told by content.
///
/// A file that is no specification is one bad record; an operation that is broken is one at `ORIGIN#/paths/~1x/get`.
/// Fields of a record: `title`, `version`, `provider`, `method`, `path`, `url`, `operation_id`, `heading`, `summary`,
/// `description`, `tags`, `deprecated`, `webhook`, `documentation`; `auth` (`text` and `schemes` of `kind` and `name`),
/// `parameters` (rows with `in`), `body` and `responses` (`types`, `type`, `rows`, `example`; a response's `status`, and `repeated` where its
/// rows are those of another) and
/// `samples` (`title`, `language`, `code`). What is not known is not there. Rows have `depth`, `name`, `type`, `format`,
/// `required`, `description`, `default`, `enum`, `limits`, `example`, `deprecated`; `variant` where a row is one of alternatives,
/// `more` where an outline was cut.
pub fn documents(origin: &str, bytes: &[u8], input: &Input, out: &mut Vec<Read>) {
    match source::parse(bytes).and_then(checked) {
        Ok(root) => Specification::new(origin, &root, input, bytes.len()).read(out),
        Err(reason) => out.push(Err(BadRecord { origin: origin.to_owned(), reason })),
    }
}

/// A specification in a version that is understood, as OpenAPI 3.
fn checked(root: Value) -> Result<Value, String> {
    let version = |key: &str| match root.get(key) {
        Some(Value::String(version)) => Some(version.trim().to_owned()),
        Some(Value::Number(version)) => Some(version.to_string()),
        _ => None,
    };
    match (version("openapi"), version("swagger")) {
        (Some(version), _) if version.starts_with("3.") => Ok(root),
        (None, Some(version)) if version.starts_with("2") => Ok(swagger::upgraded(root)),
        (Some(version), _) => Err(format!("openapi is {version}: expected 3.0 or 3.1")),
        (None, Some(version)) => Err(format!("swagger is {version}: expected 2.0")),
        (None, None) => Err("no OpenAPI document: it has neither a key `openapi` nor `swagger`".to_owned()),
    }
}

struct Specification<'a> {
    origin: &'a str,
    root: &'a Value,
    input: &'a Input,
    bytes: usize,
}

impl<'a> Specification<'a> {
    fn new(origin: &'a str, root: &'a Value, input: &'a Input, bytes: usize) -> Self {
        Self { origin, root, input, bytes }
    }

    fn read(&self, out: &mut Vec<Read>) {
        let bad =
            |pointer: &str, reason: String| Err(BadRecord { origin: format!("{}#{pointer}", self.origin), reason });
        let work = Cell::new((self.bytes as u64).saturating_mul(WORK).saturating_add(LEAST_WORK));
        let most = self.bytes.saturating_mul(OUTPUT).saturating_add(LEAST_OUTPUT);
        let siblings =
            !self.root.get("openapi").and_then(Value::as_str).is_some_and(|version| version.starts_with("3.0"));
        let schemas = Schemas { root: self.root, siblings, work: &work };
        let mut written = 0;
        for (section, webhook) in [("paths", false), ("webhooks", true)] {
            let items = match self.root.get(section) {
                Some(Value::Object(items)) => items,
                None | Some(Value::Null) => continue,
                Some(_) => {
                    out.push(bad(&format!("/{section}"), "expected an object".to_owned()));
                    continue;
                }
            };
            for (path, item) in items.iter().filter(|(path, _)| !path.starts_with("x-")) {
                let pointer = format!("/{section}/{}", path.replace('~', "~0").replace('/', "~1"));
                let item = match schemas.follow(item).map(Value::as_object) {
                    Ok(Some(item)) => item,
                    Ok(None) => {
                        out.push(bad(&pointer, "expected an object with operations".to_owned()));
                        continue;
                    }
                    Err(reason) => {
                        out.push(bad(&pointer, reason));
                        continue;
                    }
                };
                for method in METHODS {
                    let Some(operation) = item.get(*method) else { continue };
                    let pointer = format!("{pointer}/{method}");
                    let place = Place { root: self.root, path, method, item, webhook, provider: self.provider() };
                    match Operation::new(schemas, place, operation).and_then(|operation| operation.fields()) {
                        Ok(fields) => {
                            written += fields.iter().map(|(key, value)| key.len() + size(value)).sum::<usize>();
                            if work.get() == 0 || written > most {
                                let reason = "its schemas expand to many times the file's size: the rest of the file is left out";
                                out.push(bad(&pointer, reason.to_owned()));
                                return;
                            }
                            out.push(Ok(self.document(&pointer, fields)));
                        }
                        Err(reason) => out.push(bad(&pointer, reason)),
                    }
                }
            }
        }
    }

    fn document(&self, pointer: &str, fields: Map<String, Value>) -> Document {
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        let (method, path) = (text("method").unwrap_or_default(), text("path").unwrap_or_default());
        let name = text("operation_id").map_or_else(|| format!("{method} {path}"), ToOwned::to_owned);
        let api = text("title").map_or_else(|| name.clone(), |title| format!("{title}: {name}"));
        let facts = Facts { api: Some(api), provider: text("provider").map(ToOwned::to_owned) };
        let content = Content::Record { kind: RecordKind::Operation, fields };
        Document { origin: format!("{}#{pointer}", self.origin), facts, content }
    }

    /// Who offers the API: what the file says, else what the recipe says, else its title.
    fn provider(&self) -> Option<&'a str> {
        let info = self.root.get("info");
        let text = |key: &str| info?.get(key)?.as_str().map(str::trim).filter(|text| !text.is_empty());
        text("x-providerName").or(self.input.provider.as_deref()).or_else(|| text("title"))
    }
}

/// About how many bytes a value takes; no deeper than outlines are.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 8,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum::<usize>() + 8,
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

#[cfg(test)]
mod tests;
