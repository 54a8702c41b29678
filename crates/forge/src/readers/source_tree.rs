//! Source trees: a document a file; ignored, binary and oversized files are left out silently, as any repository has
//! some.

use std::path::Path;

use super::{Document, Read, read_text};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &[
    "bash", "c", "cc", "cpp", "cs", "css", "cu", "cuh", "cxx", "dart", "ex", "exs", "go", "h", "hpp", "hs", "html",
    "java", "jl", "js", "json", "jsx", "kt", "lua", "m", "md", "ml", "php", "pl", "proto", "py", "pyi", "r", "rb",
    "rs", "rst", "scala", "sh", "sql", "swift", "toml", "ts", "tsx", "vue", "yaml", "yml", "zig",
];

/// The file as one document; `None` where it is binary, oversized or empty.
pub fn document(path: &Path, limit: u64) -> Option<Read> {
    match read_text(path, limit) {
        Ok(text) if text.trim().is_empty() || text.contains('\0') => None,
        Ok(text) => Some(Ok(Document::text(path.display().to_string(), text))),
        Err(bad) if bad.reason.starts_with("not UTF-8") || bad.reason.starts_with("over the limit") => None,
        Err(bad) => Some(Err(bad)),
    }
}
