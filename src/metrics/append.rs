//! Files that only ever grow by whole records.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use fs_err::{File, OpenOptions};

use crate::own;

/// A file that holds whole records up to its end, whatever failed.
#[derive(Debug)]
pub(super) struct Appended {
    file: File,
    length: u64,
}

impl Appended {
    /// Makes a new file.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one, or what the system refuses.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = own::open(path, OpenOptions::new().append(true).create_new(true))?;
        Ok(Self { file, length: 0 })
    }

    /// Opens a file of lines, or makes it; what stands after the last line break, left by a process that was killed while
    /// it wrote, is cut off.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn lines(path: &Path) -> io::Result<Self> {
        let mut file = own::open(path, OpenOptions::new().read(true).append(true).create(true))?;
        let found = file.metadata()?.len();
        let length = end_of_last_line(&mut file, found)?;
        if length < found {
            file.set_len(length)?;
        }
        Ok(Self { file, length })
    }

    /// Adds one record in one write. Where that fails, such as on a full disk, the part that was written is taken back.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(record) {
            // The first error is the one to tell; a file that cannot be cut either is repaired at the next opening.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += record.len() as u64;
        Ok(())
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Offset after the last line break, searched from the end; 0 where there is none.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut end = length;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize((end - start) as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_opening(content: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs_err::write(&path, content).unwrap();
        Appended::lines(&path).unwrap().append(b"new\n").unwrap();
        fs_err::read(&path).unwrap()
    }

    #[test]
    fn a_half_written_last_line_is_cut_off() {
        assert_eq!(after_opening(b"one\ntwo\nthr"), b"one\ntwo\nnew\n");
        assert_eq!(after_opening(b"on"), b"new\n");
    }

    #[test]
    fn whole_lines_are_kept() {
        assert_eq!(after_opening(b""), b"new\n");
        assert_eq!(after_opening(b"one\ntwo\n"), b"one\ntwo\nnew\n");
    }

    #[test]
    fn a_half_written_line_longer_than_a_block_is_cut_off_whole() {
        let mut content = b"one\n".to_vec();
        content.resize(200_000, b'x');
        assert_eq!(after_opening(&content), b"one\nnew\n");
    }

    #[test]
    fn an_existing_file_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        Appended::create(&path).unwrap().append(b"kept").unwrap();
        assert_eq!(Appended::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs_err::read(&path).unwrap(), b"kept");
    }
}
