//! Parquet tables of a few plain columns: read in batches by column name, written whole or not at all.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hephaestus_core::whole::Whole;
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use super::DuplicatesError;

/// A table that is read.
pub(super) struct Table {
    path: PathBuf,
    reader: SerializedFileReader<File>,
}

/// One column of one row group, read from the front.
pub(super) struct Column<T: DataType> {
    path: PathBuf,
    name: &'static str,
    reader: ColumnReaderImpl<T>,
    levels: Vec<i16>,
    /// The batch read last.
    pub(super) values: Vec<T::T>,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Self, DuplicatesError> {
        let file = fs_err::File::open(path)?.into_file();
        let bytes = file.metadata()?.len();
        let reader = guarded(path, || SerializedFileReader::new(file))?;
        for chunk in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
            // The library takes these as they stand, and panics where one is negative.
            let begin = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
            let end = begin.checked_add(chunk.compressed_size()).and_then(|end| u64::try_from(end).ok());
            if begin < 0 || chunk.compressed_size() < 0 || end.is_none_or(|end| end > bytes) {
                let reason = format!("column {} lies outside of the file", chunk.column_path());
                return Err(parquet(path, ParquetError::General(reason)));
            }
        }
        Ok(Self { path: path.to_owned(), reader })
    }

    pub(super) fn row_groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// Rows of a row group, as the file says; never allocate by it.
    pub(super) fn rows(&self, group: usize) -> u64 {
        u64::try_from(self.reader.metadata().row_group(group).num_rows()).unwrap_or(0)
    }

    /// Where the column of this name and type is.
    pub(super) fn find(&self, column: &'static str, expected: Type) -> Result<usize, DuplicatesError> {
        let wrong = |found: String| {
            let expected = match expected {
                Type::INT64 => "INT64 (a 64-bit integer, BIGINT)",
                Type::INT32 => "INT32 (a 32-bit integer, INTEGER)",
                _ => "BOOLEAN",
            };
            DuplicatesError::Column { path: self.path.clone(), column, found, expected }
        };
        let columns = self.reader.metadata().file_metadata().schema_descr().columns();
        let named = |found: &ColumnDescPtr| matches!(found.path().parts(), [name] if name == column);
        let Some((at, found)) = columns.iter().enumerate().find(|(_, found)| named(found)) else {
            return Err(wrong("is missing".to_owned()));
        };
        if found.max_rep_level() > 0 {
            return Err(wrong("is repeated".to_owned()));
        }
        if found.physical_type() != expected {
            return Err(wrong(format!("is {}", found.physical_type())));
        }
        Ok(at)
    }

    /// Least and largest value of an INT64 column in a row group, where the file says.
    pub(super) fn range(&self, group: usize, column: usize) -> Option<(i64, i64)> {
        match self.reader.metadata().row_group(group).columns().get(column)?.statistics()? {
            Statistics::Int64(known) => Some((*known.min_opt()?, *known.max_opt()?)),
            _ => None,
        }
    }

    /// The column of this name in a row group.
    pub(super) fn column<T: DataType>(&self, group: usize, name: &'static str) -> Result<Column<T>, DuplicatesError> {
        let at = self.find(name, T::get_physical_type())?;
        let reader = guarded(&self.path, || self.reader.get_row_group(group)?.get_column_reader(at))?;
        let reader = get_typed_column_reader(reader);
        Ok(Column { path: self.path.clone(), name, reader, levels: Vec::new(), values: Vec::new() })
    }
}

impl<T: DataType> Column<T> {
    /// Reads the next values, `most` of them unless the row group ends.
    pub(super) fn read(&mut self, most: usize) -> Result<usize, DuplicatesError> {
        self.levels.clear();
        self.values.clear();
        let Self { path, reader, levels, values, .. } = self;
        let (records, values, _) = guarded(path, || reader.read_records(most, Some(levels), None, values))?;
        if values < records {
            let reason = format!("column {} holds a null", self.name);
            return Err(DuplicatesError::Row { path: self.path.clone(), reason });
        }
        Ok(values)
    }

    /// Reads as many values as the column beside it has just read.
    pub(super) fn beside(&mut self, rows: usize) -> Result<(), DuplicatesError> {
        let found = self.read(rows)?;
        if found == rows {
            return Ok(());
        }
        let reason = format!("column {} ends before the others do", self.name);
        Err(DuplicatesError::Row { path: self.path.clone(), reason })
    }
}

/// A table that is written: beside its place, synced and renamed when it is whole.
pub(super) struct TableWriter {
    path: PathBuf,
    writer: SerializedFileWriter<Whole>,
}

/// The values of one column of a row group.
pub(super) enum Values<'a> {
    Int64(&'a [i64]),
    Int32(&'a [i32]),
    Bool(&'a [bool]),
}

impl TableWriter {
    /// `schema` in Parquet's own message notation; the columns named in `repeating` have few distinct values.
    pub(super) fn create(path: &Path, schema: &str, repeating: &[&str]) -> Result<Self, DuplicatesError> {
        let bad = |source| parquet(path, source);
        let schema = Arc::new(parse_message_type(schema).map_err(bad)?);
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            // Nothing that changes from one build to the next: equal rows are equal bytes.
            .set_created_by("hephaestus-forge".to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_dictionary_enabled(false);
        for column in repeating {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(*column), true);
        }
        let file = Whole::create(path)?;
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).map_err(bad)?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Appends a row group: its columns in the schema's order, all of one length.
    pub(super) fn row_group(&mut self, columns: &[Values<'_>]) -> Result<(), DuplicatesError> {
        let write = |writer: &mut SerializedFileWriter<Whole>| -> Result<(), ParquetError> {
            use parquet::data_type::{BoolType, Int32Type, Int64Type};
            let mut group = writer.next_row_group()?;
            for values in columns {
                let Some(mut column) = group.next_column()? else { break };
                match values {
                    Values::Int64(values) => column.typed::<Int64Type>().write_batch(values, None, None)?,
                    Values::Int32(values) => column.typed::<Int32Type>().write_batch(values, None, None)?,
                    Values::Bool(values) => column.typed::<BoolType>().write_batch(values, None, None)?,
                };
                column.close()?;
            }
            group.close().map(drop)
        };
        write(&mut self.writer).map_err(|source| parquet(&self.path, source))
    }

    pub(super) fn finish(self) -> Result<(), DuplicatesError> {
        let Self { path, writer } = self;
        let file = writer.into_inner().map_err(|source| parquet(&path, source))?;
        Ok(file.finish()?)
    }
}

fn parquet(path: &Path, source: ParquetError) -> DuplicatesError {
    DuplicatesError::Parquet { path: path.to_owned(), source }
}

/// Calls the library, which panics on some damaged files: that is an error here, and what it worked on is not used again.
fn guarded<R>(path: &Path, call: impl FnOnce() -> Result<R, ParquetError>) -> Result<R, DuplicatesError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(ParquetError::General("damaged in a way that the reader does not know".to_owned())))
        .map_err(|source| parquet(path, source))
}
