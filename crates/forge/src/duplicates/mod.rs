//! Equal and nearly equal documents: which of a corpus's documents are left out because one like it came before.
//!
//! In reading order: [`words`] cuts a text, [`sign`] makes its MinHash signature, [`signatures`] keeps signatures in
//! Parquet files, one a part, [`group`](mod@group) finds in all of them which documents go, and [`dropped`] looks them up
//! part by part. Between signing and looking up there are only files, so each part may be signed on another machine, and
//! the grouping is one statement of plain SQL ([`SQL`]) that DuckDB or Spark may run instead of [`group()`].
//!
//! # The rule
//! Documents have numbers in the order of the corpus ([`document_id`]). A document's `kept` is the least number among the
//! documents that share a band with it, itself among them; where that is another document, it is left out. This is not
//! the transitive closure (connected components) of "shares a band", on purpose. The closure needs as many joins as the
//! longest chain has links, this one pass; and the closure joins documents that are nothing alike through chains of ones
//! that are a little, and keeps one of them all, where here each document that goes has a document before it that it
//! resembles itself. That one may have gone too, for one before it: following `kept` to its end gives a cluster's root,
//! which stays.

pub mod dropped;
pub mod group;
pub mod sign;
pub mod signatures;
mod spill;
mod table;
pub mod words;

use std::path::PathBuf;

use parquet::errors::ParquetError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use dropped::Dropped;
pub use group::{Summary, group};
pub use sign::{Signature, Signer};
pub use signatures::SignatureWriter;

/// The grouping as SQL over a table or view `signatures`; what it returns is what [`group()`] writes, row for row.
pub const SQL: &str = include_str!("group.sql");

/// Which equal and nearly equal documents are left out. Of those that are alike the first stays, in the order of sources,
/// inputs and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Leave out documents whose text came before, byte for byte.
    pub exact: bool,
    /// Leave out documents that share a band of MinHash values with one before (Broder 1997; bands as in FineWeb, arXiv
    /// 2406.17557).
    pub near: bool,
    /// Words in a shingle.
    #[schemars(range(min = 1, max = 64))]
    pub words: u32,
    /// Bands.
    #[schemars(range(min = 1, max = 256))]
    pub bands: u32,
    /// MinHash values in a band: two documents of similarity s share one of b bands of r rows with probability
    /// 1 - (1 - s^r)^b. The 14 bands of 8 rows find a tenth of the pairs at 0.54, half at 0.68, nine tenths at 0.79.
    #[schemars(range(min = 1, max = 64))]
    pub rows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { exact: true, near: true, words: 5, bands: 14, rows: 8 }
    }
}

/// Why duplicates cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum DuplicatesError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file is no Parquet, or a damaged one.
    #[error("{}: not a sound Parquet file ({source}); write it again", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: ParquetError,
    },
    /// A file lacks a column, or has it as another type.
    #[error("{}: column {column} {found}, expected {expected}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// What is there instead, in words.
        found: String,
        /// The type that was expected.
        expected: &'static str,
    },
    /// A row that no grouping holds.
    #[error("{}: {reason}; group the signatures again", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No grouping where one was expected.
    #[error("{}: no Parquet file here; give the file that the grouping wrote, or the folder of files", .0.display())]
    Nothing(PathBuf),
}

/// The number of a document: ascending in the order of the corpus. `part` counts all sources' parts and stays below 2^31.
#[must_use]
pub fn document_id(part: u32, number: u32) -> i64 {
    i64::from(part) << 32 | i64::from(number)
}

#[cfg(test)]
mod tests;
