//! Files of a run in its own folder, which others may write to as well: they are never followed elsewhere.

use std::io;
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{File, OpenOptions};
use rustix::fs::OFlags;

/// Opens a regular file as `options` say. What lies behind a symbolic link is neither read nor changed, and a FIFO or a device is
/// not waited for.
///
/// # Errors
/// Anything else under that name, and what the system refuses; with the path.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let refuse = |what: &str| {
        let text = format!("{}: {what}: expected a file of this run; remove it", path.display());
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    const OTHER: &str = "is a FIFO, a device or a folder";
    match fs_err::symlink_metadata(path).map(|found| found.file_type()) {
        Ok(found) if found.is_symlink() => return refuse("is a symbolic link"),
        Ok(found) if !found.is_file() => return refuse(OTHER),
        // The flags see to what takes its place meanwhile.
        _ => {}
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { refuse(OTHER) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_fifos_and_folders_are_refused_at_once_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs_err::write(path("precious"), "kept").unwrap();
        std::os::unix::fs::symlink(path("precious"), path("link")).unwrap();
        std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        fs_err::create_dir(path("folder")).unwrap();
        for name in ["link", "dangling", "fifo", "folder"] {
            let mut options = OpenOptions::new();
            let error = open(&path(name), options.write(true).create(true)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(open(&path(name), OpenOptions::new().read(true)).is_err(), "{name}");
        }
        assert_eq!(fs_err::read_to_string(path("precious")).unwrap(), "kept");
        assert!(!path("nowhere").exists());
        assert!(open(&path("new"), OpenOptions::new().write(true).create(true)).is_ok());
    }
}
