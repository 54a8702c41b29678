//! Writes a corpus: Megatron-LM's `.bin`/`.idx`, a manifest, and a `.loss` file where some tokens must not be learned.
//!
//! Everything is written beside its place, synced and renamed, the manifest last: a corpus with a manifest is whole.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::format::{CorpusError, MAGIC, TokenType, path_of};
use super::manifest::{Manifest, ManifestInfo, hex};

/// A loss weight of 1.0.
const LEARNED: u8 = 255;

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
        let invalid = |reason: String| CorpusError::Invalid { file: path_of(&self.prefix, "bin"), reason };
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
        match self.token_type {
            TokenType::U16 => self.buffer.extend(tokens.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            TokenType::I32 => self.buffer.extend(tokens.iter().flat_map(|id| id.to_le_bytes())),
        }
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
        let ManifestInfo { source, tokenizer, vocab_size, recipe } = info;
        let tokens = self.tokens;
        let manifest =
            Manifest { version: Manifest::VERSION, source, tokenizer, vocab_size, documents, tokens, files, recipe };
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

#[cfg(test)]
mod tests {
    use super::super::index::Corpus;
    use super::*;

    fn info() -> ManifestInfo {
        ManifestInfo {
            source: "s".to_owned(),
            tokenizer: "t".to_owned(),
            vocab_size: 70_000,
            ..ManifestInfo::default()
        }
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
