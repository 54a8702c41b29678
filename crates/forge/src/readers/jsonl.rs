//! JSON lines: a document a line, its text under one key.

use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{BadRecord, Document, Read, Unit};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["jsonl", "ndjson"];

/// Streams the lines of a file that hold anything. A line over `limit` bytes is bad, but the next one is read.
pub fn lines(path: &Path, limit: u64) -> impl Iterator<Item = Result<Unit, BadRecord>> + Send + use<> {
    let path: Arc<Path> = path.into();
    let (file, mut failed) = match fs_err::File::open(&*path) {
        Ok(file) => (Some(BufReader::with_capacity(1 << 20, file)), None),
        Err(error) => (None, Some(BadRecord { origin: path.display().to_string(), reason: error.to_string() })),
    };
    let mut lines = file.map(|reader| Lines { reader, path, line: 0, limit, done: false });
    std::iter::from_fn(move || match failed.take() {
        Some(bad) => Some(Err(bad)),
        None => lines.as_mut().and_then(Lines::next),
    })
}

struct Lines {
    reader: BufReader<fs_err::File>,
    path: Arc<Path>,
    line: u64,
    limit: u64,
    done: bool,
}

impl Lines {
    fn next(&mut self) -> Option<Result<Unit, BadRecord>> {
        while !self.done {
            self.line += 1;
            let bad = |reason| BadRecord { origin: format!("{}:{}", self.path.display(), self.line), reason };
            let mut bytes = Vec::new();
            match (&mut self.reader).take(self.limit + 1).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => {}
                // A failing disk: nothing more will come from this file.
                Err(error) => {
                    let bad = bad(error.to_string());
                    self.done = true;
                    return Some(Err(bad));
                }
            }
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            } else if bytes.len() as u64 > self.limit {
                let limit = self.limit;
                let bad = bad(format!("line over the limit of {limit} bytes (--max-file-bytes)"));
                return match self.reader.skip_until(b'\n') {
                    Ok(_) => Some(Err(bad)),
                    Err(_) => None,
                };
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Some(Ok(Unit::Line { path: self.path.clone(), line: self.line, bytes }));
            }
        }
        None
    }
}

/// The document of one line; `None` where its text is empty.
pub fn document(path: &Path, line: u64, bytes: &[u8], field: &str) -> Option<Read> {
    let origin = format!("{}:{line}", path.display());
    let bad = |reason| Some(Err(BadRecord { origin: origin.clone(), reason }));
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return bad(format!("not JSON at column {}: {}", error.column(), without_position(&error))),
    };
    let found = if field.starts_with('/') { value.pointer(field) } else { value.get(field) };
    match found {
        Some(Value::String(text)) if text.trim().is_empty() => None,
        Some(Value::String(text)) => Some(Ok(Document::text(origin, text.as_str()))),
        Some(other) => bad(format!("field \"{field}\" holds {}, expected a string", kind(other))),
        None => match &value {
            Value::Object(map) => {
                let keys: Vec<&str> = map.keys().take(8).map(String::as_str).collect();
                bad(format!("no field \"{field}\"; it has: {} (choose one with --field)", keys.join(", ")))
            }
            other => bad(format!("{}, expected an object with field \"{field}\"", kind(other))),
        },
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// serde_json appends "at line 1 column N"; the line is ours to name.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_the_field_names_the_fields_it_has() {
        let bad = document(Path::new("a.jsonl"), 7, br#"{"body": "x", "id": 1}"#, "text").unwrap().unwrap_err();
        assert_eq!(bad.to_string(), "a.jsonl:7: no field \"text\"; it has: body, id (choose one with --field)");
    }

    #[test]
    fn a_pointer_reaches_into_objects() {
        let read = document(Path::new("a"), 1, br#"{"a": {"b": "deep"}}"#, "/a/b").unwrap().unwrap();
        assert_eq!(read.content, crate::document::Content::Text("deep".to_owned()));
    }

    #[test]
    fn an_overlong_line_is_bad_and_the_next_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        fs_err::write(&path, format!("\"{}\"\n\n\"short\"\n", "y".repeat(100))).unwrap();
        let units: Vec<_> = lines(&path, 20).collect();
        assert_eq!(units.len(), 2);
        assert!(
            units[0]
                .as_ref()
                .unwrap_err()
                .to_string()
                .ends_with(":1: line over the limit of 20 bytes (--max-file-bytes)")
        );
        assert!(matches!(&units[1], Ok(Unit::Line { line: 3, .. })));
    }
}
