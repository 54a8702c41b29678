//! The bytes of a file, whether it lies there plain, gzipped or as zstd.
//!
//! What a file is packed with is told by its first bytes, not by its name. Gzip files of several members and zstd files of
//! several frames are read to their end. Nobody unpacks more than was asked for, so a small file that unpacks to a huge one
//! costs no more than the reader's limit.

use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Suffixes of packed files, which stand behind the extension of what is packed.
const SUFFIXES: &[&str] = &["gz", "zst"];

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Packing {
    /// By the first bytes of a file; four are enough.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            // A frame, or a skippable frame in front of one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A file's bytes, unpacked.
pub struct Stream {
    source: Box<dyn Read + Send>,
    /// Bytes taken from the disk so far.
    taken: Arc<AtomicU64>,
    /// How the file is packed.
    pub packing: Packing,
}

impl Stream {
    /// Counts the bytes taken from the disk so far: what progress counts, also where the file is packed.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.taken.clone()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.read(buffer)
    }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a file for its unpacked bytes.
///
/// # Errors
/// The file cannot be opened or its first bytes cannot be read.
pub fn open(path: &Path) -> io::Result<Stream> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: fs_err::File::open(path)?, taken: taken.clone() };
    let mut file = BufReader::with_capacity(BLOCK, counted);
    let packing = Packing::of(file.fill_buf()?);
    let source: Box<dyn Read + Send> = match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
    };
    Ok(Stream { source, taken, packing })
}

/// Opens a plain file at a byte.
///
/// # Errors
/// The file cannot be opened, or has no such place.
pub fn open_at(path: &Path, byte: u64) -> io::Result<Stream> {
    let taken = Arc::new(AtomicU64::new(0));
    let mut file = fs_err::File::open(path)?;
    file.seek(SeekFrom::Start(byte))?;
    let counted = Counted { inner: file, taken: taken.clone() };
    Ok(Stream { source: Box::new(counted), taken, packing: Packing::Plain })
}

/// A whole file, unpacked, of `limit` bytes at most.
///
/// # Errors
/// In words: the file cannot be read, is a packed file that is damaged, or is larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let stream = open(path).map_err(|error| error.to_string())?;
    let packing = stream.packing;
    let mut bytes = Vec::new();
    match stream.take(limit.saturating_add(1)).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > limit => {
            let unpacked = if packing == Packing::Plain { "" } else { " when unpacked" };
            Err(format!("over the limit of {limit} bytes{unpacked} (max_bytes, --max-file-bytes)"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(damaged(packing, bytes.len() as u64, &error)),
    }
}

/// What is wrong with a stream that ended in an error `after` unpacked bytes.
pub(super) fn damaged(packing: Packing, after: u64, error: &io::Error) -> String {
    match packing {
        Packing::Plain => error.to_string(),
        Packing::Gzip => format!("gzip stream damaged or cut off after {after} unpacked bytes: {error}"),
        Packing::Zstd => format!("zstd stream damaged or cut off after {after} unpacked bytes: {error}"),
    }
}

/// A file's name without the suffix of its packing: `a.jsonl.zst` is `a.jsonl`.
#[must_use]
pub fn unpacked_name(path: &Path) -> &Path {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(suffix) if SUFFIXES.iter().any(|known| known.eq_ignore_ascii_case(suffix)) => {
            path.file_stem().map_or(path, Path::new)
        }
        _ => path,
    }
}

/// A file's extension in small letters, packing aside; empty where it has none.
#[must_use]
pub fn extension(path: &Path) -> String {
    let extension = unpacked_name(path).extension().and_then(|extension| extension.to_str());
    extension.unwrap_or("").to_ascii_lowercase()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    /// As `gzip` packs it.
    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_and_frames_follow_each_other_and_the_name_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        for packed in [
            b"onetwo".to_vec(),
            [gzip(b"one"), gzip(b"two")].concat(),
            [zstd::encode_all(&b"one"[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()].concat(),
        ] {
            fs_err::write(&path, packed).unwrap();
            assert_eq!(read(&path, 6).unwrap(), b"onetwo");
            assert!(read(&path, 5).unwrap_err().starts_with("over the limit of 5 bytes"));
        }
    }

    #[test]
    fn a_small_file_that_unpacks_to_a_huge_one_is_refused_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.gz");
        fs_err::write(&path, gzip(&vec![b'x'; 50 << 20])).unwrap();
        let reason = read(&path, 1000).unwrap_err();
        assert_eq!(reason, "over the limit of 1000 bytes when unpacked (max_bytes, --max-file-bytes)");
    }

    #[test]
    fn a_stream_that_is_cut_off_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gz");
        let packed = gzip(b"some text that is long enough to be cut");
        fs_err::write(&path, &packed[..packed.len() - 4]).unwrap();
        let reason = read(&path, 1000).unwrap_err();
        assert!(reason.starts_with("gzip stream damaged or cut off after 39 unpacked bytes: "), "{reason}");
        let packed = zstd::encode_all(&b"text"[..], 1).unwrap();
        fs_err::write(&path, &packed[..packed.len() - 2]).unwrap();
        let reason = read(&path, 1000).unwrap_err();
        assert!(reason.starts_with("zstd stream damaged or cut off after "), "{reason}");
    }

    #[test]
    fn the_extension_of_a_packed_file_is_that_of_what_is_packed() {
        for (path, expected) in [("a/B.JSON", "json"), ("x.jsonl.zst", "jsonl"), ("p.html.GZ", "html"), ("gz", "")] {
            assert_eq!(extension(Path::new(path)), expected);
        }
    }
}
