//! Interim: stands in for `corpus::{index, writer, manifest}` until that branch is merged; then deleted.
#![allow(missing_docs, unreachable_pub)]
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{}: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    U16,
    I32,
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub source: String,
    pub tokenizer: String,
    pub vocab_size: u32,
    pub documents: u64,
    pub tokens: u64,
    pub files: std::collections::BTreeMap<String, String>,
}
pub struct ManifestInfo {
    pub source: String,
    pub tokenizer: String,
    pub vocab_size: u32,
}
pub fn path_of(prefix: &Path, extension: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(extension);
    path.into()
}
impl Manifest {
    pub fn read(prefix: &Path) -> Result<Option<Self>, CorpusError> {
        let path = path_of(prefix, ".manifest.json");
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs_err::read(&path)?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| CorpusError::Invalid { path, reason: error.to_string() })
    }
}
pub struct Writer {
    prefix: PathBuf,
    token_type: TokenType,
    bin: BufWriter<fs_err::File>,
    lengths: Vec<i32>,
}
impl Writer {
    pub fn create(prefix: &Path, token_type: TokenType) -> Result<Self, CorpusError> {
        let bin = BufWriter::new(fs_err::File::create(path_of(prefix, ".bin.tmp"))?);
        Ok(Self { prefix: prefix.to_owned(), token_type, bin, lengths: Vec::new() })
    }
    pub fn document(&mut self, tokens: &[u32], _loss: Option<&[u8]>) -> Result<(), CorpusError> {
        for token in tokens {
            match self.token_type {
                TokenType::U16 => self.bin.write_all(&(*token as u16).to_le_bytes())?,
                TokenType::I32 => self.bin.write_all(&token.to_le_bytes())?,
            }
        }
        self.lengths.push(tokens.len() as i32);
        Ok(())
    }
    pub fn finish(mut self, info: ManifestInfo) -> Result<Manifest, CorpusError> {
        self.bin.flush()?;
        let (code, width) = match self.token_type {
            TokenType::U16 => (8_u8, 2),
            TokenType::I32 => (4, 4),
        };
        let mut idx = b"MMIDIDX\0\0".to_vec();
        let count = self.lengths.len() as u64;
        idx.extend(1_u64.to_le_bytes());
        idx.push(code);
        idx.extend(count.to_le_bytes());
        idx.extend((count + 1).to_le_bytes());
        idx.extend(self.lengths.iter().flat_map(|length| length.to_le_bytes()));
        let mut at = 0_i64;
        for length in &self.lengths {
            idx.extend(at.to_le_bytes());
            at += i64::from(*length) * width;
        }
        (0..=count).for_each(|document| idx.extend(document.to_le_bytes()));
        fs_err::write(path_of(&self.prefix, ".idx"), &idx)?;
        fs_err::rename(path_of(&self.prefix, ".bin.tmp"), path_of(&self.prefix, ".bin"))?;
        let bin = fs_err::read(path_of(&self.prefix, ".bin"))?;
        let hash = |bytes: &[u8]| super::vocabulary::hex(&Sha256::digest(bytes));
        let files = [("bin".to_owned(), hash(&bin)), ("idx".to_owned(), hash(&idx))].into_iter().collect();
        let manifest = Manifest {
            version: 1,
            source: info.source,
            tokenizer: info.tokenizer,
            vocab_size: info.vocab_size,
            documents: count,
            tokens: (at / width) as u64,
            files,
        };
        let json = serde_json::to_vec_pretty(&manifest).map_err(std::io::Error::other)?;
        fs_err::write(path_of(&self.prefix, ".manifest.json"), json)?;
        Ok(manifest)
    }
}
pub struct Corpus {
    bin: Vec<u8>,
    starts: Vec<u64>,
    width: usize,
    manifest: Option<Manifest>,
}
impl Corpus {
    pub fn open(prefix: &Path) -> Result<Self, CorpusError> {
        let idx_path = path_of(prefix, ".idx");
        let idx = fs_err::read(&idx_path)?;
        let bin = fs_err::read(path_of(prefix, ".bin"))?;
        if idx.len() < 34 {
            let reason = format!("{} bytes, an index has at least 34", idx.len());
            return Err(CorpusError::Invalid { path: idx_path, reason });
        }
        let count = idx[18..26].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let width = if idx[17] == 8 { 2 } else { 4 };
        let mut starts = vec![0];
        for length in idx[34..].chunks_exact(4).take(count as usize) {
            let length = i32::from_le_bytes([length[0], length[1], length[2], length[3]]);
            starts.push(starts.last().copied().unwrap_or(0) + length as u64);
        }
        Ok(Self { bin, starts, width, manifest: Manifest::read(prefix)? })
    }
    pub fn documents(&self) -> u64 {
        self.starts.len() as u64 - 1
    }
    pub fn tokens(&self) -> u64 {
        self.bin.len() as u64 / self.width as u64
    }
    pub fn token_size(&self) -> usize {
        self.width
    }
    pub fn document_range(&self, document: u64) -> Result<Range<u64>, CorpusError> {
        Ok(self.starts[document as usize]..self.starts[document as usize + 1])
    }
    pub fn read(&self, range: Range<u64>, out: &mut Vec<i64>) -> Result<(), CorpusError> {
        let (from, to) = (range.start as usize * self.width, range.end as usize * self.width);
        out.extend(self.bin[from..to].chunks_exact(self.width).map(|token| match *token {
            [a, b] => i64::from(u16::from_le_bytes([a, b])),
            _ => i64::from(i32::from_le_bytes([token[0], token[1], token[2], token[3]])),
        }));
        Ok(())
    }
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = fs_err::remove_file(path_of(&self.prefix, ".bin.tmp"));
    }
}
