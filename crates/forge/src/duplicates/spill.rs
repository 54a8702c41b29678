//! Records that do not fit into memory: spilled by partition, then sorted a partition at a time, in bounded memory even
//! where one partition is everything.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufReader, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use fs_err::File;

/// Something of a fixed size on disk, in the order it is sorted by.
pub(super) trait Record: Copy + Ord + Send {
    /// Bytes on disk.
    const BYTES: usize;
    /// Appends them.
    fn write(&self, to: &mut Vec<u8>);
    /// From that many bytes.
    fn read(bytes: &[u8]) -> Self;
}

/// A row of a signature file, by band and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) band: i32,
    pub(super) high: i64,
    pub(super) low: i64,
    pub(super) id: i64,
}

/// A document that goes, and one that it goes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) kept: i64,
    pub(super) exact: bool,
}

/// Two documents, by the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair(pub(super) i64, pub(super) i64);

fn int(bytes: &[u8], at: usize) -> i64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    i64::from_le_bytes(eight)
}

impl Record for Row {
    const BYTES: usize = 28;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.high.to_le_bytes());
        to.extend_from_slice(&self.low.to_le_bytes());
        to.extend_from_slice(&self.id.to_le_bytes());
        to.extend_from_slice(&self.band.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let mut band = [0; 4];
        band.copy_from_slice(&bytes[24..28]);
        Self { high: int(bytes, 0), low: int(bytes, 8), id: int(bytes, 16), band: i32::from_le_bytes(band) }
    }
}

impl Record for Found {
    const BYTES: usize = 17;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.id.to_le_bytes());
        to.extend_from_slice(&self.kept.to_le_bytes());
        to.push(u8::from(self.exact));
    }

    fn read(bytes: &[u8]) -> Self {
        Self { id: int(bytes, 0), kept: int(bytes, 8), exact: bytes[16] != 0 }
    }
}

impl Record for Pair {
    const BYTES: usize = 16;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.0.to_le_bytes());
        to.extend_from_slice(&self.1.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        Self(int(bytes, 0), int(bytes, 8))
    }
}

/// How memory is divided.
#[derive(Debug)]
pub(super) struct Limits {
    /// Threads that work at once.
    pub(super) threads: usize,
    /// Partitions at most.
    pub(super) partitions: usize,
    /// Bytes of records that a thread sorts at once.
    pub(super) chunk: usize,
    /// Bytes that a thread holds back for all partitions together.
    pub(super) buffers: usize,
    /// Sorted runs that a thread merges at once.
    pub(super) runs: usize,
    /// Bytes held now.
    held: AtomicUsize,
    /// Most bytes held at once.
    peak: AtomicUsize,
}

impl Limits {
    /// Half of the memory sorts, a quarter waits to be written, the rest is for what the libraries hold.
    pub(super) fn new(memory: u64, threads: usize) -> Self {
        let threads = threads.max(1);
        let share = usize::try_from(memory).unwrap_or(usize::MAX) / threads;
        let share = share.max(16 << 20);
        Self::exactly(threads, 256, share / 2, share / 4, 64)
    }

    /// For tests, as small as they like.
    pub(super) fn exactly(threads: usize, partitions: usize, chunk: usize, buffers: usize, runs: usize) -> Self {
        Self { threads, partitions, chunk, buffers, runs, held: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    /// Most bytes held at once until now.
    #[cfg(test)]
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn hold(&self, bytes: usize) -> Held<'_> {
        let now = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
        Held { limits: self, bytes }
    }
}

/// Bytes that are counted as held.
pub(super) struct Held<'a> {
    limits: &'a Limits,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.limits.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Files of records, one a partition, that several threads append to.
pub(super) struct Partitions<T> {
    paths: Vec<PathBuf>,
    files: Vec<Mutex<File>>,
    record: PhantomData<T>,
}

impl<T: Record> Partitions<T> {
    pub(super) fn create(folder: &Path, name: &str, count: usize) -> io::Result<Self> {
        let paths: Vec<_> = (0..count).map(|at| folder.join(format!("{name}-{at:03}"))).collect();
        let files = paths.iter().map(|path| File::create(path).map(Mutex::new)).collect::<io::Result<_>>()?;
        Ok(Self { paths, files, record: PhantomData })
    }

    /// A thread's way to append.
    pub(super) fn appender<'a>(&'a self, limits: &'a Limits) -> Appender<'a, T> {
        let most = (limits.buffers / self.files.len().max(1)).clamp(T::BYTES, 1 << 20);
        let buffers = self.files.iter().map(|_| Vec::with_capacity(most)).collect();
        Appender { partitions: self, most, buffers, _held: limits.hold(most * self.files.len()) }
    }

    /// The files, once every appender is finished.
    pub(super) fn finish(self) -> Vec<PathBuf> {
        self.paths
    }
}

/// A thread's way to append to partitions; to be finished.
pub(super) struct Appender<'a, T> {
    partitions: &'a Partitions<T>,
    most: usize,
    buffers: Vec<Vec<u8>>,
    _held: Held<'a>,
}

impl<T: Record> Appender<'_, T> {
    pub(super) fn push(&mut self, partition: usize, record: &T) -> io::Result<()> {
        if self.buffers[partition].len() + T::BYTES > self.most {
            self.flush(partition)?;
        }
        record.write(&mut self.buffers[partition]);
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        (0..self.buffers.len()).try_for_each(|partition| self.flush(partition))
    }

    fn flush(&mut self, partition: usize) -> io::Result<()> {
        // A thread that panicked has left whole records behind it, or none.
        let mut file = self.partitions.files[partition].lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&self.buffers[partition])?;
        self.buffers[partition].clear();
        Ok(())
    }
}

/// Writes records to a file of their own.
pub(super) struct Writer<T> {
    file: File,
    buffer: Vec<u8>,
    record: PhantomData<T>,
}

impl<T: Record> Writer<T> {
    /// Bytes held back.
    const BUFFER: usize = 64 << 10;

    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, buffer: Vec::with_capacity(Self::BUFFER), record: PhantomData })
    }

    pub(super) fn push(&mut self, record: &T) -> io::Result<()> {
        if self.buffer.len() + T::BYTES > Self::BUFFER {
            self.file.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        record.write(&mut self.buffer);
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)
    }
}

/// Reads records from a file.
pub(super) struct Reader<T> {
    file: BufReader<File>,
    left: u64,
    record: PhantomData<T>,
}

impl<T: Record> Reader<T> {
    pub(super) fn open(path: &Path, buffer: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let left = file.metadata()?.len() / T::BYTES as u64;
        Ok(Self { file: BufReader::with_capacity(buffer.max(T::BYTES), file), left, record: PhantomData })
    }
}

impl<T: Record> Iterator for Reader<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let mut bytes = [0; 32];
        let bytes = &mut bytes[..T::BYTES];
        Some(self.file.read_exact(bytes).map(|()| T::read(bytes)))
    }
}

/// The records of a file in order.
pub(super) enum Sorted<'a, T: Record> {
    /// They fit.
    Memory(std::vec::IntoIter<T>, #[expect(dead_code, reason = "held until the records are gone")] Option<Held<'a>>),
    /// Sorted runs, merged as they are read.
    Merge(Merge<'a, T>),
}

impl<T: Record> Iterator for Sorted<'_, T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        match self {
            Self::Memory(records, _) => records.next().map(Ok),
            Self::Merge(merge) => merge.next(),
        }
    }
}

/// Sorts the records of a file, which is gone afterwards.
pub(super) fn sorted<'a, T: Record>(path: &Path, limits: &'a Limits) -> io::Result<Sorted<'a, T>> {
    let most = (limits.chunk / size_of::<T>()).max(1);
    let mut reader = Reader::<T>::open(path, 64 << 10)?;
    let whole = reader.left <= most as u64;
    let mut runs = Vec::new();
    // A file that was cut off reads as an error, so that its length bounds what is reserved.
    let held = limits.hold(most.min(usize::try_from(reader.left).unwrap_or(most)) * size_of::<T>());
    let mut records = Vec::with_capacity(most.min(usize::try_from(reader.left).unwrap_or(most)));
    loop {
        records.clear();
        for record in reader.by_ref().take(most) {
            records.push(record?);
        }
        records.sort_unstable();
        if whole {
            fs_err::remove_file(path)?;
            return Ok(Sorted::Memory(records.into_iter(), Some(held)));
        }
        if records.is_empty() {
            break;
        }
        let run = numbered(path, runs.len());
        write(&run, records.iter().copied().map(Ok))?;
        runs.push(run);
    }
    drop((records, held));
    fs_err::remove_file(path)?;
    let mut written = runs.len();
    while runs.len() > limits.runs.max(2) {
        let some: Vec<_> = runs.drain(..limits.runs.max(2)).collect();
        let run = numbered(path, written);
        written += 1;
        write(&run, Merge::<T>::open(&some, limits)?)?;
        some.iter().try_for_each(fs_err::remove_file)?;
        runs.push(run);
    }
    Merge::open(&runs, limits).map(Sorted::Merge)
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".run-{number}"));
    name.into()
}

/// Writes records to a file.
pub(super) fn write<T: Record>(path: &Path, records: impl Iterator<Item = io::Result<T>>) -> io::Result<()> {
    let mut writer = Writer::create(path)?;
    for record in records {
        writer.push(&record?)?;
    }
    writer.finish()
}

/// Sorted files, merged.
pub(super) struct Merge<'a, T: Record> {
    readers: Vec<Reader<T>>,
    heads: BinaryHeap<Reverse<(T, usize)>>,
    failed: Option<io::Error>,
    _held: Held<'a>,
}

impl<'a, T: Record> Merge<'a, T> {
    fn open(runs: &[PathBuf], limits: &'a Limits) -> io::Result<Self> {
        let buffer = (limits.chunk / limits.runs.max(2)).clamp(T::BYTES, 1 << 20);
        let readers = runs.iter().map(|run| Reader::open(run, buffer)).collect::<io::Result<Vec<_>>>()?;
        let mut merge =
            Self { readers, heads: BinaryHeap::new(), failed: None, _held: limits.hold(buffer * runs.len()) };
        for at in 0..merge.readers.len() {
            merge.advance(at);
        }
        Ok(merge)
    }

    fn advance(&mut self, at: usize) {
        match self.readers[at].next() {
            Some(Ok(record)) => self.heads.push(Reverse((record, at))),
            Some(Err(error)) => self.failed = Some(error),
            None => {}
        }
    }
}

impl<T: Record> Iterator for Merge<'_, T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        if let Some(error) = self.failed.take() {
            self.heads.clear();
            return Some(Err(error));
        }
        let Reverse((record, at)) = self.heads.pop()?;
        self.advance(at);
        Some(Ok(record))
    }
}
