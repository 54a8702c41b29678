//! Markdown: a document a file, kept as written. Headings and fences are what a model should learn of it.

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["md", "markdown", "mdx"];
