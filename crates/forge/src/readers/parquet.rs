//! Parquet: a document a row, the text of one column. Other columns are not read.
//!
//! Rows come a few at a time, so memory is bounded by a page of the column. What is wrong inside a row group ends it, as a
//! bad record, and nothing else.

mod file;
mod format;
mod thrift;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::reader::FileReader;
use parquet::schema::types::ColumnDescPtr;

use self::file::{Source, guarded, open};
use super::{BadRecord, Range, Slice, Unit, stream};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["parquet"];
/// Rows read at once.
const BATCH: usize = 64;
/// Columns that an error names.
const NAMED: usize = 12;

/// Bytes on the disk of each row group.
///
/// # Errors
/// In words: the file cannot be read, or is packed and so cannot be cut.
pub(super) fn group_sizes(path: &Path) -> Result<Vec<u64>, String> {
    if stream::open(path).map_err(|error| error.to_string())?.packing != stream::Packing::Plain {
        return Err("packed".to_owned());
    }
    let (_, reader) = open(path, 0)?;
    let sizes = reader.metadata().row_groups().iter();
    Ok(sizes
        .map(|group| group.columns().iter().map(|c| u64::try_from(c.compressed_size()).unwrap_or(0)).sum())
        .collect())
}

/// Streams the texts of a slice's rows under `column`, a name or a dotted path (a JSON pointer does too). Rows without
/// text are left out; the strings of a list are joined by newlines.
pub fn rows(slice: &Slice, column: &str, limit: u64) -> impl Iterator<Item = Result<Unit, BadRecord>> + Send + use<> {
    let mut rows =
        match open(&slice.path, limit).and_then(|(source, reader)| Rows::new(source, reader, slice, column, limit)) {
            Ok(rows) => Ok(rows),
            Err(reason) => Err(Some(BadRecord { origin: slice.path.display().to_string(), reason })),
        };
    std::iter::from_fn(move || match &mut rows {
        Ok(rows) => rows.next(),
        Err(bad) => bad.take().map(Err),
    })
}

/// Where the text is.
struct Column {
    index: usize,
    descriptor: ColumnDescPtr,
}

struct Rows {
    source: Source,
    reader: Box<dyn FileReader>,
    path: PathBuf,
    column: Column,
    limit: u64,
    /// The next row group, and where to end.
    group: usize,
    end: usize,
    /// The rows before the open row group, and within it before the next batch.
    row: u64,
    open: Option<ColumnReaderImpl<ByteArrayType>>,
    /// What the open row group has of the slice's bytes that no row has stood for.
    input: u64,
    ready: VecDeque<Result<Unit, BadRecord>>,
    /// The first row of a list column's record that goes on behind a batch.
    buffers: (Vec<i16>, Vec<i16>, Vec<ByteArray>),
}

impl Rows {
    fn new(
        source: Source,
        reader: Box<dyn FileReader>,
        slice: &Slice,
        column: &str,
        limit: u64,
    ) -> Result<Self, String> {
        let groups = reader.metadata().num_row_groups();
        let (begin, end) = match slice.range {
            Range::RowGroups { begin, end } => (begin as usize, (end as usize).min(groups)),
            Range::Whole | Range::Bytes { .. } => (0, groups),
        };
        let column = guarded(|| find(reader.as_ref(), column))?;
        let before = reader.metadata().row_groups().iter().take(begin);
        let row = before.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum();
        Ok(Self {
            path: slice.path.clone(),
            column,
            limit,
            group: begin,
            end,
            row,
            open: None,
            input: 0,
            ready: VecDeque::new(),
            buffers: Default::default(),
            source,
            reader,
        })
    }

    fn next(&mut self) -> Option<Result<Unit, BadRecord>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.open.is_none() {
                if self.group >= self.end {
                    return None;
                }
                match guarded(|| self.open_group()) {
                    Ok((reader, bytes)) => {
                        self.open = Some(reader);
                        self.input += bytes;
                    }
                    Err(reason) => return Some(Err(self.end_group(reason))),
                }
            }
            let mut reader = self.open.take()?;
            match guarded(|| self.batch(&mut reader)) {
                Ok(true) => self.open = Some(reader),
                Ok(false) => {
                    self.group += 1;
                    self.row = self.rows_before(self.group);
                }
                Err(reason) => return Some(Err(self.end_group(reason))),
            }
        }
    }

    /// A bad record for what remains of the open row group.
    fn end_group(&mut self, reason: String) -> BadRecord {
        let origin = format!("{}#{}", self.path.display(), self.row + 1);
        let group = self.group;
        self.open = None;
        self.group += 1;
        self.row = self.rows_before(self.group);
        BadRecord { origin, reason: format!("row group {group} cannot be read from here on: {reason}") }
    }

    fn rows_before(&self, group: usize) -> u64 {
        let groups = self.reader.metadata().row_groups().iter().take(group);
        groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).fold(0, u64::saturating_add)
    }

    fn open_group(&self) -> Result<(ColumnReaderImpl<ByteArrayType>, u64), String> {
        let words = |error: parquet::errors::ParquetError| error.to_string();
        let group = self.reader.get_row_group(self.group).map_err(words)?;
        let (begin, length) = group.metadata().column(self.column.index).byte_range();
        self.source.check_pages(begin, begin.saturating_add(length))?;
        let pages = group.get_column_page_reader(self.column.index).map_err(words)?;
        let columns = group.metadata().columns().iter();
        let bytes = columns.map(|column| u64::try_from(column.compressed_size()).unwrap_or(0)).sum();
        match get_column_reader(self.column.descriptor.clone(), pages) {
            ColumnReader::ByteArrayColumnReader(reader) => Ok((reader, bytes)),
            _ => Err("the column holds no strings".to_owned()),
        }
    }

    /// Reads some rows; `false` at the end of the row group.
    fn batch(&mut self, reader: &mut ColumnReaderImpl<ByteArrayType>) -> Result<bool, String> {
        let (definitions, repetitions, values) = &mut self.buffers;
        definitions.clear();
        repetitions.clear();
        values.clear();
        let read = reader.read_records(BATCH, Some(definitions), Some(repetitions), values);
        let (records, _, levels) = read.map_err(|error| error.to_string())?;
        let (max_definition, max_repetition) =
            (self.column.descriptor.max_def_level(), self.column.descriptor.max_rep_level());
        let mut values = values.drain(..);
        let mut texts: Vec<Result<Option<String>, String>> = Vec::with_capacity(records);
        for level in 0..levels {
            if max_repetition == 0 || repetitions.get(level).is_none_or(|repetition| *repetition == 0) {
                texts.push(Ok(None));
            }
            let is_there = max_definition == 0 || definitions.get(level) == Some(&max_definition);
            let (true, Some(text)) = (is_there, texts.last_mut()) else { continue };
            let value = values.next().ok_or("fewer values than its levels say")?;
            let Ok(before) = text else { continue };
            let held = before.as_ref().map_or(0, String::len);
            if (held.saturating_add(value.len()) as u64) > self.limit {
                *text = Err(format!("text over the limit of {} bytes (max_bytes, --max-file-bytes)", self.limit));
                continue;
            }
            match value.as_utf8() {
                Ok(piece) => match before {
                    Some(before) => {
                        before.push('\n');
                        before.push_str(piece);
                    }
                    None => *before = Some(piece.to_owned()),
                },
                Err(_) => *text = Err("not UTF-8".to_owned()),
            }
        }
        for text in texts {
            self.row += 1;
            let origin = format!("{}#{}", self.path.display(), self.row);
            match text {
                Ok(Some(text)) if !text.trim().is_empty() => {
                    let input = std::mem::take(&mut self.input);
                    self.ready.push_back(Ok(Unit::Text { origin, text, input }));
                }
                Ok(_) => {}
                Err(reason) => self.ready.push_back(Err(BadRecord { origin, reason })),
            }
        }
        Ok(records > 0)
    }
}

/// Finds a column by name, dotted path or JSON pointer; `text` finds `text.list.element` too, if it is all there is under
/// `text`.
fn find(reader: &dyn FileReader, wanted: &str) -> Result<Column, String> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let path = wanted.strip_prefix('/').map_or_else(|| wanted.to_owned(), |pointer| pointer.replace('/', "."));
    let columns: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let below = format!("{path}.");
    let mut under = columns.iter().enumerate().filter(|(_, name)| name.starts_with(&below)).map(|(index, _)| index);
    let found = columns.iter().position(|name| *name == path);
    let Some(index) = found.or_else(|| under.next().filter(|_| under.next().is_none())) else {
        let some: Vec<&str> = columns.iter().take(NAMED).map(String::as_str).collect();
        let more = if columns.len() > NAMED { ", …" } else { "" };
        return Err(format!("no column \"{wanted}\"; it has: {}{more} (choose one with --field)", some.join(", ")));
    };
    let descriptor = schema.column(index);
    if descriptor.physical_type() != Type::BYTE_ARRAY {
        return Err(format!("column \"{wanted}\" holds {}, expected strings", descriptor.physical_type()));
    }
    Ok(Column { index, descriptor })
}
