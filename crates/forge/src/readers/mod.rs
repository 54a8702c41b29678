//! Files into documents.
//!
//! Reading is split in three, so that it can be parallel, be cut into parts and still keep the documents' order. A
//! [`Listing`] says which files there are and is cut into [`Slice`]s. [`Reader::units`] streams over slices, one after the
//! other: cheap, in memory bounded by the largest record. [`Reader::documents`] turns a [`Unit`] into documents without
//! touching any state, so any thread may do it. Inputs are hostile: what cannot be read becomes a [`BadRecord`] that names
//! its file and position, never a panic.
//!
//! [`stream`] unpacks, [`json`] finds the records in JSON however they are arranged, [`listing`] lists and cuts; the other
//! modules each make documents of one kind.

pub mod code_docs;
mod example;
pub mod field;
pub mod functions;
pub mod html;
pub mod json;
pub mod listing;
pub mod markdown;
pub mod openapi;
pub mod parquet;
mod prose;
pub mod python_package;
pub mod records;
mod schema;
pub mod source_tree;
pub mod stream;
pub mod text;
pub mod trajectories;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::json::Position;
pub use self::listing::{File, Listing, Range, Slice};
use crate::document::Document;
use crate::recipe::Input;

/// Units taken at once at most.
const CHUNK_UNITS: usize = 1 << 14;

/// A record that is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct BadRecord {
    /// `FILE`, `FILE:LINE`, `FILE:LINE:COLUMN`, `FILE@BYTE` or `FILE#PLACE`.
    pub origin: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a reader makes of one record.
pub type Read = Result<Document, BadRecord>;

/// An input that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The path is neither a file nor a folder.
    #[error("{}: no such file or folder", .0.display())]
    Missing(PathBuf),
    /// A folder without a single file that the reader takes.
    #[error("{}: no file here that the {reader} reader takes ({takes}); name files directly or pass --extension", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
        /// The reader.
        reader: String,
        /// What it takes, in words.
        takes: String,
    },
    /// A Python reader was pointed at something that holds no package.
    #[error("{}: not a Python package (no __init__.py) and no folder of packages", .0.display())]
    NoPackage(PathBuf),
    /// `--exclude` is no glob.
    #[error("--exclude {glob}: {reason}")]
    Glob {
        /// As given.
        glob: String,
        /// What the glob parser says.
        reason: String,
    },
    /// The folder could not be walked.
    #[error("{0}")]
    Walk(String),
}

/// How inputs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Plain text, a document a file.
    Text,
    /// Markdown, a document a file.
    Markdown,
    /// The main text of HTML pages, a document a file.
    Html,
    /// JSON lines, a document a line.
    Jsonl,
    /// Parquet, a document a row.
    Parquet,
    /// A source tree, a document a file; .gitignore is honoured.
    Source,
    /// An installed Python package's sources, without their docstrings.
    PythonCode,
    /// An installed Python package's documentation, a page for each public function, class and method.
    PythonDocs,
    /// The `>>>` sessions in an installed Python package's docstrings, as calls with their results.
    PythonCalls,
    /// An installed Python package's prose: README, licence and other text files, module docstrings.
    PythonText,
    /// Documentation comments of Rust, JavaScript and TypeScript sources, a page for each item.
    CodeDocs,
    /// OpenAPI 3.0 and 3.1, JSON or YAML, a document an operation.
    Openapi,
    /// Lists of functions: OpenAI's tools and functions, JSON Schema, results of MCP's `tools/list`; a document a function.
    Functions,
    /// Records of APIs in JSON, JSON lines or arrays, by a map of their fields; a document a record.
    Records,
    /// Conversations with tools, a document a conversation.
    Trajectories,
}

impl Kind {
    /// The name as given on the command line and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
            Self::Source => "source",
            Self::PythonCode => "python-code",
            Self::PythonDocs => "python-docs",
            Self::PythonCalls => "python-calls",
            Self::PythonText => "python-text",
            Self::CodeDocs => "code-docs",
            Self::Openapi => "openapi",
            Self::Functions => "functions",
            Self::Records => "records",
            Self::Trajectories => "trajectories",
        }
    }

    /// Extensions taken from a folder; `None` for kinds that find their files by other means.
    #[must_use]
    pub fn extensions(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Text => text::EXTENSIONS,
            Self::Markdown => markdown::EXTENSIONS,
            Self::Html => html::EXTENSIONS,
            Self::Jsonl | Self::Functions | Self::Records => json::EXTENSIONS,
            Self::Parquet => parquet::EXTENSIONS,
            Self::Source => source_tree::EXTENSIONS,
            Self::CodeDocs => code_docs::EXTENSIONS,
            Self::Openapi => &["json", "yaml", "yml"],
            Self::Trajectories => &["json", "jsonl", "ndjson", "txt", "md"],
            Self::PythonCode | Self::PythonDocs | Self::PythonCalls | Self::PythonText => return None,
        })
    }

    /// Largest file (or record of a stream of records) read unless the user says otherwise, in bytes.
    fn max_bytes(self) -> u64 {
        match self {
            // A document is encoded in one piece.
            Self::Text | Self::Markdown | Self::Html | Self::Jsonl | Self::Parquet => 64 << 20,
            Self::Openapi | Self::Functions | Self::Records | Self::Trajectories => 64 << 20,
            Self::Source => 1 << 20,
            Self::PythonDocs | Self::PythonCalls | Self::PythonText | Self::CodeDocs => 4 << 20,
            // Larger Python files are tables that a program wrote.
            Self::PythonCode => 256 << 10,
        }
    }
}

/// A reader and its settings.
#[derive(Clone, Debug)]
pub struct Reader {
    /// As the user wrote them.
    pub input: Input,
}

impl Reader {
    /// A reader for an input.
    #[must_use]
    pub fn new(input: Input) -> Self {
        Self { input }
    }

    /// Largest file, or record of a stream of records, that is read, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.input.max_bytes.map_or(self.input.reader.max_bytes(), |bytes| bytes.0)
    }

    /// Lists what the input's paths hold, in an order that depends on their names alone.
    ///
    /// # Errors
    /// A path is missing, a folder holds nothing for this reader or cannot be walked, or a glob is none.
    pub fn list(&self) -> Result<Listing, InputError> {
        let mut files = Vec::new();
        for input in &self.input.paths {
            if !input.exists() {
                return Err(InputError::Missing(input.clone()));
            }
            match self.input.reader.extensions() {
                Some(extensions) => walk::list(input, self, extensions, &mut files)?,
                None => python_package::list(input, self, &mut files)?,
            }
        }
        Ok(Listing { bytes: files.iter().map(|file| file.bytes).sum(), files })
    }

    /// Cuts a listing into parts of about `bytes` of input, in order, each to be read on its own. The same listing is cut
    /// the same way everywhere.
    ///
    /// # Errors
    /// A large file cannot be opened to see whether it can be cut.
    pub fn parts(&self, listing: &Listing, bytes: u64) -> Result<Vec<Vec<Slice>>, InputError> {
        listing::parts(self, listing, bytes)
    }

    /// Streams the units of slices, one after the other.
    pub fn units<'a>(&'a self, slices: &'a [Slice]) -> Box<dyn Iterator<Item = Result<Unit, BadRecord>> + Send + 'a> {
        Box::new(slices.iter().flat_map(|slice| self.units_of(slice)))
    }

    fn units_of<'a>(&'a self, slice: &'a Slice) -> Box<dyn Iterator<Item = Result<Unit, BadRecord>> + Send + 'a> {
        let file = || -> Box<dyn Iterator<Item = Result<Unit, BadRecord>> + Send + 'a> {
            Box::new(std::iter::once(Ok(Unit::File(slice.clone()))))
        };
        match self.input.reader {
            Kind::Parquet => Box::new(parquet::rows(slice, self.field(), self.limit())),
            Kind::Trajectories if is_prose(&slice.path) => file(),
            Kind::Jsonl | Kind::Functions | Kind::Records | Kind::Trajectories => {
                Box::new(json::records(slice, self.limit()))
            }
            _ => file(),
        }
    }

    /// The key or column that holds the text.
    fn field(&self) -> &str {
        self.input.field.as_deref().unwrap_or("text")
    }

    /// The documents of a unit, in order.
    #[must_use]
    pub fn documents(&self, unit: &Unit) -> Vec<Read> {
        match unit {
            Unit::Record { path, position, bytes, .. } => self.record(path, *position, bytes),
            Unit::Text { origin, text, .. } => vec![Ok(Document::text(origin.clone(), text.clone()))],
            Unit::File(slice) => self.file(slice),
        }
    }

    /// The documents of a JSON record.
    fn record(&self, path: &Path, position: Position, bytes: &[u8]) -> Vec<Read> {
        let value = match json::parse(path, position, bytes) {
            Ok(value) => value,
            Err(bad) => return vec![Err(bad)],
        };
        let origin = position.origin(path);
        let mut out = Vec::new();
        match self.input.reader {
            Kind::Functions => functions::documents(&origin, value, &self.input, &mut out),
            Kind::Records => out.push(records::document(&origin, value, &self.input)),
            Kind::Trajectories => trajectories::documents(&origin, value, &self.input, &mut out),
            _ => out.extend(field::document(&origin, value, self.field())),
        }
        out
    }

    /// The documents of a file.
    fn file(&self, slice: &Slice) -> Vec<Read> {
        let limit = self.limit();
        let origin = slice.path.display().to_string();
        match self.input.reader {
            Kind::Source => source_tree::document(&slice.path, limit).into_iter().collect(),
            Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText => {
                python_package::documents(&slice.path, slice.module.as_deref(), self)
            }
            Kind::Html => html::document(&slice.path, limit).into_iter().collect(),
            Kind::CodeDocs => code_docs::documents(&slice.path, self),
            Kind::Openapi => {
                let mut out = Vec::new();
                match stream::read(&slice.path, limit) {
                    Ok(bytes) => openapi::documents(&origin, &bytes, &self.input, &mut out),
                    Err(reason) => out.push(Err(BadRecord { origin, reason })),
                }
                out
            }
            Kind::Trajectories => {
                let mut out = Vec::new();
                match read_text(&slice.path, limit) {
                    Ok(text) => trajectories::text(&origin, &text, &self.input, &mut out),
                    Err(bad) => out.push(Err(bad)),
                }
                out
            }
            _ => text::document(&slice.path, limit).into_iter().collect(),
        }
    }
}

/// The least that is read at once.
#[derive(Clone, Debug, PartialEq)]
pub enum Unit {
    /// A whole file.
    File(Slice),
    /// A record of JSON, as it was written.
    Record {
        /// The file it is in.
        path: Arc<Path>,
        /// Where it begins.
        position: Position,
        /// The record without what separates it from others.
        bytes: Vec<u8>,
        /// Bytes of input it stands for, on the disk.
        input: u64,
    },
    /// Text that is a document as it stands.
    Text {
        /// `FILE#ROW`.
        origin: String,
        /// The text.
        text: String,
        /// Bytes of input it stands for, on the disk.
        input: u64,
    },
}

impl Unit {
    /// Bytes of input on the disk that it stands for: what progress counts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(slice) => slice.bytes,
            Self::Record { input, .. } | Self::Text { input, .. } => *input,
        }
    }

    /// Bytes of memory that its content takes or, for a file that is yet to be read, is likely to take.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::File(slice) => slice.bytes,
            Self::Record { bytes, .. } => bytes.len() as u64,
            Self::Text { text, .. } => text.len() as u64,
        }
    }
}

/// The next units, up to `bytes` of memory together and not too many; one at least, where there is any.
pub fn chunk(units: &mut dyn Iterator<Item = Result<Unit, BadRecord>>, bytes: u64) -> Vec<Result<Unit, BadRecord>> {
    let mut taken = Vec::new();
    let mut size = 0;
    while size < bytes && taken.len() < CHUNK_UNITS {
        let Some(unit) = units.next() else { break };
        size += unit.as_ref().map_or(0, Unit::size);
        taken.push(unit);
    }
    taken
}

/// Whether a file of trajectories holds text rather than records.
fn is_prose(path: &Path) -> bool {
    matches!(stream::extension(path).as_str(), "txt" | "md")
}

/// Reads a whole file as text, or says why not. A byte order mark is no text.
fn read_text(path: &Path, limit: u64) -> Result<String, BadRecord> {
    let bad = |reason: String| BadRecord { origin: path.display().to_string(), reason };
    let mut bytes = stream::read(path, limit).map_err(bad)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        bad(format!("not UTF-8: invalid byte at offset {at}"))
    })
}

#[cfg(test)]
mod tests;
