//! Documents to a token corpus.
//!
//! Units are taken in bounded chunks; a chunk's documents are read and encoded on all cores, then written in order, so the
//! corpus does not depend on the number of cores and memory does not depend on the corpus.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::readers::{BadRecord, InputError, Reader, Unit};
use super::render::Renderer;
use hephaestus_core::corpus::format::TokenType;
use hephaestus_core::corpus::{CorpusError, Manifest, ManifestInfo, Writer};
use hephaestus_core::progress;
use hephaestus_core::vocabulary::{Vocabulary, VocabularyError};

/// Bytes of input in flight.
const CHUNK: u64 = 8 << 20;
/// Units in flight.
const CHUNK_UNITS: usize = 1 << 14;
/// Vocabularies smaller than this are written as u16, like Megatron-LM's.
const U16_BELOW: u32 = 65_500;

/// What is written after each document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndOfDocument {
    /// The tokenizer's eos token.
    Auto,
    /// Nothing.
    None,
    /// This token.
    Token(String),
}

impl std::str::FromStr for EndOfDocument {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "none" => Self::None,
            token => Self::Token(token.to_owned()),
        })
    }
}

/// How to tokenize.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder with `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// The corpus' path without extension.
    pub output: PathBuf,
    /// The corpus' name in its manifest.
    pub source: String,
    /// What is written after each document.
    pub end_of_document: EndOfDocument,
    /// Whether a bad record ends it.
    pub strict: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Tokenized {
    /// As written.
    pub manifest: Manifest,
    /// Bytes of text in the documents.
    pub bytes: u64,
    /// Records skipped as bad.
    pub bad: u64,
    /// Documents left out because an equal one came before.
    pub repeated: u64,
    /// Time it took.
    pub took: Duration,
}

/// Why no corpus was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    /// An input that cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The tokenizer.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// A bad record, in strict mode.
    #[error("{0} (--strict)")]
    Record(BadRecord),
    /// Inputs without a document.
    #[error("the inputs hold no document ({bad} bad records); no corpus was written")]
    Empty {
        /// Records skipped as bad.
        bad: u64,
    },
    /// The corpus cannot be written.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The folder of the corpus cannot be made.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A document encoded.
struct Encoded {
    tokens: Vec<u32>,
    bytes: u64,
    digest: Option<[u8; 32]>,
}

/// Reads `inputs`, writes the corpus. `report` hears of every bad record.
pub fn tokenize(
    reader: &Reader,
    settings: &Settings,
    report: &mut dyn FnMut(&BadRecord),
) -> Result<Tokenized, TokenizeError> {
    let started = Instant::now();
    let vocabulary = Vocabulary::load(&settings.tokenizer)?;
    let end = match &settings.end_of_document {
        EndOfDocument::Auto => Some(vocabulary.end_of_document()?),
        EndOfDocument::None => None,
        EndOfDocument::Token(token) => Some(vocabulary.token(token, "--end-of-document")?),
    };
    let renderer = Renderer::plain();
    let listing = reader.list()?;
    if let Some(folder) = settings.output.parent().filter(|folder| *folder != Path::new("")) {
        fs_err::create_dir_all(folder)?;
    }
    let token_type = if vocabulary.size < U16_BELOW { TokenType::U16 } else { TokenType::I32 };
    let mut writer = Writer::create(&settings.output, token_type)?;
    let bar = progress::bytes(listing.bytes, "tokenizing");
    let (mut documents, mut bytes, mut bad, mut repeated) = (0_u64, 0, 0, 0);
    let mut digests = HashSet::new();
    let mut units = reader.units(&listing);
    loop {
        let chunk = chunk(&mut units, CHUNK);
        if chunk.is_empty() {
            break;
        }
        let encoded: Vec<Result<Encoded, BadRecord>> =
            chunk.par_iter().flat_map_iter(|unit| encode(unit, reader, &renderer, &vocabulary, end)).collect();
        for document in encoded {
            let document = match document {
                Ok(document) => document,
                Err(record) if settings.strict => return Err(TokenizeError::Record(record)),
                Err(record) => {
                    bad += 1;
                    bar.suspend(|| report(&record));
                    continue;
                }
            };
            if document.digest.is_some_and(|digest| !digests.insert(digest)) {
                repeated += 1;
                continue;
            }
            writer.document(&document.tokens, None)?;
            documents += 1;
            bytes += document.bytes;
        }
        bar.inc(chunk.iter().flatten().map(Unit::bytes).sum());
    }
    bar.finish_and_clear();
    if documents == 0 {
        return Err(TokenizeError::Empty { bad });
    }
    let manifest = writer.finish(ManifestInfo {
        source: settings.source.clone(),
        tokenizer: vocabulary.fingerprint.clone(),
        vocab_size: vocabulary.size,
    })?;
    Ok(Tokenized { manifest, bytes, bad, repeated, took: started.elapsed() })
}

fn encode(
    unit: &Result<Unit, BadRecord>,
    reader: &Reader,
    renderer: &Renderer,
    vocabulary: &Vocabulary,
    end: Option<u32>,
) -> Vec<Result<Encoded, BadRecord>> {
    let documents = match unit {
        Ok(unit) => reader.documents(unit),
        Err(bad) => vec![Err(bad.clone())],
    };
    let encode = |document: crate::document::Document| {
        let text =
            renderer.render(&document).map_err(|reason| BadRecord { origin: document.origin.clone(), reason })?.text;
        let mut tokens = vocabulary
            .encode(&text)
            .map_err(|reason| BadRecord { origin: document.origin.clone(), reason: format!("tokenizer: {reason}") })?;
        tokens.extend(end);
        let digest = reader.unique().then(|| Sha256::digest(text.as_bytes()).into());
        Ok(Encoded { tokens, bytes: text.len() as u64, digest })
    };
    documents.into_iter().map(|document| document.and_then(encode)).collect()
}

/// The next units, up to `bytes` of input together (always one at least).
pub(super) fn chunk(
    units: &mut dyn Iterator<Item = Result<Unit, BadRecord>>,
    bytes: u64,
) -> Vec<Result<Unit, BadRecord>> {
    let mut taken = Vec::new();
    let mut size = 0;
    while size < bytes && taken.len() < CHUNK_UNITS {
        let Some(unit) = units.next() else { break };
        size += unit.as_ref().map_or(0, Unit::bytes);
        taken.push(unit);
    }
    taken
}
