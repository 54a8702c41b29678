//! Records in JSON, however they are arranged: JSON lines, arrays, values one after the other, a single object.
//!
//! Which it is, the content says. Records come one at a time, so memory is bounded by the largest of them. Finding where a
//! record ends is kept apart from parsing it, which any thread may do: [`records`] cuts, [`parse`] parses. A record that is
//! broken is one bad record, at the position of its actual error; the sound ones around it are delivered.

mod elements;
mod scan;
mod window;

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{BadRecord, Range, Slice, Unit, stream};
use elements::Elements;
use scan::Found;
use window::Window;

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["json", "jsonl", "ndjson"];
/// Bytes that tell how a file's records are arranged.
const HEAD: usize = 1 << 20;
/// Lines of a file called JSON lines of which one sound one is enough.
const LINES: usize = 16;

/// Where something is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Where the file is read from its top.
    Line {
        /// From 1.
        line: u64,
        /// In bytes, from 1.
        column: u64,
    },
    /// Where the file is read from somewhere inside: the offset of the byte.
    Byte(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, column } => write!(out, "{line}:{column}"),
            Self::Byte(byte) => write!(out, "byte {byte}"),
        }
    }
}

impl Position {
    /// The origin of a record that begins here: `FILE:LINE`, or `FILE@BYTE`.
    #[must_use]
    pub fn origin(self, path: &Path) -> String {
        match self {
            Self::Line { line, .. } => format!("{}:{line}", path.display()),
            Self::Byte(byte) => format!("{}@{byte}", path.display()),
        }
    }

    /// The place of an error: `FILE:LINE:COLUMN`, or `FILE@BYTE`.
    #[must_use]
    pub fn place(self, path: &Path) -> String {
        match self {
            Self::Line { line, column } => format!("{}:{line}:{column}", path.display()),
            Self::Byte(_) => self.origin(path),
        }
    }

    /// The place of a parser's error, given by line and column, in a record that begins here.
    fn inside(self, bytes: &[u8], error_line: usize, error_column: usize) -> Self {
        let (mut below, mut right) = (error_line.saturating_sub(1), error_column.saturating_sub(1) as u64);
        // The parser counts a newline to the line that it begins; it is the end of the one before.
        if error_column == 0 && below > 0 {
            below -= 1;
            let line = bytes.split(|byte| *byte == b'\n').nth(below);
            right = line.map_or(0, <[u8]>::len) as u64;
        }
        match self {
            Self::Line { line, column } if below == 0 => Self::Line { line, column: column + right },
            Self::Line { line, .. } => Self::Line { line: line + below as u64, column: right + 1 },
            Self::Byte(byte) => {
                let above = bytes.split_inclusive(|byte| *byte == b'\n').take(below);
                Self::Byte(byte + above.map(|line| line.len() as u64).sum::<u64>() + right)
            }
        }
    }
}

/// A record as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Where it begins.
    pub position: Position,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is wrong with a stream of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where.
    pub position: Position,
    /// What is there and what was expected.
    pub reason: String,
    /// Whether the stream ended for it.
    pub failed: bool,
}

impl Flaw {
    fn at(position: Position, reason: impl Into<String>) -> Self {
        Self { position, reason: reason.into(), failed: false }
    }

    fn failed(position: Position, error: &io::Error) -> Self {
        Self { position, reason: error.to_string(), failed: true }
    }
}

fn over_limit(limit: usize) -> String {
    format!("record over the limit of {limit} bytes (max_bytes, --max-file-bytes)")
}

/// How records are arranged.
enum Form {
    /// One a line.
    Lines,
    /// Elements and values, over lines as they like.
    Values(Elements),
}

/// The records of a stream.
pub struct Records<R> {
    window: Window<R>,
    limit: usize,
    /// The name says that it holds JSON lines.
    named_lines: bool,
    /// Once it is known.
    form: Option<Form>,
    /// The records that begin before this byte, where the stream is a range of a file.
    end: Option<u64>,
    /// Where the range begins; lines are counted from the top alone.
    begin: u64,
}

impl<R: Read> Records<R> {
    /// The records of a stream that begins at the top of a file. `named_lines`: the file's name says that it holds JSON
    /// lines. Records over `limit` bytes are bad.
    pub fn new(source: R, limit: u64, named_lines: bool) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(isize::MAX as usize / 4);
        Self { window: Window::new(source, 0), limit, named_lines, form: None, end: None, begin: 0 }
    }

    /// The JSON lines that begin in `begin..end` of a file; `source` begins one byte before `begin`, if that is not 0.
    fn of_range(source: R, limit: u64, begin: u64, end: u64) -> Self {
        let mut records = Self::new(source, limit, true);
        records.end = Some(end);
        records.begin = begin;
        if begin > 0 {
            records.form = Some(Form::Lines);
            records.window = Window::new(records.window.into_source(), begin - 1);
            records.window.skip_line();
            records.window.consume(1);
        } else {
            records.skip_mark();
            records.form = Some(Form::Lines);
        }
        records
    }

    /// Moves over a byte order mark.
    fn skip_mark(&mut self) {
        let _ = self.window.byte(2);
        if self.window.held().starts_with(b"\xef\xbb\xbf") {
            self.window.consume(3);
            self.window.column = 1;
        }
    }

    fn here(&self) -> Position {
        match self.begin {
            0 => Position::Line { line: self.window.line, column: self.window.column },
            _ => Position::Byte(self.window.offset),
        }
    }

    /// The next line that holds anything.
    fn line(&mut self) -> Option<Result<Raw, Flaw>> {
        loop {
            if self.end.is_some_and(|end| self.window.offset >= end) {
                return None;
            }
            let window = &mut self.window;
            let found = window.newline(0, self.limit.saturating_add(1));
            let held = window.held().len();
            let length = match found {
                Some(length) => length,
                None if held > self.limit => {
                    let position = self.here();
                    self.window.skip_line();
                    self.window.consume(1);
                    return Some(Err(Flaw::at(position, over_limit(self.limit))));
                }
                None if window.has_failed() => {
                    window.consume(held);
                    let position = self.here();
                    return self.window.failure().map(|error| Err(Flaw::failed(position, &error)));
                }
                None if held == 0 => return None,
                None => held,
            };
            let line = window.held().get(..length).unwrap_or_default();
            let Some(first) = line.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                window.consume(length + 1);
                continue;
            };
            let bytes = line.trim_ascii().to_vec();
            window.consume(first);
            let position = self.here();
            self.window.consume(length + 1 - first);
            return Some(Ok(Raw { position, bytes }));
        }
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Raw, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.form.is_none() {
            self.skip_mark();
            let wide = matches!(self.window.held(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
            self.form = Some(match wide || is_lines(&mut self.window, self.named_lines) {
                true => Form::Lines,
                false => Form::Values(Elements::new()),
            });
            if wide {
                self.end = Some(0);
                return Some(Err(Flaw::at(self.here(), "UTF-16: expected UTF-8")));
            }
        }
        match &mut self.form {
            Some(Form::Values(elements)) => elements.next(&mut self.window, self.limit),
            _ => self.line(),
        }
    }
}

/// Whether a stream holds JSON lines, by its first megabyte.
pub(super) fn holds_lines(source: impl Read, named_lines: bool) -> bool {
    let mut records = Records::new(source, 0, named_lines);
    records.skip_mark();
    is_lines(&mut records.window, named_lines)
}

/// Whether the window holds JSON lines. They do where the first line is a value and another follows it; where the name
/// says so, one such line among the first is enough.
fn is_lines<R: Read>(window: &mut Window<R>, named: bool) -> bool {
    while window.held().len() < HEAD && window.grow() {}
    let head = window.held();
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    let head = head.get(start..).unwrap_or_default();
    let end = end_of(head).unwrap_or(0);
    let line = memchr::memchr(b'\n', head).unwrap_or(head.len());
    if end > 0 && end <= line && matches!(head.first(), Some(b'{' | b'[')) {
        let behind = |range: std::ops::Range<usize>| head.get(range).unwrap_or_default().trim_ascii_start();
        let (rest, next) = (behind(end..line), behind(line..head.len()));
        return match (rest.is_empty(), next.first()) {
            // Alone in the file: an array is an array.
            (true, None) => named && head.first() == Some(&b'{'),
            (true, Some(b'{' | b'[' | b'"')) => named || is_on_one_line(next),
            _ => named && is_any_line(head),
        };
    }
    named && (line == head.len() || is_any_line(head))
}

/// Where the value that `bytes` begin with ends.
fn end_of(bytes: &[u8]) -> Option<usize> {
    match scan::value(&mut Window::new(bytes, 0), HEAD, None, &mut false) {
        Found::End(end) => Some(end),
        _ => None,
    }
}

/// Whether the value that `bytes` begin with ends on its line, as far as they go.
fn is_on_one_line(bytes: &[u8]) -> bool {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    end_of(bytes).map_or(line == bytes.len(), |end| end <= line)
}

/// Whether one of the first lines is a container on its own.
fn is_any_line(head: &[u8]) -> bool {
    let lines = head.split(|byte| *byte == b'\n').take(LINES);
    lines.map(<[u8]>::trim_ascii).any(|line| {
        matches!(line.first(), Some(b'{' | b'['))
            && line.len() > 2
            && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
    })
}

/// Whether a file's name says that it holds JSON lines.
pub(super) fn named_lines(path: &Path) -> bool {
    matches!(stream::extension(path).as_str(), "jsonl" | "ndjson")
}

/// Streams the records of a slice of a file; those over `limit` bytes are bad, the next ones are read.
pub fn records(slice: &Slice, limit: u64) -> impl Iterator<Item = Result<Unit, BadRecord>> + Send + use<> {
    let path: Arc<Path> = slice.path.as_path().into();
    let range = match slice.range {
        Range::Bytes { begin, end } => Some((begin, end)),
        Range::Whole | Range::RowGroups { .. } => None,
    };
    let opened = match range {
        Some((begin, _)) => stream::open_at(&path, begin.saturating_sub(1)),
        None => stream::open(&path),
    };
    let (mut records, mut failed) = match opened {
        Ok(stream) => {
            let packing = stream.packing;
            let taken = stream.counter();
            let records = match range {
                Some((begin, end)) => Records::of_range(stream, limit, begin, end),
                None => Records::new(stream, limit, named_lines(&path)),
            };
            (Some((records, packing, taken, 0_u64)), None)
        }
        Err(error) => (None, Some(BadRecord { origin: path.display().to_string(), reason: error.to_string() })),
    };
    std::iter::from_fn(move || {
        if let Some(bad) = failed.take() {
            return Some(Err(bad));
        }
        let (records, packing, taken, counted) = records.as_mut()?;
        let record = records.next()?;
        Some(match record {
            Ok(Raw { position, bytes }) => {
                // Packed or plain, what progress counts is what has been taken from the disk since the last record.
                let now = taken.load(std::sync::atomic::Ordering::Relaxed);
                let input = now.saturating_sub(std::mem::replace(counted, now));
                Ok(Unit::Record { path: path.clone(), position, bytes, input })
            }
            Err(Flaw { position, reason, failed: false }) => {
                Err(BadRecord { origin: position.place(&path), reason: format!("not JSON: {reason}") })
            }
            Err(Flaw { position, reason, failed: true }) => {
                let reason = stream::damaged(*packing, records.window.offset, &io::Error::other(reason));
                Err(BadRecord { origin: position.place(&path), reason })
            }
        })
    })
}

/// Parses a record.
///
/// # Errors
/// It is no JSON, at the place of the error; JSON nested deeper than 128 brackets is refused too.
pub fn parse(path: &Path, position: Position, bytes: &[u8]) -> Result<Value, BadRecord> {
    serde_json::from_slice(bytes).map_err(|error| BadRecord {
        origin: position.inside(bytes, error.line(), error.column()).place(path),
        reason: format!("not JSON: {}", without_position(&error)),
    })
}

/// The parser appends "at line 1 column N"; where the error is, is ours to say.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
