//! Files into documents.
//!
//! Reading is split in two, so that it can be parallel and still keep the documents' order: listing the inputs gives a
//! cheap stream of [`Unit`]s (a file's path, or one line of JSON), and [`Reader::documents`] turns a unit into documents
//! without touching any state, so any thread may do it. Inputs are hostile: what cannot be read becomes a [`BadRecord`]
//! that names its file and position, never a panic.

pub mod jsonl;
pub mod markdown;
pub mod python_package;
pub mod source_tree;
pub mod text;
mod walk;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its text.
    pub text: String,
    /// Where it came from: `FILE`, `FILE:LINE`, or a qualified Python name.
    pub origin: String,
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Plain text, a document a file.
    Text,
    /// JSON lines, a document a line.
    Jsonl,
    /// Markdown, a document a file.
    Markdown,
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
}

impl Kind {
    /// The name as given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Jsonl => "jsonl",
            Self::Markdown => "markdown",
            Self::Source => "source",
            Self::PythonCode => "python-code",
            Self::PythonDocs => "python-docs",
            Self::PythonCalls => "python-calls",
            Self::PythonText => "python-text",
        }
    }

    /// Largest file (or JSON line) read unless the user says otherwise, in bytes.
    fn max_bytes(self) -> u64 {
        match self {
            // A document is encoded in one piece, which takes some fifty times its size in memory.
            Self::Text | Self::Jsonl | Self::Markdown => 64 << 20,
            Self::Source => 1 << 20,
            Self::PythonDocs | Self::PythonCalls | Self::PythonText => 4 << 20,
            // Larger Python files are tables that a program wrote.
            Self::PythonCode => 256 << 10,
        }
    }
}

/// A reader and its settings.
#[derive(Clone, Debug)]
pub struct Reader {
    /// How inputs are read.
    pub kind: Kind,
    /// The key of a JSON line that holds the text, or a JSON pointer (`/a/b`).
    pub field: String,
    /// File extensions taken from folders, without the dot; empty for the reader's own.
    pub extensions: Vec<String>,
    /// Globs of paths, relative to each input folder, that are left out.
    pub exclude: Vec<String>,
    /// Largest file (or JSON line) read, in bytes; `None` for the reader's own limit.
    pub max_bytes: Option<u64>,
}

impl Reader {
    /// A reader with its kind's defaults.
    pub fn new(kind: Kind) -> Self {
        Self { kind, field: "text".to_owned(), extensions: Vec::new(), exclude: Vec::new(), max_bytes: None }
    }

    /// Largest file (or JSON line) read, in bytes.
    pub fn limit(&self) -> u64 {
        self.max_bytes.unwrap_or(self.kind.max_bytes())
    }

    /// Whether equal documents are kept once only: packages carry the same licences and generated pages again and again.
    pub fn unique(&self) -> bool {
        matches!(self.kind, Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText)
    }

    /// Lists what the inputs hold, in an order that depends on their names alone.
    pub fn list(&self, inputs: &[PathBuf]) -> Result<Listing, InputError> {
        let mut files = Vec::new();
        for input in inputs {
            if !input.exists() {
                return Err(InputError::Missing(input.clone()));
            }
            match self.kind {
                Kind::Text => walk::list(input, self, text::EXTENSIONS, &mut files)?,
                Kind::Markdown => walk::list(input, self, markdown::EXTENSIONS, &mut files)?,
                Kind::Jsonl => walk::list(input, self, jsonl::EXTENSIONS, &mut files)?,
                Kind::Source => walk::list(input, self, source_tree::EXTENSIONS, &mut files)?,
                Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText => {
                    python_package::list(input, self, &mut files)?;
                }
            }
        }
        Ok(Listing { bytes: files.iter().map(|file| file.bytes).sum(), files })
    }

    /// Streams the units of a listing.
    pub fn units<'a>(&'a self, listing: &'a Listing) -> Box<dyn Iterator<Item = Result<Unit, BadRecord>> + Send + 'a> {
        if self.kind == Kind::Jsonl {
            Box::new(listing.files.iter().flat_map(|file| jsonl::lines(&file.path, self.limit())))
        } else {
            Box::new(listing.files.iter().map(|file| Ok(Unit::File(file.clone()))))
        }
    }

    /// The documents of a unit.
    pub fn documents(&self, unit: &Unit) -> Vec<Read> {
        match unit {
            Unit::Line { path, line, bytes } => jsonl::document(path, *line, bytes, &self.field).into_iter().collect(),
            Unit::File(file) => match self.kind {
                Kind::Source => source_tree::document(file, self.limit()).into_iter().collect(),
                Kind::PythonCode | Kind::PythonDocs | Kind::PythonCalls | Kind::PythonText => {
                    python_package::documents(file, self)
                }
                Kind::Text | Kind::Markdown | Kind::Jsonl => text::document(file, self.limit()).into_iter().collect(),
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
