//! A file's bytes: mapped into memory, or read in place where the system refuses a map (network disks, map quotas).

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use fs_err::File;
use memmap2::{Advice, Mmap};

/// An open file that is only read.
#[derive(Debug)]
pub(super) struct Storage {
    file: File,
    length: u64,
    map: OnceLock<Mmap>,
}

impl Storage {
    /// Opens `path` to be read in place, at least until [`Self::map`].
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, map: OnceLock::new() })
    }

    /// Maps it, where the system allows that.
    pub(super) fn map(&self) {
        // SAFETY: the map is only read, and each read is checked against its length. A file cut short by another process
        // meanwhile would end this one, as with every reader that maps; corpora are written once and renamed into place.
        #[expect(unsafe_code, reason = "a memory map")]
        let map = unsafe { Mmap::map(self.file.file()) };
        if let Ok(map) = map {
            self.map.get_or_init(|| map);
        }
    }

    /// Tells the system that reads are short and all over the file, so that it reads no megabytes ahead for each of them.
    pub(super) fn scattered(&self) {
        if let Some(map) = self.map.get() {
            // Advice: where it is not taken, reads are slower and otherwise the same.
            let _ = map.advise(Advice::Random);
        }
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
    pub(super) fn bytes(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let ends_early =
            || io::Error::new(io::ErrorKind::UnexpectedEof, format!("{}: ends early", self.path().display()));
        let place = |at: u64| usize::try_from(at).map_err(io::Error::other);
        let (start, end) = (place(range.start)?, place(range.end)?);
        if let Some(map) = self.map.get() {
            return map.get(start..end).map(Cow::Borrowed).ok_or_else(ends_early);
        }
        if range.start > range.end || range.end > self.length {
            return Err(ends_early());
        }
        let mut bytes = vec![0; end - start];
        self.file.file().read_exact_at(&mut bytes, range.start)?;
        Ok(Cow::Owned(bytes))
    }

    /// `N` bytes from `at` on.
    pub(super) fn array<const N: usize>(&self, at: u64) -> io::Result<[u8; N]> {
        // A map answers at once: searches in an index ask for many entries.
        let mapped = self.map.get().and_then(|map| map.get(usize::try_from(at).ok()?..)?.first_chunk());
        if let Some(array) = mapped {
            return Ok(*array);
        }
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes(at..at.saturating_add(N as u64))?);
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_and_unmapped_files_read_the_same_and_neither_beyond_its_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), b"0123456789").unwrap();
        let both = [Storage::open(file.path()).unwrap(), Storage::open(file.path()).unwrap()];
        both[0].map();
        both.iter().for_each(Storage::scattered);
        assert!(both[0].map.get().is_some() && both[1].map.get().is_none());
        for storage in both {
            assert_eq!((storage.length(), &*storage.bytes(2..5).unwrap()), (10, &b"234"[..]));
            assert_eq!(storage.array(8).unwrap(), *b"89");
            for range in [8..11, 11..12, u64::MAX - 1..u64::MAX] {
                assert!(storage.bytes(range).is_err());
            }
            assert!(storage.array::<4>(u64::MAX).is_err());
        }
    }
}
