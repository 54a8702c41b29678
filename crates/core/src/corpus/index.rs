//! Reads a Megatron-LM indexed dataset (`prefix.bin`, `prefix.idx`), and the loss weights beside it (`prefix.loss`).
//!
//! Opening checks the header, the sizes and the outermost entries, whatever the size of the corpus; every other entry is
//! checked when it is read. A small index is held in memory.

use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::format::{CorpusError, HEADER, MAGIC, TokenType, path_of};
use super::manifest::{Manifest, hex};
use super::reader::Reader;
use super::storage::Storage;

/// Largest index held in memory, in bytes: that of 1.6 M documents.
const HELD: u64 = 32 << 20;

/// An open corpus.
#[derive(Debug)]
pub struct Corpus {
    bin: Storage,
    idx: Storage,
    loss: Option<Storage>,
    bytes: u64,
    size: u64,
    sequences: u64,
    boundaries: u64,
    manifest: Option<Manifest>,
}

impl Corpus {
    /// Opens `prefix.bin` and `prefix.idx`.
    ///
    /// # Errors
    /// Either file is missing, or the header, the sizes or the outermost entries contradict each other.
    pub fn open(prefix: &Path) -> Result<Self, CorpusError> {
        let (mut idx, bin) = (Storage::open(&path_of(prefix, "idx"))?, Storage::open(&path_of(prefix, "bin"))?);
        idx.hold(HELD)?;
        let (bytes, length) = (bin.length(), idx.length());
        let loss = path_of(prefix, "loss");
        let loss = if loss.exists() { Some(Storage::open(&loss)?) } else { None };
        let manifest = Manifest::read(prefix)?;
        let mut corpus = Self { bin, idx, loss, bytes, size: 0, sequences: 0, boundaries: 0, manifest };
        if length < HEADER {
            return Err(corpus.bad(0, format!("{length} bytes"), "at least 34 bytes"));
        }
        let magic: [u8; 9] = corpus.entry(0)?;
        if &magic != MAGIC {
            return Err(corpus.bad(0, format!("{magic:?}"), "the magic MMIDIDX"));
        }
        let version = u64::from_le_bytes(corpus.entry(9)?);
        if version != 1 {
            return Err(corpus.bad(9, format!("version {version}"), "version 1"));
        }
        let [kind] = corpus.entry(17)?;
        let Some(token_type) = TokenType::from_code(kind) else {
            let name = ["", "u8", "i8", "i16", "", "i64", "f64", "f32"].get(usize::from(kind)).unwrap_or(&"unknown");
            return Err(corpus.bad(17, format!("token type {kind} ({name})"), "4 (i32) or 8 (u16)"));
        };
        corpus.size = token_type.width();
        corpus.sequences = u64::from_le_bytes(corpus.entry(18)?);
        corpus.boundaries = u64::from_le_bytes(corpus.entry(26)?);
        let (s, d) = (u128::from(corpus.sequences), u128::from(corpus.boundaries));
        let need = 34 + 12 * s + 8 * d;
        if d == 0 || (u128::from(length) != need && u128::from(length) != need + s) {
            return Err(corpus.bad(
                18,
                format!("{s} sequences, {d} boundaries, {length} bytes"),
                "counts that fill the file",
            ));
        }
        if !bytes.is_multiple_of(corpus.size) {
            return Err(corpus.bad(17, format!("{bytes} bytes of tokens"), "a multiple of the token size"));
        }
        for (entry, wanted) in [(0, 0), (corpus.boundaries - 1, corpus.sequences)] {
            let found = corpus.boundary(entry)?;
            if found != wanted {
                return Err(corpus.bad(corpus.boundary_at(entry), format!("boundary {found}"), &wanted.to_string()));
            }
        }
        if corpus.sequences > 0 {
            if corpus.offset(0)? != 0 {
                return Err(corpus.bad(corpus.offset_at(0), "a first offset above 0".into(), "0"));
            }
            let last = corpus.sequences - 1;
            let count = i32::from_le_bytes(corpus.entry(HEADER + 4 * last)?);
            let end = u64::try_from(count).ok().and_then(|n| corpus.offset(last).ok()?.checked_add(n));
            if end != Some(corpus.tokens()) {
                return Err(corpus.bad(
                    HEADER + 4 * last,
                    format!("a last length of {count}"),
                    "the end of the .bin file",
                ));
            }
        } else if bytes != 0 {
            return Err(corpus.bad(18, "no sequences".into(), "sequences for the tokens of the .bin file"));
        }
        if let Some(loss) = corpus.loss.as_ref().filter(|loss| loss.length() != corpus.tokens()) {
            let (found, expected) = (format!("{} weights", loss.length()), format!("one a token, {}", corpus.tokens()));
            return Err(CorpusError::Malformed { file: loss.path().to_owned(), offset: 0, found, expected });
        }
        Ok(corpus)
    }

    /// Number of documents.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.boundaries - 1
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.bytes / self.size
    }

    /// Bytes a token: 2 (u16) or 4 (i32).
    #[must_use]
    pub fn token_size(&self) -> u64 {
        self.size
    }

    /// Path of its `.bin`.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.bin.path()
    }

    /// The manifest, if it has one.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Whether it has a `.loss`: some tokens are not learned, or not whole.
    #[must_use]
    pub fn has_weights(&self) -> bool {
        self.loss.is_some()
    }

    /// The tokens of document `i`, as offsets in tokens.
    ///
    /// # Errors
    /// There is no such document, or its entries are out of order.
    pub fn document_range(&self, i: u64) -> Result<Range<u64>, CorpusError> {
        if i >= self.documents() {
            let file = self.idx.path().to_owned();
            return Err(CorpusError::OutOfRange { file, start: i, end: i.saturating_add(1), held: self.documents() });
        }
        let (start, end) = (self.document_start(i)?, self.document_start(i + 1)?);
        if start > end {
            return Err(self.out_of_order(i));
        }
        Ok(start..end)
    }

    /// Where document `i` begins, an offset in tokens; for `i` = their number, where the last one ends.
    pub(super) fn document_start(&self, i: u64) -> Result<u64, CorpusError> {
        self.offset(self.boundary(i)?)
    }

    /// Where each of `documents` begins, and where the last one ends: offsets in tokens.
    pub(super) fn starts(&self, documents: Range<u64>) -> Result<Vec<u64>, CorpusError> {
        let at = self.boundary_at(documents.start);
        let raw = self.idx.bytes(at..self.boundary_at(documents.end) + 8)?;
        let boundaries = raw.as_chunks().0.iter().zip(documents.clone().chain([documents.end]));
        let boundaries = boundaries.map(|(bytes, i)| self.sequence(i, *bytes)).collect::<Result<Vec<_>, _>>()?;
        let (first, last) = (boundaries[0], boundaries[boundaries.len() - 1]);
        let spanned = last.saturating_sub(first);
        // Documents are a sequence each, unless another program wrote the corpus.
        if spanned > 4 * (documents.end - documents.start) || boundaries.iter().any(|b| !(first..=last).contains(b)) {
            return boundaries.into_iter().map(|sequence| self.offset(sequence)).collect();
        }
        let end = (last + 1).min(self.sequences);
        let raw = self.idx.bytes(self.offset_at(first)..self.offset_at(end))?;
        let raw = raw.as_chunks().0;
        let offset = |sequence: u64| match raw.get((sequence - first) as usize) {
            Some(bytes) => self.token(sequence, *bytes),
            None => Ok(self.tokens()),
        };
        boundaries.into_iter().map(offset).collect()
    }

    /// Its `.bin` and its `.loss`.
    pub(super) fn files(&self) -> (&Storage, Option<&Storage>) {
        (&self.bin, self.loss.as_ref())
    }

    /// Appends the tokens of `range` to `out`.
    ///
    /// # Errors
    /// The range lies outside the corpus, a token is negative, or the file cannot be read.
    pub fn read(&self, range: Range<u64>, out: &mut Vec<i64>) -> Result<(), CorpusError> {
        let mut reader = Reader::new(self);
        let stored = reader.tokens(range.clone())?;
        if let Some((place, token)) = stored.outside(i64::from(u32::MAX)) {
            return Err(self.negative(range.start + place, token));
        }
        stored.append(.., out);
        Ok(())
    }

    /// The error for a token below 0.
    pub(super) fn negative(&self, place: u64, token: i64) -> CorpusError {
        let (file, offset) = (self.bin.path().to_owned(), place * self.size);
        CorpusError::Malformed { file, offset, found: token.to_string(), expected: "a token of 0 or more".into() }
    }

    /// Appends the loss weights of `range` to `out`: 0 to 1, and 1 throughout where the corpus has no `.loss`.
    ///
    /// # Errors
    /// The range lies outside the corpus.
    pub fn read_weights(&self, range: Range<u64>, out: &mut Vec<f32>) -> Result<(), CorpusError> {
        Reader::new(self).weights(range, out)
    }

    /// A hash of what tells this corpus from another: its index's header and outermost entries, its size, and the hashes
    /// in its manifest. It costs the same whatever the size, so it does not see a change inside a corpus without a manifest.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn fingerprint(&self) -> Result<String, CorpusError> {
        let mut hash = Sha256::new();
        let length = self.idx.length();
        hash.update(self.bytes.to_le_bytes());
        hash.update(self.idx.bytes(0..length.min(4096))?);
        hash.update(self.idx.bytes(length.saturating_sub(4096)..length)?);
        for (name, file) in self.manifest.iter().flat_map(|manifest| &manifest.files) {
            hash.update(name);
            hash.update(file);
        }
        Ok(hex(&hash.finalize()))
    }

    fn entry<const N: usize>(&self, at: u64) -> Result<[u8; N], CorpusError> {
        self.idx.array(at)
    }

    /// Where boundary `i` stands in the index.
    fn boundary_at(&self, i: u64) -> u64 {
        HEADER + 12 * self.sequences + 8 * i
    }

    /// Where the offset of a sequence stands in the index.
    fn offset_at(&self, sequence: u64) -> u64 {
        HEADER + 4 * self.sequences + 8 * sequence
    }

    fn boundary(&self, i: u64) -> Result<u64, CorpusError> {
        self.sequence(i, self.entry(self.boundary_at(i))?)
    }

    fn offset(&self, sequence: u64) -> Result<u64, CorpusError> {
        if sequence == self.sequences {
            return Ok(self.tokens());
        }
        self.token(sequence, self.entry(self.offset_at(sequence))?)
    }

    /// The sequence that boundary `i` names.
    fn sequence(&self, i: u64, entry: [u8; 8]) -> Result<u64, CorpusError> {
        let found = i64::from_le_bytes(entry);
        let valid = u64::try_from(found).ok().filter(|n| *n <= self.sequences);
        valid.ok_or_else(|| self.bad(self.boundary_at(i), found.to_string(), "a sequence"))
    }

    /// Where a sequence begins, in tokens.
    fn token(&self, sequence: u64, entry: [u8; 8]) -> Result<u64, CorpusError> {
        let found = i64::from_le_bytes(entry);
        let valid = u64::try_from(found).ok().filter(|n| *n <= self.bytes && n.is_multiple_of(self.size));
        let bad = || self.bad(self.offset_at(sequence), found.to_string(), "the offset of a token in the .bin file");
        valid.map(|n| n / self.size).ok_or_else(bad)
    }

    /// The error for a document whose boundaries contradict those around it.
    pub(crate) fn out_of_order(&self, document: u64) -> CorpusError {
        self.bad(
            self.boundary_at(document),
            format!("document {document} elsewhere than its neighbours say"),
            "boundaries in order",
        )
    }

    fn bad(&self, offset: u64, found: String, expected: &str) -> CorpusError {
        CorpusError::Malformed { file: self.idx.path().to_owned(), offset, found, expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Vec<u8> {
        let mut idx = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08".to_vec();
        [2_u64, 3].iter().for_each(|n| idx.extend(n.to_le_bytes()));
        [2_i32, 1].iter().for_each(|n| idx.extend(n.to_le_bytes()));
        [0_i64, 4, 0, 1, 2].iter().for_each(|n| idx.extend(n.to_le_bytes()));
        idx
    }

    fn open(idx: &[u8]) -> Result<Corpus, CorpusError> {
        let folder = tempfile::tempdir()?;
        fs_err::write(folder.path().join("c.idx"), idx)?;
        fs_err::write(folder.path().join("c.bin"), [7, 0, 8, 0, 255, 255])?;
        Corpus::open(&folder.path().join("c"))
    }

    #[test]
    fn documents_are_read_back() {
        let corpus = open(&index()).unwrap();
        assert_eq!((corpus.documents(), corpus.tokens()), (2, 3));
        let mut out = vec![];
        corpus.read(corpus.document_range(1).unwrap(), &mut out).unwrap();
        assert_eq!(out, [65535]);
        assert!(corpus.document_range(2).is_err() && corpus.read(0..4, &mut out).is_err());
    }

    #[test]
    fn lying_and_truncated_indexes_are_refused() {
        (0..index().len()).for_each(|n| assert!(open(&index()[..n]).is_err(), "cut at {n}"));
        for at in [0, 9, 17, 18, 25, 26, 33, 38, 41, 42, 58, 74, 81] {
            let mut idx = index();
            idx[at] ^= 0x85;
            assert!(open(&idx).is_err(), "flipped at {at}");
        }
    }
}
