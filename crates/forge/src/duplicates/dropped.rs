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
        let (mut from, mut open) = (None, None);
        for group in self.groups.iter().filter(|group| group.least <= last && group.last >= least) {
            let path = &self.files[group.file];
            let table = match open.take() {
                Some((file, table)) if file == group.file => table,
                _ => Table::open(path)?,
            };
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
            open = Some((group.file, table));
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

#[cfg(test)]
mod tests {
    use super::super::table::{TableWriter, Values};
    use super::*;

    const SCHEMA: &str = "message duplicates { REQUIRED INT64 id; REQUIRED INT64 kept; REQUIRED BOOLEAN exact; }";

    /// Writes a row group for each list of documents and what they go for.
    fn table(path: &Path, groups: &[&[(i64, i64)]]) {
        let mut table = TableWriter::create(path, SCHEMA, &[]).unwrap();
        for group in groups {
            let (id, kept): (Vec<_>, Vec<_>) = group.iter().copied().unzip();
            let exact: Vec<_> = id.iter().map(|id| id % 2 == 0).collect();
            table.row_group(&[Values::Int64(&id), Values::Int64(&kept), Values::Bool(&exact)]).unwrap();
        }
        table.finish().unwrap();
    }

    fn refused(path: &Path) -> String {
        let folder = path.parent().unwrap().display().to_string();
        let opened = Dropped::open(path).and_then(|dropped| dropped.of_part(0));
        opened.unwrap_err().to_string().replace(&folder, "FOLDER")
    }

    #[test]
    fn a_part_finds_its_rows_in_several_files_and_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let second = document_id(1, 0);
        table(&folder.path().join("b.parquet"), &[&[(9, 1), (second + 3, 9)], &[(4, 0)]]);
        table(&folder.path().join("a.parquet"), &[&[(second + 1, second)], &[(document_id(2, 0), 0)]]);
        fs_err::write(folder.path().join("_SUCCESS"), "").unwrap();
        fs_err::write(folder.path().join(".a.parquet.crc"), "crc").unwrap();
        let dropped = Dropped::open(folder.path()).unwrap();
        assert_eq!(dropped.of_part(0).unwrap(), [(4, 0, true), (9, 1, false)]);
        assert_eq!(dropped.of_part(1).unwrap(), [(1, second, false), (3, 9, false)]);
        assert_eq!(dropped.of_part(3).unwrap(), []);
    }

    #[test]
    fn a_part_reads_only_the_row_groups_that_may_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let rows: Vec<_> = (1..1000).map(|id| (id, 0)).collect();
        let later: Vec<_> = (0..1000).map(|number| (document_id(1, number), 0)).collect();
        table(&path, &[&rows, &later]);
        let dropped = Dropped::open(&path).unwrap();
        // The first pages are damaged: only the part that needs them notices.
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[4..40].fill(0xff);
        fs_err::write(&path, bytes).unwrap();
        assert_eq!(dropped.of_part(1).unwrap().len(), 1000);
        assert!(dropped.of_part(0).is_err());
    }

    #[test]
    fn what_is_no_grouping_is_refused_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        fs_err::write(&path, "id,kept,exact\n").unwrap();
        let mut all = vec![refused(&path)];
        table(&path, &[&[(3, 3)]]);
        all.push(refused(&path));
        table(&path, &[&[(3, -1)]]);
        all.push(refused(&path));
        table(&path, &[&[(3, 1)], &[(3, 2)]]);
        all.push(refused(&path));
        let schemas = [
            "message m { REQUIRED INT64 id; REQUIRED INT64 kept; }",
            "message m { REQUIRED INT32 id; REQUIRED INT64 kept; REQUIRED BOOLEAN exact; }",
            "message m { REPEATED INT64 id; REQUIRED INT64 kept; REQUIRED BOOLEAN exact; }",
        ];
        for schema in schemas {
            TableWriter::create(&path, schema, &[]).unwrap().finish().unwrap();
            all.push(refused(&path));
        }
        let empty = folder.path().join("empty");
        fs_err::create_dir(&empty).unwrap();
        all.push(refused(&empty));
        insta::assert_snapshot!(all.join("\n"), @r"
        FOLDER/a.parquet: not a sound Parquet file (Parquet error: Invalid Parquet file. Corrupt footer); write it again
        FOLDER/a.parquet: document 3 goes for 3, which does not come before it; group the signatures again
        FOLDER/a.parquet: document 3 goes for -1, which does not come before it; group the signatures again
        FOLDER/a.parquet: document 3 stands here twice; group the signatures again
        FOLDER/a.parquet: column exact is missing, expected BOOLEAN
        FOLDER/a.parquet: column id is INT32, expected INT64 (a 64-bit integer, BIGINT)
        FOLDER/a.parquet: column id is repeated, expected INT64 (a 64-bit integer, BIGINT)
        FOLDER/empty: no Parquet file here; give the file that the grouping wrote, or the folder of files
        ");
    }
}
