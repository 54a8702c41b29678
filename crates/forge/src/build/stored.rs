//! What is kept of a part, between reading and tokenizing: JSON lines under zstd, for people to look into as well.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use hephaestus_core::whole::Whole;
use serde::{Deserialize, Serialize};

use super::BuildError;
use crate::document::{Facts, Text};

/// Fast, and three times smaller than text.
const LEVEL: i32 = 1;

/// A document that was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Where it came from.
    pub origin: String,
    /// What is known of it.
    pub facts: Facts,
    /// The tools it calls, where it is a conversation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<String>,
    /// Its text and what of it is learned.
    pub text: Text,
}

/// Writes the documents of a part.
pub struct StoredWriter {
    encoder: zstd::Encoder<'static, Whole>,
    line: Vec<u8>,
}

impl StoredWriter {
    /// Begins the file at `path`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { encoder: zstd::Encoder::new(Whole::create(path)?, LEVEL)?, line: Vec::new() })
    }

    /// Appends a document.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(&mut self, stored: &Stored) -> std::io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, stored)?;
        self.line.push(b'\n');
        self.encoder.write_all(&self.line)
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// It cannot be written to the end.
    pub fn finish(self) -> std::io::Result<()> {
        self.encoder.finish()?.finish()
    }
}

/// Reads the documents of a part, in order.
///
/// # Errors
/// The file cannot be opened; then, a document at a time, that it is damaged.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<Stored, BuildError>> + Send + use<>, BuildError> {
    let decoder = zstd::Decoder::new(fs_err::File::open(path)?)?;
    let mut lines = BufReader::with_capacity(1 << 20, decoder);
    let path = path.to_owned();
    let mut line = Vec::new();
    Ok(std::iter::from_fn(move || {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                let stored = serde_json::from_slice(&line);
                Some(stored.map_err(|error| BuildError::Damaged { path: path.clone(), reason: error.to_string() }))
            }
            Err(error) => Some(Err(BuildError::Damaged { path: path.clone(), reason: error.to_string() })),
        }
    }))
}
