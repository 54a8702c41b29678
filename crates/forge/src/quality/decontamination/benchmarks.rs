//! Benchmark files into passages.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A benchmark that cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum BenchmarkError {
    /// The path is neither a file nor a folder.
    #[error("decontamination.against: {}: no such file or folder", .0.display())]
    Missing(PathBuf),
    /// A folder without a benchmark.
    #[error("decontamination.against: {}: no .json, .jsonl, .txt or .md file here", .0.display())]
    Nothing(PathBuf),
    /// The file cannot be read.
    #[error("decontamination.against: {0}")]
    Read(std::io::Error),
    /// The file is neither JSON nor JSON lines.
    #[error("{}:{line}: {reason}; expected JSON, or a JSON record a line", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// The file has no text that could be looked for.
    #[error("{}: no text under {}: name the keys that hold it in decontamination.fields{}", path.display(), fields.join(", "), there(keys))]
    NoField {
        /// The file.
        path: PathBuf,
        /// The fields that were looked for.
        fields: Vec<String>,
        /// The keys of its first record.
        keys: Vec<String>,
    },
}

fn there(keys: &[String]) -> String {
    if keys.is_empty() { String::new() } else { format!("; its first record has {}", keys.join(", ")) }
}

/// Extensions taken from folders.
const EXTENSIONS: [&str; 4] = ["json", "jsonl", "txt", "md"];

/// The files at the paths, those of a folder by name.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, BenchmarkError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_file() {
            files.push(path.clone());
        } else if path.is_dir() {
            let before = files.len();
            for entry in fs_err::read_dir(path).map_err(BenchmarkError::Read)? {
                let file = entry.map_err(BenchmarkError::Read)?.path();
                if file.is_file()
                    && file.extension().is_some_and(|given| EXTENSIONS.iter().any(|taken| given == *taken))
                {
                    files.push(file);
                }
            }
            if files.len() == before {
                return Err(BenchmarkError::Nothing(path.clone()));
            }
            files[before..].sort();
        } else {
            return Err(BenchmarkError::Missing(path.clone()));
        }
    }
    Ok(files)
}

/// The name of a benchmark.
pub(super) fn name(file: &Path) -> String {
    file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}

/// The passages of a file, each with its item.
pub(super) fn passages(file: &Path, fields: &[String]) -> Result<Vec<(String, String)>, BenchmarkError> {
    let text = fs_err::read(file).map_err(BenchmarkError::Read)?;
    let text = String::from_utf8_lossy(&text);
    let mut passages = Vec::new();
    if !file.extension().is_some_and(|extension| extension == "json" || extension == "jsonl") {
        for (number, paragraph) in super::super::lines::pieces(&text, 2).enumerate() {
            if !paragraph.trim().is_empty() {
                passages.push((format!("paragraph {}", number + 1), paragraph.to_owned()));
            }
        }
        return Ok(passages);
    }
    let records = records(file, &text)?;
    for (place, record) in &records {
        let item = match &record["id"] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => place.clone(),
        };
        under(record, fields, &mut |text| passages.push((item.clone(), text.to_owned())));
    }
    if passages.is_empty() {
        let first = records.first().and_then(|(_, record)| record.as_object());
        let keys = first.map(|first| first.keys().take(20).cloned().collect()).unwrap_or_default();
        return Err(BenchmarkError::NoField { path: file.to_owned(), fields: fields.to_vec(), keys });
    }
    Ok(passages)
}

/// The records of a JSON file: the elements of an array, or one a line.
fn records(file: &Path, text: &str) -> Result<Vec<(String, Value)>, BenchmarkError> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(match value {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(at, item)| (format!("item {}", at + 1), item)).collect()
            }
            value => vec![("line 1".to_owned(), value)],
        });
    }
    let mut records = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let record = serde_json::from_str(line).map_err(|error| BenchmarkError::Json {
            path: file.to_owned(),
            line: at + 1,
            reason: error.to_string(),
        })?;
        records.push((format!("line {}", at + 1), record));
    }
    Ok(records)
}

/// Every string under a key that is one of the fields; the parser bounds the depth.
fn under(value: &Value, fields: &[String], take: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if fields.contains(key) { strings(value, take) } else { under(value, fields, take) }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| under(item, fields, take)),
        _ => {}
    }
}

/// Every string in a value; of a message only what it says.
fn strings(value: &Value, take: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Object(message) if message.contains_key("role") && message.contains_key("content") => {
            strings(&message["content"], take);
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, take)),
        Value::Object(map) => map.values().for_each(|item| strings(item, take)),
        _ => {}
    }
}
