//! Which checkpoints there are, and which of them to go on from.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::manifest::Manifest;
use super::together::Together;
use super::{CheckpointError, MANIFEST, State, shared};

/// Prefix of a checkpoint's folder; its step follows.
const PREFIX: &str = "step-";

/// A checkpoint that was passed over, and why.
#[derive(Debug)]
pub struct Skipped {
    /// Its folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The folder of the checkpoint after `step` steps.
#[must_use]
pub fn folder(output: &Path, step: u64) -> PathBuf {
    output.join(format!("{PREFIX}{step}"))
}

/// The step that the folder of a checkpoint is named for.
#[must_use]
pub fn step_of(folder: &Path) -> Option<u64> {
    folder.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Returns whether the checkpoint in `folder` has all its files, of the sizes that its manifest gives; their contents are not looked at.
#[must_use]
pub fn is_complete(folder: &Path) -> bool {
    Manifest::read(folder).and_then(|manifest| manifest.verify_sizes(folder)).is_ok()
}

/// The checkpoints in a run's folder with their steps, oldest first; none where the folder is missing.
///
/// # Errors
/// A folder that cannot be read.
pub fn all(output: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    if !output.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(output)? {
        let path = entry?.path();
        if let Some(step) = step_of(&path) {
            found.push((step, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What a path stands for: the checkpoint that it is, or those of the run that it is, newest first; none where it is neither.
///
/// # Errors
/// A folder that cannot be read.
pub fn candidates(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if path.join(MANIFEST).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    Ok(all(path)?.into_iter().rev().map(|(_, folder)| folder).collect())
}

/// The first of `candidates` that verifies, if any, and those that were passed over. All ranks give the same, and each reads
/// its share of the files.
///
/// # Errors
/// [`CheckpointError::NotShared`] where a rank does not see one, and ranks that do not come; the same on all.
pub fn verified(
    candidates: Vec<PathBuf>,
    together: &Together<'_>,
) -> Result<(Option<PathBuf>, Vec<Skipped>), CheckpointError> {
    let mut skipped = Vec::new();
    for folder in candidates {
        match flaw(&folder, together)? {
            None => {
                tracing::debug!(folder = %folder.display(), "verified");
                return Ok((Some(folder), skipped));
            }
            Some(reason) => skipped.push(Skipped { folder, reason }),
        }
    }
    Ok((None, skipped))
}

/// What is wrong with a checkpoint, as the first rank that finds something has it.
fn flaw(folder: &Path, together: &Together<'_>) -> Result<Option<String>, CheckpointError> {
    let sizes = || Manifest::read(folder)?.verify_sizes(folder);
    let found = together.first("look at a checkpoint", || patiently(folder, sizes))?;
    if found.is_some() {
        return Ok(found);
    }
    let reader = (together.rank(), together.count());
    let share = || {
        shared::see(folder, together, || folder.join(MANIFEST).is_file())?;
        patiently(folder, || Manifest::read(folder)?.verify(folder, reader))
    };
    let first = |found: Result<Vec<Option<String>>, CheckpointError>| match found?.into_iter().flatten().next() {
        None => patiently(folder, || State::read(folder).map(drop)),
        flaw => Ok(flaw),
    };
    together.all("verify a checkpoint", share, first)
}

/// How long a file that could not be read is left alone before it is read again, each time.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800), Duration::from_millis(2000)];

/// What `verify` finds wrong with the checkpoint in `folder`. A file that the system would not read is read again, and is no flaw.
///
/// # Errors
/// [`CheckpointError::Unreadable`] where it would not several times in a row.
fn patiently(
    folder: &Path,
    verify: impl Fn() -> Result<(), CheckpointError>,
) -> Result<Option<String>, CheckpointError> {
    let mut pauses = PAUSES.iter();
    loop {
        match (verify(), pauses.next()) {
            (Ok(()), _) => return Ok(None),
            (Err(CheckpointError::Io(error)), _) if error.kind() == ErrorKind::NotFound => {
                return Ok(Some(error.to_string()));
            }
            (Err(CheckpointError::Io(_)), Some(pause)) => thread::sleep(*pause),
            (Err(CheckpointError::Io(error)), None) => {
                return Err(CheckpointError::Unreadable { folder: folder.to_owned(), reason: error.to_string() });
            }
            (Err(error), _) => return Ok(Some(error.to_string())),
        }
    }
}

/// The checkpoint that a user names: its own folder, or that of a run, which stands for its newest that verifies.
///
/// # Errors
/// [`CheckpointError::NotOne`] where neither is there, [`CheckpointError::Unsound`] where none verifies.
pub fn named(path: &Path) -> Result<PathBuf, CheckpointError> {
    let (found, skipped) = verified(candidates(path)?, &Together::alone())?;
    found.ok_or_else(|| match skipped.into_iter().next() {
        Some(newest) => CheckpointError::Unsound(newest.reason),
        None => CheckpointError::NotOne(path.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;

    use super::*;

    /// What comes of a verification that fails so often with an error of the system's.
    fn after(failures: usize, error: fn() -> CheckpointError) -> (Result<Option<String>, CheckpointError>, usize) {
        let tries = Cell::new(0);
        let verify = || {
            tries.set(tries.get() + 1);
            if tries.get() <= failures { Err(error()) } else { Ok(()) }
        };
        (patiently(Path::new("out/step-3"), verify), tries.get())
    }

    #[test]
    fn a_file_that_cannot_be_read_just_now_is_read_again_and_is_no_flaw() {
        let eio = || CheckpointError::Io(io::Error::from_raw_os_error(5));
        assert!(matches!(after(2, eio), (Ok(None), 3)));
        let (outcome, tries) = after(usize::MAX, eio);
        let told = outcome.unwrap_err().to_string();
        assert!(told.starts_with("out/step-3 could not be read, several times in a row: ") && tries == 5, "{told}");
    }

    #[test]
    fn a_file_that_is_missing_or_damaged_is_a_flaw_at_once() {
        let missing = || CheckpointError::Io(io::ErrorKind::NotFound.into());
        assert!(matches!(after(usize::MAX, missing), (Ok(Some(_)), 1)));
        let damaged = || CheckpointError::Damaged { file: "state.json".into(), reason: "cut short".to_owned() };
        assert!(matches!(after(usize::MAX, damaged), (Ok(Some(_)), 1)));
    }
}
