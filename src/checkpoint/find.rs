//! Which checkpoints there are, and which of them to go on from.

use std::path::{Path, PathBuf};

use super::manifest::Manifest;
use super::together::Together;
use super::{CheckpointError, MANIFEST, shared};

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
        let entry = entry?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|step| step.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
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
    let told = |verified: Result<(), CheckpointError>| verified.err().map(|error| error.to_string());
    let sizes = || Manifest::read(folder).and_then(|manifest| manifest.verify_sizes(folder));
    let found = together.first::<_, CheckpointError>("look at a checkpoint", || Ok(told(sizes())))?;
    if found.is_some() {
        return Ok(found);
    }
    let reader = (together.rank(), together.count());
    let share = || {
        shared::see(folder, together, || folder.join(MANIFEST).is_file())?;
        Ok(told(Manifest::read(folder).and_then(|manifest| manifest.verify(folder, reader))))
    };
    let first = |found: Result<Vec<Option<String>>, CheckpointError>| Ok(found?.into_iter().flatten().next());
    together.all("verify a checkpoint", share, first)
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
