//! Files into documents.
//!
//! Reading is split in two, so that it can be parallel and still keep the documents' order: listing the inputs gives a
//! cheap stream of [`Unit`]s (a file's path, or one line of JSON), and [`Reader::documents`] turns a unit into documents
//! without touching any state, so any thread may do it. Inputs are hostile: what cannot be read becomes a [`BadRecord`]
//! that names its file and position, never a panic.

mod example;
pub mod functions;
pub mod jsonl;
pub mod markdown;
pub mod openapi;
mod prose;
pub mod python_package;
pub mod records;
mod schema;
pub mod source_tree;
pub mod text;
pub mod trajectories;
mod walk;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Document;
use crate::recipe::Input;

/// A record that is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct BadRecord {
    /// `FILE` or `FILE:LINE`.
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

    /// Largest file (or JSON line) read, in bytes.
    pub fn limit(&self) -> u64 {
        self.input.max_bytes.map_or(self.input.reader.max_bytes(), |bytes| bytes.0)
    }

    /// Whether equal documents are kept once only: packages carry the same licences and generated pages again and again.
    pub fn unique(&self) -> bool {
        matches!(self.input.reader, Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText)
    }

    /// Lists what the input's paths hold, in an order that depends on their names alone.
    pub fn list(&self) -> Result<Listing, InputError> {
        let mut files = Vec::new();
        for input in &self.input.paths {
            if !input.exists() {
                return Err(InputError::Missing(input.clone()));
            }
            match self.input.reader {
                Kind::Text => walk::list(input, self, text::EXTENSIONS, &mut files)?,
                Kind::Markdown => walk::list(input, self, markdown::EXTENSIONS, &mut files)?,
                Kind::Jsonl => walk::list(input, self, jsonl::EXTENSIONS, &mut files)?,
                Kind::Source => walk::list(input, self, source_tree::EXTENSIONS, &mut files)?,
                Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText => {
                    python_package::list(input, self, &mut files)?;
                }
                _ => return Err(InputError::Missing(input.clone())),
            }
        }
        Ok(Listing { bytes: files.iter().map(|file| file.bytes).sum(), files })
    }

    /// Streams the units of a listing.
    pub fn units<'a>(&'a self, listing: &'a Listing) -> Box<dyn Iterator<Item = Result<Unit, BadRecord>> + Send + 'a> {
        if self.input.reader == Kind::Jsonl {
            Box::new(listing.files.iter().flat_map(|file| jsonl::lines(&file.path, self.limit())))
        } else {
            Box::new(listing.files.iter().map(|file| Ok(Unit::File(file.clone()))))
        }
    }

    /// The documents of a unit.
    pub fn documents(&self, unit: &Unit) -> Vec<Read> {
        match unit {
            Unit::Line { path, line, bytes } => {
                jsonl::document(path, *line, bytes, self.input.field.as_deref().unwrap_or("text")).into_iter().collect()
            }
            Unit::File(file) => match self.input.reader {
                Kind::Source => source_tree::document(file, self.limit()).into_iter().collect(),
                Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText => {
                    python_package::documents(file, self)
                }
                _ => text::document(file, self.limit()).into_iter().collect(),
            },
        }
    }
}

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size when it was listed.
    pub bytes: u64,
    /// The Python module it is, where that matters.
    pub module: Option<String>,
}

/// The files that the inputs hold.
#[derive(Clone, Debug)]
pub struct Listing {
    /// In reading order.
    pub files: Vec<File>,
    /// Their size together.
    pub bytes: u64,
}

/// The least that can be read on its own.
#[derive(Clone, Debug)]
pub enum Unit {
    /// A whole file.
    File(File),
    /// A line of JSON.
    Line {
        /// The file it is in.
        path: std::sync::Arc<Path>,
        /// Its number, from 1.
        line: u64,
        /// The line without its end.
        bytes: Vec<u8>,
    },
}

impl Unit {
    /// Bytes of input it stands for.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.bytes,
            Self::Line { bytes, .. } => bytes.len() as u64 + 1,
        }
    }
}

/// Reads a whole file as text, or says why not.
fn read_text(file: &File, limit: u64) -> Result<String, BadRecord> {
    let bad = |reason: String| BadRecord { origin: file.path.display().to_string(), reason };
    if file.bytes > limit {
        let bytes = file.bytes;
        return Err(bad(format!("{bytes} bytes, over the limit of {limit} (--max-file-bytes)")));
    }
    let bytes = fs_err::read(&file.path).map_err(|error| bad(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        bad(format!("not UTF-8: invalid byte at offset {at}"))
    })
}
