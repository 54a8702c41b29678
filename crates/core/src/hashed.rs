//! Files that are hashed while they are written, so that nothing is read back to describe it.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::corpus::manifest::hex;

/// Bytes that are written, and hashed, at a time.
const CHUNK: usize = 4 << 20;

/// Where direct writes begin in memory and in the file: a multiple of this, which no file system and disk wants larger.
const ALIGNED: usize = 4096;

/// Buffers of a file: one is filled and written, the others are hashed or wait for it.
const BUFFERS: usize = 3;

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Entry {
    /// Describes the file at `path` by reading it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = fs_err::File::open(path)?;
        let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { bytes, sha256: hex(&hash.finalize()) }),
                count => {
                    hash.update(&buffer[..count]);
                    bytes += count as u64;
                }
            }
        }
    }
}

/// Memory from which a file system can write past its cache.
#[derive(Debug)]
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Buffer {
    fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGNED];
        let start = memory.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        Self { memory, start, filled: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.start + self.filled..self.start + CHUNK]
    }
}

/// A file that is written from its beginning to its end, and hashed by another thread meanwhile.
///
/// It is written past the page cache where the file system can do that: what a program keeps there, such as the corpora it
/// reads, stays, and nothing is copied into it. It takes 12 MiB of memory. Until [`Self::finish`] it is part of a file.
#[derive(Debug)]
pub struct Hashed {
    file: fs_err::File,
    /// Whether it is written past the page cache.
    direct: bool,
    buffer: Buffer,
    empty: Receiver<Buffer>,
    to_hash: SyncSender<Buffer>,
    hasher: JoinHandle<(u64, Sha256)>,
}

impl Hashed {
    /// Begins the file at `path`, in place of what is there.
    ///
    /// # Errors
    /// The file cannot be created, or no thread can be started.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = fs_err::File::create(path)?;
        // Neither channel is ever full: there is room in each for all buffers.
        let (to_hash, written) = sync_channel(BUFFERS);
        let (hashed, empty) = sync_channel(BUFFERS);
        for _ in 1..BUFFERS {
            let _ = hashed.send(Buffer::new());
        }
        let hasher = thread::Builder::new().name("hash".to_owned()).spawn(|| hash(written, hashed))?;
        // A file system that cannot is written through the cache.
        let direct = set_direct(&file, true).is_ok();
        Ok(Self { file, direct, buffer: Buffer::new(), empty, to_hash, hasher })
    }

    /// Room for the next bytes, of which [`Self::advance`] says how many are there: never none, and a multiple of 8 where as
    /// many bytes as that came before.
    ///
    /// # Errors
    /// What came before cannot be written.
    pub fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.buffer.filled == CHUNK {
            self.write_chunk()?;
            let empty = self.empty.recv().map_err(|_| ended())?;
            self.to_hash.send(std::mem::replace(&mut self.buffer, empty)).map_err(|_| ended())?;
        }
        Ok(self.buffer.room())
    }

    /// Takes the first `count` bytes of [`Self::room`] as filled.
    pub fn advance(&mut self, count: usize) {
        self.buffer.filled += count.min(self.buffer.room().len());
    }

    /// Writes the rest, waits until everything is on the disk, and describes it.
    ///
    /// # Errors
    /// The rest cannot be written, or the file not synced.
    pub fn finish(mut self) -> io::Result<Entry> {
        self.write_chunk()?;
        let Self { file, buffer, to_hash, hasher, .. } = self;
        to_hash.send(buffer).map_err(|_| ended())?;
        drop(to_hash);
        file.sync_all()?;
        let (bytes, hash) = hasher.join().map_err(|_| ended())?;
        Ok(Entry { bytes, sha256: hex(&hash.finalize()) })
    }

    fn write_chunk(&mut self) -> io::Result<()> {
        let mut rest = self.buffer.filled();
        while !rest.is_empty() {
            // Only the end of the file is cut anywhere.
            if self.direct && !rest.len().is_multiple_of(ALIGNED) {
                set_direct(&self.file, false)?;
                self.direct = false;
            }
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It wants another alignment.
                Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                    set_direct(&self.file, false)?;
                    self.direct = false;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Hashes buffers and gives them back, and counts their bytes.
fn hash(written: Receiver<Buffer>, hashed: SyncSender<Buffer>) -> (u64, Sha256) {
    let (mut bytes, mut hash) = (0, Sha256::new());
    for mut buffer in written {
        hash.update(buffer.filled());
        bytes += std::mem::take(&mut buffer.filled) as u64;
        // Nobody takes it once the file has ended.
        let _ = hashed.send(buffer);
    }
    (bytes, hash)
}

fn set_direct(file: &fs_err::File, direct: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file.file())?;
    flags.set(OFlags::DIRECT, direct);
    Ok(rustix::fs::fcntl_setfl(file.file(), flags)?)
}

/// The hashing thread ends after the file does, unless it panicked.
fn ended() -> io::Error {
    io::Error::other("the thread that hashes a file has ended")
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room()?;
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        Ok(count)
    }

    /// Does nothing: chunks are written whole, the last one by [`Self::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `bytes` as the file `path` and waits until they are on the disk.
///
/// # Errors
/// The file cannot be created, written or synced.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<Entry> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(Entry { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_described_as_reading_it_describes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 123] {
            let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + at / 1000) as u8).collect();
            for step in [size.max(1), 1 << 19, 1000] {
                let mut file = Hashed::create(&path).unwrap();
                bytes.chunks(step).for_each(|chunk| file.write_all(chunk).unwrap());
                let entry = file.finish().unwrap();
                assert!(fs_err::read(&path).unwrap() == bytes, "{size} bytes, {step} at a time");
                assert_eq!(entry, Entry::read(&path).unwrap());
                assert_eq!(entry, write(&path, &bytes).unwrap());
            }
        }
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_that_names_the_file() {
        for size in [1, 20 * CHUNK] {
            let mut file = Hashed::create(Path::new("/dev/full")).unwrap();
            let error = file.write_all(&vec![0; size]).and_then(|()| file.finish()).unwrap_err();
            assert!(error.to_string().contains("/dev/full"), "{error}");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
