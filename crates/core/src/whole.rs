//! Files that are whole or not there: written beside their place, synced, renamed.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file on its way to its place; it is removed again unless it is finished.
#[derive(Debug)]
pub struct Whole {
    to: PathBuf,
    temporary: PathBuf,
    file: BufWriter<fs_err::File>,
}

impl Whole {
    /// Begins the file that will be at `path`; what is there stays until [`Self::finish`].
    ///
    /// # Errors
    /// The file beside it cannot be created.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        // Hidden: who reads the whole folder passes over what a killed program left.
        let mut beside = OsString::from(".");
        beside.push(path.file_name().unwrap_or_default());
        beside.push(".tmp");
        let temporary = path.with_file_name(beside);
        let file = BufWriter::with_capacity(1 << 20, fs_err::File::create(&temporary)?);
        Ok(Self { to: path.to_owned(), temporary, file })
    }

    /// Puts it in its place: synced, then renamed.
    ///
    /// # Errors
    /// It cannot be written to the end, synced or renamed; what was in its place is there still.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs_err::rename(&self.temporary, &self.to)?;
        let folder = self.to.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        fs_err::File::open(folder)?.sync_all()
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // Renamed by now, unless something failed; then nothing half-written stays, and no second error matters.
        let _ = fs_err::remove_file(&self.temporary);
    }
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// # Errors
/// The file cannot be written; what was in its place is there still.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = Whole::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_leaves_what_was_there_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write(&path, b"one").unwrap();
        let mut second = Whole::create(&path).unwrap();
        second.write_all(b"two").unwrap();
        drop(second);
        assert_eq!(fs_err::read(&path).unwrap(), b"one");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }
}
