//! Plain text: a document a file.

use std::path::Path;

use super::{Document, Read, read_text};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["txt", "text"];

/// The file as one document; `None` when there is nothing in it.
pub fn document(path: &Path, limit: u64) -> Option<Read> {
    match read_text(path, limit) {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(Ok(Document::text(path.display().to_string(), text))),
        Err(bad) => Some(Err(bad)),
    }
}
