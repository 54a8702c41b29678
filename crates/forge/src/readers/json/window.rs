//! A stream seen through a window that grows with what is looked at and shrinks with what is done with.

use std::io::{self, Read};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// A stream, the bytes of it that are held, and where they lie.
pub(super) struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where in the buffer the window begins.
    start: usize,
    /// Where in the stream the window begins.
    pub(super) offset: u64,
    /// The line that the window begins in, from 1.
    pub(super) line: u64,
    /// The column, in bytes, that the window begins at, from 1.
    pub(super) column: u64,
    ended: bool,
    failed: Option<io::Error>,
}

impl<R: Read> Window<R> {
    /// A window on a stream that begins at `offset`.
    pub(super) fn new(source: R, offset: u64) -> Self {
        Self { source, buffer: Vec::new(), start: 0, offset, line: 1, column: 1, ended: false, failed: None }
    }

    /// The stream, without what is held.
    pub(super) fn into_source(self) -> R {
        self.source
    }

    /// What is held.
    pub(super) fn held(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or(&[])
    }

    /// The byte `at` bytes into the window; `None` behind the end of the stream.
    pub(super) fn byte(&mut self, at: usize) -> Option<u8> {
        loop {
            if let Some(byte) = self.buffer.get(self.start + at) {
                return Some(*byte);
            }
            if !self.grow() {
                return None;
            }
        }
    }

    /// Reads on; `false` at the end of the stream, or where it fails.
    pub(super) fn grow(&mut self) -> bool {
        if self.ended {
            return false;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let held = self.buffer.len();
        self.buffer.resize(held + BLOCK, 0);
        let read = loop {
            match self.source.read(self.buffer.get_mut(held..).unwrap_or_default()) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(error);
                    break 0;
                }
            }
        };
        self.buffer.truncate(held + read.min(BLOCK));
        self.ended = read == 0;
        read > 0
    }

    /// Moves the window on by `count` bytes that it holds.
    pub(super) fn consume(&mut self, count: usize) {
        let taken = self.held().get(..count).unwrap_or(self.held());
        let count = taken.len();
        if let Some(last) = memchr::memrchr(b'\n', taken) {
            self.line += memchr::memchr_iter(b'\n', taken).count() as u64;
            self.column = (count - last) as u64;
        } else {
            self.column += count as u64;
        }
        self.offset += count as u64;
        self.start += count;
    }

    /// Where the next newline is, `from` on and before `limit`, both relative to the window.
    pub(super) fn newline(&mut self, from: usize, limit: usize) -> Option<usize> {
        let mut from = from;
        loop {
            let held = self.held();
            let end = held.len().min(limit);
            if let Some(found) = held.get(from..end).and_then(|bytes| memchr::memchr(b'\n', bytes)) {
                return Some(from + found);
            }
            from = from.max(end);
            if end == limit || !self.grow() {
                return None;
            }
        }
    }

    /// Moves on to the next newline, or to the end.
    pub(super) fn skip_line(&mut self) {
        loop {
            let held = self.held().len();
            match self.newline(0, held) {
                Some(end) => return self.consume(end),
                None => self.consume(held),
            }
            if !self.grow() {
                return;
            }
        }
    }

    /// Why the stream ended early, once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Whether the stream ended early.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }
}
