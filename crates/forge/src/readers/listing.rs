//! What an input holds, and how it is cut into parts that are read on their own.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{InputError, Kind, Reader, json, parquet, stream};

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size when it was listed, in bytes on the disk.
    pub bytes: u64,
    /// When it was last modified, in nanoseconds since 1970; 0 where the file system does not say.
    pub modified: u64,
    /// The Python module it is, where that matters.
    pub module: Option<String>,
}

impl File {
    /// A file with what its metadata say.
    pub(super) fn new(path: &Path, metadata: &std::fs::Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Self { path: path.to_owned(), bytes: metadata.len(), modified, module: None }
    }
}

/// The files that the inputs hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// In reading order.
    pub files: Vec<File>,
    /// Their size together.
    pub bytes: u64,
}

impl Listing {
    /// Everything in it, each file whole.
    #[must_use]
    pub fn slices(&self) -> Vec<Slice> {
        self.files.iter().map(Slice::whole).collect()
    }

    /// SHA-256 (64 hexadecimal digits) of the paths, sizes and modification times: another one means that the input
    /// changed.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            let path = file.path.as_os_str().as_encoded_bytes();
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path);
            hash.update(file.bytes.to_le_bytes());
            hash.update(file.modified.to_le_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A file, or a piece of one that is read on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The file.
    pub path: PathBuf,
    /// Bytes of input it stands for.
    pub bytes: u64,
    /// What of the file it is.
    pub range: Range,
    /// The Python module that the file is, where that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// What of a file a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// All of it.
    Whole,
    /// The JSON lines that begin in these bytes.
    Bytes {
        /// The first.
        begin: u64,
        /// One past the last.
        end: u64,
    },
    /// These row groups of a Parquet file.
    RowGroups {
        /// The first.
        begin: u64,
        /// One past the last.
        end: u64,
    },
}

impl Slice {
    /// A whole file.
    #[must_use]
    pub fn whole(file: &File) -> Self {
        Self { path: file.path.clone(), bytes: file.bytes, range: Range::Whole, module: file.module.clone() }
    }
}

/// Cuts a listing into parts of about `bytes` of input.
///
/// Where a part ends is decided by the files alone, so it is the same on every machine: small files that follow each
/// other are together, plain JSON lines are cut by bytes, Parquet by row groups, and any other file is one piece.
pub(super) fn parts(reader: &Reader, listing: &Listing, bytes: u64) -> Result<Vec<Vec<Slice>>, InputError> {
    let bytes = bytes.max(1);
    let mut parts = Vec::new();
    let mut part: Vec<Slice> = Vec::new();
    let mut held = 0_u64;
    for file in &listing.files {
        for slice in pieces(reader, file, bytes)? {
            if !part.is_empty() && held.saturating_add(slice.bytes) > bytes {
                parts.push(std::mem::take(&mut part));
                held = 0;
            }
            held = held.saturating_add(slice.bytes);
            part.push(slice);
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    Ok(parts)
}

/// The pieces of one file.
fn pieces(reader: &Reader, file: &File, bytes: u64) -> Result<Vec<Slice>, InputError> {
    let whole = || vec![Slice::whole(file)];
    if file.bytes <= bytes {
        return Ok(whole());
    }
    let slice = |bytes, range| Slice { path: file.path.clone(), bytes, range, module: None };
    match reader.input.reader {
        Kind::Jsonl | Kind::Functions | Kind::Records | Kind::Trajectories if is_plain_lines(file)? => {
            let count = file.bytes.div_ceil(bytes);
            let ranges = (0..count).map(|at| (at * bytes, ((at + 1).saturating_mul(bytes)).min(file.bytes)));
            Ok(ranges.map(|(begin, end)| slice(end - begin, Range::Bytes { begin, end })).collect())
        }
        // A file that is no Parquet is read as a whole, which reports it.
        Kind::Parquet => {
            let Ok(groups) = parquet::group_sizes(&file.path) else { return Ok(whole()) };
            let mut slices = Vec::new();
            let (mut begin, mut held) = (0_u64, 0_u64);
            for (at, size) in (0_u64..).zip(&groups) {
                if held > 0 && held.saturating_add(*size) > bytes {
                    slices.push(slice(held, Range::RowGroups { begin, end: at }));
                    (begin, held) = (at, 0);
                }
                held = held.saturating_add(*size);
            }
            slices.push(slice(held, Range::RowGroups { begin, end: groups.len() as u64 }));
            Ok(slices)
        }
        _ => Ok(whole()),
    }
}

/// Whether a file holds JSON lines that nothing packs: its name says so, and its first bytes do not deny it.
fn is_plain_lines(file: &File) -> Result<bool, InputError> {
    if !json::named_lines(&file.path) {
        return Ok(false);
    }
    let unreadable = |error: std::io::Error| InputError::Walk(error.to_string());
    let stream = stream::open(&file.path).map_err(unreadable)?;
    Ok(stream.packing == stream::Packing::Plain && json::holds_lines(stream, true))
}
