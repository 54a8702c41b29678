//! The result of a grouping, looked up part by part.
//!
//! It may come from [`super::group()`] or, by [`super::SQL`], from DuckDB or Spark: any Parquet file or folder of files with
//! the columns `id`, `kept` and `exact`. Row groups are found by their statistics; rows may be in any order, but the more
//! they are in that of `id` the fewer row groups a part needs.

use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::data_type::{BoolType, Int64Type};

use super::table::Table;
use super::{DuplicatesError, document_id};

/// Rows read at once.
const BATCH: usize = 1 << 13;

/// A grouping that is looked up. Holds a few words a row group.
#[derive(Clone, Debug)]
pub struct Dropped {
    files: Vec<PathBuf>,
    groups: Vec<Group>,
}

/// A row group.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// The file, by its place in the list.
    file: usize,
    group: usize,
    /// Least and largest document in it.
    least: i64,
    last: i64,
}

impl Dropped {
    /// Opens a file, or all `.parquet` files of a folder.
    ///
    /// # Errors
    /// There is none, or one is no Parquet or lacks a column.
    pub fn open(path: &Path) -> Result<Self, DuplicatesError> {
        let files = files(path)?;
        let mut groups = Vec::new();
        for (file, path) in files.iter().enumerate() {
            let table = Table::open(path)?;
            let id = table.find("id", Type::INT64)?;
            table.find("kept", Type::INT64)?;
            table.find("exact", Type::BOOLEAN)?;
            for group in 0..table.row_groups() {
                // Without statistics it may hold anything.
                let (least, last) = table.range(group, id).unwrap_or((i64::MIN, i64::MAX));
                groups.push(Group { file, group, least, last });
            }
        }
        Ok(Self { files, groups })
    }

    /// The documents of a part that are left out, by ascending number: the number, the document it goes for, and whether
    /// it equals one before.
    ///
    /// # Errors
    /// A file cannot be read, or holds what no grouping does: a null, a document twice, or one that goes for itself or a
    /// later one.
    pub fn of_part(&self, part: u32) -> Result<Vec<(u32, i64, bool)>, DuplicatesError> {
        let (least, last) = (document_id(part, 0), document_id(part, u32::MAX));
        let mut all = Vec::new();
        let mut from = None;
        for group in self.groups.iter().filter(|group| group.least <= last && group.last >= least) {
            let path = &self.files[group.file];
            let table = Table::open(path)?;
            let mut id = table.column::<Int64Type>(group.group, "id")?;
            let mut kept = table.column::<Int64Type>(group.group, "kept")?;
            let mut exact = table.column::<BoolType>(group.group, "exact")?;
            loop {
                let read = id.read(BATCH)?;
                if read == 0 {
                    break;
                }
                kept.beside(read)?;
                exact.beside(read)?;
                for ((id, kept), exact) in id.values.iter().zip(&kept.values).zip(&exact.values) {
                    if !(least..=last).contains(id) {
                        continue;
                    }
                    if !(0..*id).contains(kept) {
                        let reason = format!("document {id} goes for {kept}, which does not come before it");
                        return Err(DuplicatesError::Row { path: path.clone(), reason });
                    }
                    from = Some(path);
                    all.push(((id - least) as u32, *kept, *exact));
                }
            }
        }
        all.sort_unstable();
        if let (Some([(number, ..), _]), Some(path)) = (all.windows(2).find(|two| two[0].0 == two[1].0), from) {
            let reason = format!("document {} stands here twice", document_id(part, *number));
            return Err(DuplicatesError::Row { path: path.clone(), reason });
        }
        Ok(all)
    }
}

/// The files of a grouping, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, DuplicatesError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs_err::read_dir(path)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']));
        if !hidden && path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() { Err(DuplicatesError::Nothing(path.to_owned())) } else { Ok(files) }
}
