//! Checks a corpus from the first byte to the last.
//!
//! Opening a corpus costs the same at any size, so it cannot look at every sequence; this does, independently of the code
//! that reads corpora for training, and lists everything it finds instead of stopping at the first. Files are streamed:
//! memory does not depend on the corpus.

use std::fmt::Write as _;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use hephaestus_core::corpus::format::{CorpusError, HEADER, MAGIC, TokenType, path_of};
use hephaestus_core::corpus::manifest::{Manifest, hex};
use hephaestus_core::figures;
use hephaestus_core::progress;

/// Problems of one file that are listed; the rest are counted.
const LISTED: u64 = 8;
/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is wrong, a sentence each; nothing when the corpus is sound.
    pub problems: Vec<String>,
    /// Sequences counted.
    pub sequences: u64,
    /// Documents counted.
    pub documents: u64,
    /// Tokens counted.
    pub tokens: u64,
    /// What was checked, in words.
    pub checked: Vec<String>,
}

/// Why a corpus could not even be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file is missing.
    #[error("{}: no such file; give the path of the corpus without .bin or .idx", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The manifest does not parse.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
}

/// Checks the corpus at `prefix`. Token ids are held against `vocab_size`, else against the manifest's.
pub fn verify(prefix: &Path, vocab_size: Option<u32>) -> Result<Report, VerifyError> {
    let (bin, idx) = (path_of(prefix, "bin"), path_of(prefix, "idx"));
    for path in [&idx, &bin] {
        if !path.is_file() {
            return Err(VerifyError::Missing(path.clone()));
        }
    }
    let mut report = Report::default();
    let manifest = Manifest::read(prefix)?;
    let bin_bytes = fs_err::metadata(&bin)?.len();
    let Some(header) = Header::read(&idx, &mut report)? else { return Ok(report) };
    sequences(&idx, &header, bin_bytes, &mut report)?;
    boundaries(&idx, &header, &mut report)?;
    let vocab_size = vocab_size.or(manifest.as_ref().map(|manifest| manifest.vocab_size));
    let loss = path_of(prefix, "loss");
    let loss = loss.is_file().then_some(loss);
    let index_digest = digest(&idx)?;
    let bin_digest = tokens(&bin, bin_bytes, header.width, vocab_size, &mut report)?;
    if let Some(loss) = &loss {
        let found = fs_err::metadata(loss)?.len();
        let expected = bin_bytes / header.width;
        if found != expected {
            report.problem(loss, &format!("{found} bytes, expected one for each of {expected} tokens"));
        }
        report.checked.push("loss weights".to_owned());
    }
    match &manifest {
        None => report.checked.push("no manifest: hashes not checked".to_owned()),
        Some(manifest) => {
            let mut digests = vec![(bin, bin_digest), (idx, index_digest)];
            if let Some(loss) = loss {
                let digest = digest(&loss)?;
                digests.push((loss, digest));
            }
            against_manifest(prefix, manifest, &digests, &mut report);
        }
    }
    Ok(report)
}

impl Report {
    fn problem(&mut self, path: &Path, what: &str) {
        self.problems.push(format!("{}: {what}", path.display()));
    }
}

/// Lists the first problems of a kind and counts the rest.
struct Several<'a> {
    path: &'a Path,
    count: u64,
    listed: Vec<String>,
}

impl<'a> Several<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, count: 0, listed: Vec::new() }
    }

    fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= LISTED {
            self.listed.push(format!("{}: {}", self.path.display(), what()));
        }
    }

    fn close(self, what: &str, report: &mut Report) {
        report.problems.extend(self.listed);
        if self.count > LISTED {
            let more = self.count - LISTED;
            report.problems.push(format!("{}: and {more} more {what}", self.path.display()));
        }
    }
}

/// The fixed part of an index.
struct Header {
    /// Bytes a token.
    width: u64,
    /// S.
    sequences: u64,
    /// D.
    boundaries: u64,
}

impl Header {
    fn read(idx: &Path, report: &mut Report) -> Result<Option<Self>, VerifyError> {
        let found = fs_err::metadata(idx)?.len();
        let mut bytes = [0_u8; HEADER as usize];
        if found < HEADER {
            report.problem(idx, &format!("{found} bytes, an index has at least {HEADER}"));
            return Ok(None);
        }
        fs_err::File::open(idx)?.read_exact(&mut bytes)?;
        let u64_at =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        if !bytes.starts_with(MAGIC) {
            report.problem(idx, "offset 0: not a Megatron-LM index (it begins with MMIDIDX)");
            return Ok(None);
        }
        let (version, code) = (u64_at(9), bytes[17]);
        if version != 1 {
            report.problem(idx, &format!("offset 9: version {version}, expected 1"));
        }
        let Some(token_type) = TokenType::from_code(code) else {
            report.problem(idx, &format!("offset 17: token type {code}, expected 8 (u16) or 4 (i32)"));
            return Ok(None);
        };
        let width = token_type.width();
        let header = Self { width, sequences: u64_at(18), boundaries: u64_at(26) };
        let (sequences, boundaries) = (u128::from(header.sequences), u128::from(header.boundaries));
        let expected = u128::from(HEADER) + 12 * sequences + 8 * boundaries;
        if u128::from(found) != expected && u128::from(found) != expected + sequences {
            report.problem(
                idx,
                &format!(
                    "{found} bytes, expected {expected} for {sequences} sequences and {boundaries} document boundaries"
                ),
            );
            return Ok(None);
        }
        (report.sequences, report.documents) = (header.sequences, header.boundaries.saturating_sub(1));
        Ok(Some(header))
    }
}

/// A little-endian array of an index, streamed.
fn array<const N: usize>(
    idx: &Path,
    at: u64,
) -> Result<impl FnMut() -> std::io::Result<[u8; N]> + use<N>, VerifyError> {
    let mut file = fs_err::File::open(idx)?;
    file.seek(SeekFrom::Start(at))?;
    let mut reader = BufReader::with_capacity(BLOCK, file);
    Ok(move || {
        let mut bytes = [0; N];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    })
}

fn sequences(idx: &Path, header: &Header, bin_bytes: u64, report: &mut Report) -> Result<(), VerifyError> {
    let mut lengths = array::<4>(idx, HEADER)?;
    let mut pointers = array::<8>(idx, HEADER + 4 * header.sequences)?;
    let mut several = Several::new(idx);
    let mut expected = 0_i128;
    for sequence in 0..header.sequences {
        let length = i32::from_le_bytes(lengths()?);
        let pointer = i64::from_le_bytes(pointers()?);
        if length < 0 {
            several.add(|| format!("sequence {sequence}: length {length}"));
        }
        if i128::from(pointer) != expected {
            several.add(|| format!("sequence {sequence}: begins at byte {pointer} of the .bin, expected {expected}"));
        }
        expected = i128::from(pointer) + i128::from(length.max(0)) * i128::from(header.width);
    }
    several.close("sequences", report);
    if expected != i128::from(bin_bytes) {
        let what = format!("its sequences end at byte {expected} of the .bin, which has {bin_bytes}");
        report.problem(idx, &what);
    }
    report.checked.push(format!("{} sequences", figures::thousands(header.sequences)));
    Ok(())
}

fn boundaries(idx: &Path, header: &Header, report: &mut Report) -> Result<(), VerifyError> {
    let mut boundaries = array::<8>(idx, HEADER + 12 * header.sequences)?;
    let mut several = Several::new(idx);
    let mut last = 0;
    for number in 0..header.boundaries {
        let boundary = i64::from_le_bytes(boundaries()?);
        if number == 0 && boundary != 0 {
            several.add(|| format!("the first document begins at sequence {boundary}, expected 0"));
        }
        if boundary < last {
            several.add(|| format!("document {number}: begins at sequence {boundary}, before {last}"));
        }
        last = boundary;
    }
    several.close("document boundaries", report);
    if i128::from(last) != i128::from(header.sequences) {
        report.problem(idx, &format!("the last document ends at sequence {last}, expected {}", header.sequences));
    }
    report.checked.push(format!("{} documents", figures::thousands(report.documents)));
    Ok(())
}

/// Looks at every token; returns the file's SHA-256.
fn tokens(
    bin: &Path,
    bytes: u64,
    width: u64,
    vocab_size: Option<u32>,
    report: &mut Report,
) -> Result<String, VerifyError> {
    if !bytes.is_multiple_of(width) {
        report.problem(bin, &format!("{bytes} bytes, no multiple of the {width} bytes a token takes"));
    }
    report.tokens = bytes / width;
    let bar = progress::bytes(bytes, "verifying");
    let limit = vocab_size.map_or(i64::from(i32::MAX), i64::from);
    let mut several = Several::new(bin);
    let mut hash = Sha256::new();
    let mut file = fs_err::File::open(bin)?;
    let mut block = vec![0_u8; BLOCK];
    let mut at = 0_u64;
    loop {
        let filled = fill(&mut file, &mut block)?;
        if filled == 0 {
            break;
        }
        let block = &block[..filled];
        hash.update(block);
        for (number, token) in block.chunks_exact(width as usize).enumerate() {
            let id = match *token {
                [a, b] => i64::from(u16::from_le_bytes([a, b])),
                [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
                _ => continue,
            };
            if id < 0 || id >= limit {
                several.add(|| format!("token {}: id {id}, the vocabulary has {limit}", at / width + number as u64));
            }
        }
        at += filled as u64;
        bar.inc(filled as u64);
    }
    bar.finish_and_clear();
    several.close("token ids outside the vocabulary", report);
    let mut checked = format!("{} token ids", figures::thousands(report.tokens));
    match vocab_size {
        Some(size) => _ = write!(checked, " below {}", figures::thousands(u64::from(size))),
        None => checked.push_str(" (vocabulary unknown: give --tokenizer)"),
    }
    report.checked.push(checked);
    Ok(hex(&hash.finalize()))
}

/// Reads until the block is full or the file ends, so that a token never straddles two blocks.
fn fill(file: &mut impl Read, block: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn digest(path: &Path) -> Result<String, VerifyError> {
    let mut hash = Sha256::new();
    let mut file = fs_err::File::open(path)?;
    let mut block = vec![0_u8; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&block[..read]),
        }
    }
}

fn against_manifest(prefix: &Path, manifest: &Manifest, digests: &[(PathBuf, String)], report: &mut Report) {
    let path = path_of(prefix, "manifest.json");
    let counts = [("documents", manifest.documents, report.documents), ("tokens", manifest.tokens, report.tokens)];
    for (what, promised, found) in counts {
        if promised != found {
            report.problem(&path, &format!("promises {promised} {what}, the corpus has {found}"));
        }
    }
    for (file, found) in digests {
        let name = file.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        match manifest.files.get(name) {
            Some(promised) if promised == found => {}
            Some(promised) => report.problem(file, &format!("SHA-256 {found}, the manifest promises {promised}")),
            None => report.problem(&path, &format!("has no hash for .{name}")),
        }
    }
    report.checked.push("hashes".to_owned());
}
