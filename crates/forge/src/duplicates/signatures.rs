//! Signatures in Parquet files, one a part of the corpus, that DuckDB, Spark and pandas read.
//!
//! A row a band: `id` (the document, [`super::document_id`]), `band` and the hash as `high` and `low`. Band 0 is the
//! content's 128-bit hash; bands from 1 are MinHash bands, whose 64-bit hash is `high`, `low` being 0. All are signed
//! integers holding the hashes' bits. Equal signatures make equal bytes.

use std::path::Path;

use parquet::data_type::{Int32Type, Int64Type};

use super::DuplicatesError;
use super::sign::Signature;
use super::spill::Row;
use super::table::{Table, TableWriter, Values};

const SCHEMA: &str = "message signatures {
    REQUIRED INT64 id;
    REQUIRED INT32 band;
    REQUIRED INT64 high;
    REQUIRED INT64 low;
}";
/// Rows of a row group; a document's rows are never in two.
const GROUP: usize = 1 << 17;
/// Rows read at once.
const BATCH: usize = 1 << 13;

/// Writes the signatures of a part. Memory is that of a row group, 4 MB.
pub struct SignatureWriter {
    table: TableWriter,
    id: Vec<i64>,
    band: Vec<i32>,
    high: Vec<i64>,
    low: Vec<i64>,
}

impl SignatureWriter {
    /// A file at `path` that has its name once it is finished.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(path: &Path) -> Result<Self, DuplicatesError> {
        let table = TableWriter::create(path, SCHEMA, &["band"])?;
        Ok(Self { table, id: Vec::new(), band: Vec::new(), high: Vec::new(), low: Vec::new() })
    }

    /// Appends a document's signature; documents come in ascending order.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, id: i64, signature: &Signature) -> Result<(), DuplicatesError> {
        if let Some(content) = signature.content {
            self.row(id, 0, (content >> 64) as u64, content as u64);
        }
        for (band, hash) in (1..).zip(&signature.bands) {
            self.row(id, band, *hash, 0);
        }
        if self.id.len() >= GROUP { self.flush() } else { Ok(()) }
    }

    /// Makes the file whole and gives it its name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<(), DuplicatesError> {
        self.flush()?;
        self.table.finish()
    }

    fn row(&mut self, id: i64, band: i32, high: u64, low: u64) {
        self.id.push(id);
        self.band.push(band);
        self.high.push(high.cast_signed());
        self.low.push(low.cast_signed());
    }

    fn flush(&mut self) -> Result<(), DuplicatesError> {
        if self.id.is_empty() {
            return Ok(());
        }
        let columns =
            [Values::Int64(&self.id), Values::Int32(&self.band), Values::Int64(&self.high), Values::Int64(&self.low)];
        self.table.row_group(&columns)?;
        for column in [&mut self.id, &mut self.high, &mut self.low] {
            column.clear();
        }
        self.band.clear();
        Ok(())
    }
}

/// What the footer of a signature file says of a row group.
pub(super) struct Chunk {
    /// The file, by its place in the list.
    pub(super) file: usize,
    /// The row group.
    pub(super) group: usize,
    /// Its rows.
    pub(super) rows: u64,
    /// Its least document, where the file says.
    pub(super) least: Option<i64>,
}

/// The row groups of signature files.
pub(super) fn chunks(files: &[std::path::PathBuf]) -> Result<Vec<Chunk>, DuplicatesError> {
    let mut all = Vec::new();
    for (file, path) in files.iter().enumerate() {
        let table = Table::open(path)?;
        let id = table.find("id", parquet::basic::Type::INT64)?;
        all.extend((0..table.row_groups()).map(|group| Chunk {
            file,
            group,
            rows: table.rows(group),
            least: table.range(group, id).map(|(least, _)| least),
        }));
    }
    Ok(all)
}

/// Calls `each` with every row of a row group, in its order.
pub(super) fn rows(
    path: &Path,
    group: usize,
    each: &mut impl FnMut(Row) -> Result<(), DuplicatesError>,
) -> Result<(), DuplicatesError> {
    let table = Table::open(path)?;
    let mut id = table.column::<Int64Type>(group, "id")?;
    let mut band = table.column::<Int32Type>(group, "band")?;
    let mut high = table.column::<Int64Type>(group, "high")?;
    let mut low = table.column::<Int64Type>(group, "low")?;
    loop {
        let read = id.read(BATCH)?;
        if read == 0 {
            return Ok(());
        }
        band.beside(read)?;
        high.beside(read)?;
        low.beside(read)?;
        for (((id, band), high), low) in id.values.iter().zip(&band.values).zip(&high.values).zip(&low.values) {
            each(Row { band: *band, high: *high, low: *low, id: *id })?;
        }
    }
}
