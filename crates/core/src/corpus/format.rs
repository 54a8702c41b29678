//! What reader, writer and checker of a corpus agree on: Megatron-LM's constants, the token types, the errors.

use std::path::{Path, PathBuf};

/// First bytes of an index.
pub const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
/// Bytes of an index before its arrays.
pub const HEADER: u64 = 34;

/// Why a corpus cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file contradicts the format or itself.
    #[error("{}: byte {offset}: found {found}, expected {expected}; write the corpus again", file.display())]
    Malformed {
        /// The file at fault.
        file: PathBuf,
        /// Byte offset of the entry at fault.
        offset: u64,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A file became shorter while it was read.
    #[error(
        "{}: byte {offset} cannot be read: the file has {left} bytes, and had {opened} when it was opened; restore the \
         file, and start the same command again",
        file.display()
    )]
    CutShort {
        /// The file.
        file: PathBuf,
        /// Byte offset of the read.
        offset: u64,
        /// Bytes in it when it was opened.
        opened: u64,
        /// Bytes in it now.
        left: u64,
    },
    /// The operating system refused to read a file that was opened before.
    #[error(
        "{}: byte {offset} cannot be read: {error}; check the disk that holds the file, and start the same command again",
        file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Byte offset of the read.
        offset: u64,
        /// The reason.
        error: std::io::Error,
    },
    /// A token that the model has no embedding for.
    #[error(
        "{}: document {document}, token {place}: found token {token}, expected one below {vocab_size}, the vocabulary of \
         the model; run `hephaestus-forge verify {} --tokenizer FOLDER` with the folder of the tokenizer, and tokenize \
         the corpus again",
        file.display(),
        file.with_extension("").display()
    )]
    BeyondVocabulary {
        /// The `.bin` file.
        file: PathBuf,
        /// The document, counted from 0.
        document: u64,
        /// The place of the token in the document, counted from 0.
        place: u64,
        /// The token.
        token: i64,
        /// Tokens are below this.
        vocab_size: u32,
    },
    /// A caller asked for documents or tokens that the corpus does not hold.
    #[error("{}: {start}..{end} lies outside the corpus, which holds {held}", file.display())]
    OutOfRange {
        /// The file read.
        file: PathBuf,
        /// First item asked for.
        start: u64,
        /// One past the last.
        end: u64,
        /// How many there are.
        held: u64,
    },
    /// A document that cannot be written, a manifest that cannot be read, or rows that a corpus does not have.
    #[error("{}: {reason}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What was found, and what was expected.
        reason: String,
    },
    /// Rows asked for in a way that makes no order.
    #[error("{reason}")]
    Order {
        /// What was asked, and what was expected.
        reason: String,
    },
}

/// How a token is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// Two bytes.
    U16,
    /// Four bytes.
    I32,
}

impl TokenType {
    /// Bytes a token.
    pub fn width(self) -> u64 {
        match self {
            Self::U16 => 2,
            Self::I32 => 4,
        }
    }

    /// The code in an index.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::U16 => 8,
            Self::I32 => 4,
        }
    }

    /// The type that a code in an index stands for, of the two that corpora of tokens use.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::U16, Self::I32].into_iter().find(|token_type| token_type.code() == code)
    }
}

/// `PREFIX` with an extension appended; dots in its name are kept.
pub fn path_of(prefix: &Path, extension: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}
