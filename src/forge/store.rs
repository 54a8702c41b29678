//! A corpus on disk as this module writes it and reads it back: Megatron-LM's `.bin`/`.idx`, a manifest, and a `.loss`
//! file where some tokens must not be learned.
//!
//! Everything is written beside its place, synced and renamed, the manifest last: a corpus with a manifest is whole.
//! Reading is positional and checks bounds first, so opening costs the same at any size and a lying index is an error.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::vocabulary::hex;

/// First bytes of an index.
pub const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
/// Bytes of an index before its arrays.
pub const HEADER: u64 = 34;
/// Version of the manifest written here.
const VERSION: u32 = 1;
/// A loss weight of 1.0.
const LEARNED: u8 = 255;

/// Why a corpus cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// The file system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file that is not what it should be.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
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
    fn code(self) -> u8 {
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
}

/// What the writer of a corpus cannot know by itself.
#[derive(Clone, Debug)]
pub struct ManifestInfo {
    /// The corpus' name.
    pub source: String,
    /// SHA-256 of the `tokenizer.json` it was made with.
    pub tokenizer: String,
    /// Token ids are below this.
    pub vocab_size: u32,
}

/// `PREFIX` with an extension appended; dots in its name are kept.
pub fn path_of(prefix: &Path, extension: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

impl Manifest {
    /// Reads the manifest of the corpus at `prefix`, if it has one.
    pub fn read(prefix: &Path) -> Result<Option<Self>, CorpusError> {
        let path = path_of(prefix, "manifest.json");
        if !path.is_file() {
            return Ok(None);
        }
        let invalid = |reason: String| CorpusError::Invalid { path: path.clone(), reason };
        let manifest: Self =
            serde_json::from_slice(&fs_err::read(&path)?).map_err(|error| invalid(error.to_string()))?;
        match manifest.version {
            VERSION => Ok(Some(manifest)),
            other => Err(invalid(format!("version {other}, this program reads version {VERSION}"))),
        }
    }
}

/// A file on its way: hashed as it is written, removed unless it is finished.
struct Pending {
    to: PathBuf,
    temporary: PathBuf,
    file: BufWriter<fs_err::File>,
    hash: Sha256,
}

impl Pending {
    fn create(prefix: &Path, extension: &str) -> Result<Self, CorpusError> {
        let (to, temporary) = (path_of(prefix, extension), path_of(prefix, &format!("{extension}.tmp")));
        let file = BufWriter::with_capacity(1 << 20, fs_err::File::create(&temporary)?);
        Ok(Self { to, temporary, file, hash: Sha256::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    /// Syncs; returns the SHA-256.
    fn sync(&mut self) -> std::io::Result<String> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(hex(&self.hash.clone().finalize()))
    }

    fn rename(self) -> std::io::Result<()> {
        fs_err::rename(&self.temporary, &self.to)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Renamed by now, unless something failed; then nothing half-written stays, and no second error matters.
        let _ = fs_err::remove_file(&self.temporary);
    }
}

/// Writes a corpus, a document at a time.
pub struct Writer {
    prefix: PathBuf,
    token_type: TokenType,
    bin: Pending,
    loss: Option<Pending>,
    lengths: Vec<i32>,
    tokens: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a corpus. What is at `prefix` already stays until [`Self::finish`].
    pub fn create(prefix: &Path, token_type: TokenType) -> Result<Self, CorpusError> {
        let bin = Pending::create(prefix, "bin")?;
        let (lengths, buffer) = (Vec::new(), Vec::new());
        Ok(Self { prefix: prefix.to_owned(), token_type, bin, loss: None, lengths, tokens: 0, buffer })
    }

    /// Appends a document; `loss` is one weight a token, 255 for 1.0, all of them 255 where it is absent.
    pub fn document(&mut self, tokens: &[u32], loss: Option<&[u8]>) -> Result<(), CorpusError> {
        let invalid = |reason: String| CorpusError::Invalid { path: path_of(&self.prefix, "bin"), reason };
        let number = self.lengths.len();
        let length = i32::try_from(tokens.len()).map_err(|_| {
            invalid(format!("document {number}: {} tokens, a sequence holds at most {}", tokens.len(), i32::MAX))
        })?;
        if let Some(loss) = loss.filter(|loss| loss.len() != tokens.len()) {
            return Err(invalid(format!("document {number}: {} loss weights for {length} tokens", loss.len())));
        }
        let most = match self.token_type {
            TokenType::U16 => u32::from(u16::MAX),
            TokenType::I32 => i32::MAX as u32,
        };
        if let Some(id) = tokens.iter().find(|id| **id > most) {
            return Err(invalid(format!("document {number}: token id {id} does not fit {:?}", self.token_type)));
        }
        self.buffer.clear();
        let width = self.token_type.width() as usize;
        self.buffer.extend(tokens.iter().flat_map(|id| id.to_le_bytes().into_iter().take(width)));
        self.bin.write(&self.buffer)?;
        self.weights(loss, tokens.len())?;
        self.lengths.push(length);
        self.tokens += tokens.len() as u64;
        Ok(())
    }

    /// Appends loss weights; the file is begun with the first weight that is not 1.0.
    fn weights(&mut self, loss: Option<&[u8]>, tokens: usize) -> Result<(), CorpusError> {
        let special = loss.filter(|loss| loss.iter().any(|weight| *weight != LEARNED));
        if self.loss.is_none() && special.is_some() {
            let mut file = Pending::create(&self.prefix, "loss")?;
            for length in &self.lengths {
                file.write(&vec![LEARNED; *length as usize])?;
            }
            self.loss = Some(file);
        }
        if let Some(file) = &mut self.loss {
            match special {
                Some(weights) => file.write(weights)?,
                None => file.write(&vec![LEARNED; tokens])?,
            }
        }
        Ok(())
    }

    /// Puts the corpus in its place.
    pub fn finish(mut self, info: ManifestInfo) -> Result<Manifest, CorpusError> {
        let mut index = Pending::create(&self.prefix, "idx")?;
        let documents = self.lengths.len() as u64;
        index.write(MAGIC)?;
        index.write(&1_u64.to_le_bytes())?;
        index.write(&[self.token_type.code()])?;
        index.write(&documents.to_le_bytes())?;
        index.write(&(documents + 1).to_le_bytes())?;
        for length in &self.lengths {
            index.write(&length.to_le_bytes())?;
        }
        let mut at = 0_u64;
        for length in &self.lengths {
            index.write(&at.to_le_bytes())?;
            at += *length as u64 * self.token_type.width();
        }
        for boundary in 0..=documents {
            index.write(&boundary.to_le_bytes())?;
        }
        let mut files = BTreeMap::from([("bin".to_owned(), self.bin.sync()?), ("idx".to_owned(), index.sync()?)]);
        if let Some(loss) = &mut self.loss {
            files.insert("loss".to_owned(), loss.sync()?);
        }
        let ManifestInfo { source, tokenizer, vocab_size } = info;
        let tokens = self.tokens;
        let manifest = Manifest { version: VERSION, source, tokenizer, vocab_size, documents, tokens, files };
        let mut json = Pending::create(&self.prefix, "manifest.json")?;
        json.write(
            format!("{}\n", serde_json::to_string_pretty(&manifest).map_err(std::io::Error::other)?).as_bytes(),
        )?;
        json.sync()?;
        // An older corpus in the same place loses its manifest first: a mixture of both never has one.
        for extension in ["manifest.json", "loss"] {
            match fs_err::remove_file(path_of(&self.prefix, extension)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        self.bin.rename()?;
        index.rename()?;
        if let Some(loss) = self.loss {
            loss.rename()?;
        }
        json.rename()?;
        let folder = self.prefix.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        fs_err::File::open(folder)?.sync_all()?;
        Ok(manifest)
    }
}

/// A corpus opened for reading.
#[derive(Debug)]
pub struct Corpus {
    prefix: PathBuf,
    index: fs_err::File,
    bin: fs_err::File,
    token_type: TokenType,
    sequences: u64,
    documents: u64,
    tokens: u64,
    manifest: Option<Manifest>,
}

impl Corpus {
    /// Opens the corpus at `prefix`: its header and sizes are checked, its arrays where they are used.
    pub fn open(prefix: &Path) -> Result<Self, CorpusError> {
        let path = path_of(prefix, "idx");
        let invalid = |reason: String| CorpusError::Invalid { path: path.clone(), reason };
        let index = fs_err::File::open(&path)?;
        let found = index.metadata()?.len();
        if found < HEADER {
            return Err(invalid(format!("{found} bytes, an index has at least {HEADER}")));
        }
        let mut header = [0; HEADER as usize];
        index.file().read_exact_at(&mut header, 0)?;
        let number =
            |at: usize| header[at..at + 8].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        if !header.starts_with(MAGIC) {
            return Err(invalid("offset 0: not a Megatron-LM index (it begins with MMIDIDX)".to_owned()));
        }
        let (version, code, sequences, boundaries) = (number(9), header[17], number(18), number(26));
        if version != 1 {
            return Err(invalid(format!("offset 9: version {version}, expected 1")));
        }
        let token_type = TokenType::from_code(code)
            .ok_or_else(|| invalid(format!("offset 17: token type {code}, expected 8 (u16) or 4 (i32)")))?;
        let arrays = u128::from(HEADER) + 12 * u128::from(sequences) + 8 * u128::from(boundaries);
        if u128::from(found) < arrays || boundaries == 0 {
            let claimed = format!("{sequences} sequences and {boundaries} document boundaries");
            return Err(invalid(format!("{found} bytes, expected {arrays} for {claimed}")));
        }
        let bin = fs_err::File::open(path_of(prefix, "bin"))?;
        let tokens = bin.metadata()?.len() / token_type.width();
        let manifest = Manifest::read(prefix)?;
        let (prefix, documents) = (prefix.to_owned(), boundaries - 1);
        Ok(Self { prefix, index, bin, token_type, sequences, documents, tokens, manifest })
    }

    /// Documents in it.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Tokens in it.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Bytes a token.
    pub fn token_size(&self) -> usize {
        self.token_type.width() as usize
    }

    /// The manifest, if it has one.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The tokens of a document, as offsets in tokens.
    pub fn document_range(&self, document: u64) -> Result<Range<u64>, CorpusError> {
        let boundaries = HEADER + 12 * self.sequences;
        let start = self.start_of(self.index_u64(boundaries + 8 * document)?)?;
        let end = self.start_of(self.index_u64(boundaries + 8 * document + 8)?)?;
        if start > end || end > self.tokens {
            let reason = format!("document {document}: tokens {start} to {end} of {}", self.tokens);
            return Err(CorpusError::Invalid { path: path_of(&self.prefix, "idx"), reason });
        }
        Ok(start..end)
    }

    /// Appends the tokens of a range that [`Self::document_range`] gave.
    pub fn read(&self, range: Range<u64>, out: &mut Vec<i64>) -> Result<(), CorpusError> {
        let width = self.token_type.width();
        let mut bytes = vec![0; ((range.end.min(self.tokens).saturating_sub(range.start)) * width) as usize];
        self.bin.file().read_exact_at(&mut bytes, range.start * width)?;
        out.extend(bytes.chunks_exact(width as usize).map(|token| match *token {
            [a, b] => i64::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
            _ => 0,
        }));
        Ok(())
    }

    /// First token of a sequence; the end of the corpus for the one after the last.
    fn start_of(&self, sequence: u64) -> Result<u64, CorpusError> {
        if sequence >= self.sequences {
            return Ok(self.tokens);
        }
        Ok(self.index_u64(HEADER + 4 * self.sequences + 8 * sequence)? / self.token_type.width())
    }

    fn index_u64(&self, at: u64) -> Result<u64, CorpusError> {
        let mut bytes = [0; 8];
        self.index.file().read_exact_at(&mut bytes, at)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> ManifestInfo {
        ManifestInfo { source: "s".to_owned(), tokenizer: "t".to_owned(), vocab_size: 70_000 }
    }

    #[test]
    fn documents_come_back_as_they_were_written_in_both_widths() {
        for (token_type, large) in [(TokenType::U16, 65_535), (TokenType::I32, 69_999)] {
            let folder = tempfile::tempdir().unwrap();
            let prefix = folder.path().join("a.b");
            let documents: [&[u32]; 3] = [&[1, large, 3], &[], &[9]];
            let mut writer = Writer::create(&prefix, token_type).unwrap();
            documents.iter().for_each(|tokens| writer.document(tokens, None).unwrap());
            let manifest = writer.finish(info()).unwrap();
            assert_eq!((manifest.documents, manifest.tokens, manifest.files.len()), (3, 4, 2));
            let corpus = Corpus::open(&prefix).unwrap();
            assert_eq!(corpus.manifest(), Some(&manifest));
            for (number, expected) in documents.iter().enumerate() {
                let mut tokens = Vec::new();
                corpus.read(corpus.document_range(number as u64).unwrap(), &mut tokens).unwrap();
                assert_eq!(tokens, expected.iter().map(|id| i64::from(*id)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn loss_weights_are_written_only_where_some_token_is_not_learned() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("c");
        let mut writer = Writer::create(&prefix, TokenType::U16).unwrap();
        writer.document(&[1, 2], Some(&[255, 255])).unwrap();
        writer.document(&[3, 4], Some(&[0, 255])).unwrap();
        writer.document(&[5], None).unwrap();
        writer.finish(info()).unwrap();
        assert_eq!(fs_err::read(path_of(&prefix, "loss")).unwrap(), [255, 255, 0, 255, 255]);
        // A corpus written over it does not inherit the weights.
        let mut writer = Writer::create(&prefix, TokenType::U16).unwrap();
        writer.document(&[1], Some(&[255])).unwrap();
        writer.finish(info()).unwrap();
        assert!(!path_of(&prefix, "loss").exists());
    }

    #[test]
    fn an_unfinished_corpus_leaves_nothing_and_a_token_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("c"), TokenType::U16).unwrap();
        let error = writer.document(&[70_000], None).unwrap_err().to_string();
        assert!(error.ends_with("c.bin: document 0: token id 70000 does not fit U16"), "{error}");
        drop(writer);
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}
