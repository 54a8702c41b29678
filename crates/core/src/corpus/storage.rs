//! A file's bytes, read in place. Nothing is mapped: a map of a file that is cut short, or that a network disk no longer
//! gives, ends the process by SIGBUS, where a read returns an error.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fs_err::File;

use super::CorpusError;

/// An open file that is only read.
#[derive(Debug)]
pub(super) struct Storage {
    file: File,
    length: u64,
    /// The whole file, where it is held in memory.
    held: Option<Vec<u8>>,
}

impl Storage {
    /// Opens `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, held: None })
    }

    /// Reads the file into memory if it has at most `most` bytes. Reads are then of what it held at this moment.
    pub(super) fn hold(&mut self, most: u64) -> Result<(), CorpusError> {
        if self.length <= most {
            self.held = Some(self.bytes(0..self.length)?.into_owned());
        }
        Ok(())
    }

    /// Bytes in it when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The bytes of `range`; an error where it ends beyond the file.
    pub(super) fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>, CorpusError> {
        self.within(&range)?;
        if let Some(held) = &self.held {
            return Ok(Cow::Borrowed(&held[range.start as usize..range.end as usize]));
        }
        let mut bytes = Vec::new();
        self.fill(range, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    fn within(&self, range: &Range<u64>) -> Result<(), CorpusError> {
        if range.start <= range.end && range.end <= self.length {
            return Ok(());
        }
        let (file, Range { start, end }) = (self.path().to_owned(), range.clone());
        Err(CorpusError::OutOfRange { file, start, end, held: self.length })
    }

    /// Reads `range`, which lies inside the file, into `bytes`.
    fn fill(&self, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<(), CorpusError> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        // What is in it already is overwritten, not cleared.
        bytes.resize(length, 0);
        self.read(bytes, range.start).inspect_err(|_| bytes.clear())
    }

    /// `N` bytes from `at` on.
    pub(super) fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], CorpusError> {
        let held = self.held.as_ref().and_then(|held| held.get(usize::try_from(at).ok()?..)?.first_chunk());
        if let Some(array) = held {
            return Ok(*array);
        }
        self.within(&(at..at.saturating_add(N as u64)))?;
        let mut array = [0; N];
        self.read(&mut array, at)?;
        Ok(array)
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), CorpusError> {
        self.file.file().read_exact_at(bytes, at).map_err(|error| {
            let file = self.path().to_owned();
            if error.kind() == io::ErrorKind::UnexpectedEof {
                let left = self.file.metadata().map_or(at, |now| now.len());
                return CorpusError::CutShort { file, offset: at, opened: self.length, left };
            }
            CorpusError::Unreadable { file, offset: at, error }
        })
    }
}

/// Reads a file in pieces of which many follow one another.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    storage: &'a Storage,
    /// Where what is read begins.
    from: u64,
    read: Vec<u8>,
}

impl<'a> Ahead<'a> {
    /// A reader that has read nothing.
    pub(super) fn new(storage: &'a Storage) -> Self {
        Self { storage, from: 0, read: Vec::new() }
    }

    /// The bytes of `range`; where they are not read yet, `ahead` bytes are read at once if the file has them.
    pub(super) fn bytes(&mut self, range: Range<u64>, ahead: u64) -> Result<&[u8], CorpusError> {
        let until = self.from + self.read.len() as u64;
        if range.start < self.from || range.end > until {
            self.storage.within(&range)?;
            let end = range.end.max(range.start.saturating_add(ahead).min(self.storage.length));
            self.storage.fill(range.start..end, &mut self.read)?;
            self.from = range.start;
        }
        Ok(&self.read[(range.start - self.from) as usize..(range.end - self.from) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_held_in_memory_and_one_read_in_place_are_the_same_and_neither_is_read_beyond_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), b"0123456789").unwrap();
        let mut both = [Storage::open(file.path()).unwrap(), Storage::open(file.path()).unwrap()];
        both[0].hold(10).unwrap();
        both[1].hold(9).unwrap();
        assert!(both[0].held.is_some() && both[1].held.is_none());
        for storage in both {
            assert_eq!((storage.length(), &*storage.bytes(2..5).unwrap()), (10, &b"234"[..]));
            assert_eq!(storage.array(8).unwrap(), *b"89");
            for range in [8..11, 11..12, u64::MAX - 1..u64::MAX] {
                assert!(storage.bytes(range).is_err());
            }
            assert!(storage.array::<4>(8).is_err() && storage.array::<4>(u64::MAX).is_err());
            let mut ahead = Ahead::new(&storage);
            for (range, expected) in [(4..6, "45"), (6..8, "67"), (9..10, "9"), (2..3, "2"), (0..10, "0123456789")] {
                assert_eq!(ahead.bytes(range, 3).unwrap(), expected.as_bytes());
            }
            assert!(ahead.bytes(9..11, 0).is_err());
        }
    }

    #[test]
    fn a_file_cut_short_after_it_was_opened_is_an_error_with_file_and_offset() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), [7; 10_000]).unwrap();
        let storage = Storage::open(file.path()).unwrap();
        file.as_file().set_len(5000).unwrap();
        assert_eq!(&*storage.bytes(0..2).unwrap(), [7, 7]);
        let expected = format!(
            "{}: byte 6000 cannot be read: the file has 5000 bytes, and had 10000 when it was opened; restore the file, \
             and start the same command again",
            file.path().display()
        );
        assert_eq!(storage.bytes(6000..6004).unwrap_err().to_string(), expected);
        assert_eq!(storage.array::<4>(6000).unwrap_err().to_string(), expected);
    }
}
