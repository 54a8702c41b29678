//! A tokenizer as its Hugging Face folder gives it: `tokenizer.json`, and the end-of-document token that its companions
//! name.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::corpus::manifest::hex;

/// Why a tokenizer folder is refused.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// No `tokenizer.json`.
    #[error("{}: no tokenizer.json here; {}", .0.display(), instead(.0))]
    Missing(PathBuf),
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file that does not parse.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A token that the vocabulary lacks.
    #[error("{}: the vocabulary has no token \"{token}\", which {named_by} names", path.display())]
    NoToken {
        /// The folder.
        path: PathBuf,
        /// The token.
        token: String,
        /// Who asks for it.
        named_by: &'static str,
    },
    /// The end-of-document token cannot be told.
    #[error("{}: no eos_token in tokenizer_config.json, special_tokens_map.json or config.json; give --end-of-document none or the token itself", .0.display())]
    NoEnd(PathBuf),
}

/// Advises on a folder without `tokenizer.json`: one that holds a tokenizer in another format is converted, as the model's
/// weights mean nothing with a new one.
fn instead(folder: &Path) -> String {
    let others = ["tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "vocab.txt"];
    match others.iter().find(|name| folder.join(name).is_file()) {
        Some(other) => format!(
            "{other} holds the tokenizer in another format: convert it with transformers (in Python, \
             AutoTokenizer.from_pretrained(\"{}\").save_pretrained(FOLDER)), and give that folder",
            folder.display()
        ),
        None => "give a folder in the Hugging Face layout, or make one with `hephaestus-forge tokenizer`".to_owned(),
    }
}

/// A tokenizer ready to encode.
#[derive(Debug)]
pub struct Vocabulary {
    /// Encodes and decodes.
    pub tokenizer: Tokenizer,
    /// Ids run below this.
    pub size: u32,
    /// SHA-256 of `tokenizer.json`, in hexadecimal.
    pub fingerprint: String,
    folder: PathBuf,
}

impl Vocabulary {
    /// Loads a folder, or a `tokenizer.json` itself.
    pub fn load(path: &Path) -> Result<Self, VocabularyError> {
        let file = if path.is_file() { path.to_owned() } else { path.join("tokenizer.json") };
        if !file.is_file() {
            return Err(VocabularyError::Missing(path.to_owned()));
        }
        let bytes = fs_err::read(&file)?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|error| VocabularyError::Invalid { path: file.clone(), reason: error.to_string() })?;
        // A tokenizer saved with truncation or padding would quietly cut documents.
        tokenizer.with_padding(None);
        let untruncated = tokenizer.with_truncation(None).map(|_| ());
        untruncated.map_err(|error| VocabularyError::Invalid { path: file.clone(), reason: error.to_string() })?;
        // A document that happens to contain "<|endoftext|>" must not end there.
        tokenizer.set_encode_special_tokens(true);
        let size = tokenizer.get_vocab(true).into_values().max().map_or(0, |largest| largest + 1);
        let fingerprint = hex(&Sha256::digest(&bytes));
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { tokenizer, size, fingerprint, folder })
    }

    /// The id of the end-of-document token: the eos token of the folder's own configuration.
    pub fn end_of_document(&self) -> Result<u32, VocabularyError> {
        for name in ["tokenizer_config.json", "special_tokens_map.json", "config.json"] {
            let path = self.folder.join(name);
            if !path.is_file() {
                continue;
            }
            let text = fs_err::read_to_string(&path)?;
            let config: Value = serde_json::from_str(&text)
                .map_err(|error| VocabularyError::Invalid { path: path.clone(), reason: error.to_string() })?;
            let token = match config.get("eos_token") {
                Some(Value::Object(token)) => token.get("content").and_then(Value::as_str),
                Some(token) => token.as_str(),
                None => None,
            };
            if let Some(token) = token {
                return self.token(token, "eos_token");
            }
        }
        Err(VocabularyError::NoEnd(self.folder.clone()))
    }

    /// The id of a token as written in the vocabulary.
    pub fn token(&self, token: &str, named_by: &'static str) -> Result<u32, VocabularyError> {
        self.tokenizer.token_to_id(token).ok_or_else(|| VocabularyError::NoToken {
            path: self.folder.clone(),
            token: token.to_owned(),
            named_by,
        })
    }

    /// Encodes a document as plain text: no token is added, and special tokens in it are spelled out.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }
}
