//! What is known of a corpus besides its tokens, in `PREFIX.manifest.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::format::{CorpusError, path_of};

/// What is known of a corpus besides its tokens: `PREFIX.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub version: u32,
    /// The corpus' name.
    pub source: String,
    /// SHA-256 of the `tokenizer.json` it was made with.
    pub tokenizer: String,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// Documents in it.
    pub documents: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// SHA-256 of its files, by extension.
    pub files: BTreeMap<String, String>,
    /// The recipe it was forged by, every default filled in; empty where there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub recipe: String,
}

/// What the writer of a corpus cannot know by itself.
#[derive(Clone, Debug, Default)]
pub struct ManifestInfo {
    /// The corpus' name.
    pub source: String,
    /// SHA-256 of the `tokenizer.json` it was made with.
    pub tokenizer: String,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// The recipe it is forged by; empty where there is none.
    pub recipe: String,
}

impl Manifest {
    /// Version of the manifest written here.
    pub(crate) const VERSION: u32 = 1;

    /// Reads the manifest of the corpus at `prefix`, if it has one.
    pub fn read(prefix: &Path) -> Result<Option<Self>, CorpusError> {
        let path = path_of(prefix, "manifest.json");
        if !path.is_file() {
            return Ok(None);
        }
        let invalid = |reason: String| CorpusError::Invalid { file: path.clone(), reason };
        let manifest: Self =
            serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| invalid(error.to_string()))?;
        match manifest.version {
            Self::VERSION => Ok(Some(manifest)),
            other => Err(invalid(format!("version {other}, this program reads version {}", Self::VERSION))),
        }
    }
}

/// Bytes in hexadecimal, as hashes are written.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
