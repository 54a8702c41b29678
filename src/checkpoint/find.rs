//! Which checkpoints there are, and which of them to go on from.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::manifest::Manifest;
use super::together::{Together, TogetherError};
use super::{CheckpointError, MANIFEST};

/// Prefix of a checkpoint's folder; its step follows.
const PREFIX: &str = "step-";

/// A checkpoint that was passed over, and why.
#[derive(Debug)]
pub struct Skipped {
    /// Its folder.
    pub folder: PathBuf,
    /// What is wrong with it.
    pub reason: CheckpointError,
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

/// The newest checkpoint of a run that verifies, if any, and those that were passed over.
///
/// # Errors
/// A folder that cannot be read.
pub fn newest(output: &Path) -> Result<(Option<PathBuf>, Vec<Skipped>), CheckpointError> {
    let mut skipped = Vec::new();
    for (_, folder) in all(output)?.into_iter().rev() {
        match Manifest::read(&folder).and_then(|manifest| manifest.verify(&folder)) {
            Ok(()) => {
                tracing::debug!(folder = %folder.display(), "verified");
                return Ok((Some(folder), skipped));
            }
            Err(reason) => skipped.push(Skipped { folder, reason }),
        }
    }
    Ok((None, skipped))
}

/// The checkpoint that a user names: its own folder, or that of a run, which stands for its newest that verifies.
///
/// # Errors
/// [`CheckpointError::NotOne`] where neither is there, [`CheckpointError::Damaged`] where it does not verify.
pub fn named(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.join(MANIFEST).is_file() {
        Manifest::read(path)?.verify(path)?;
        return Ok(path.to_owned());
    }
    match newest(path)? {
        (Some(folder), _) => Ok(folder),
        (None, mut skipped) if !skipped.is_empty() => Err(skipped.swap_remove(0).reason),
        (None, _) => Err(CheckpointError::NotOne(path.to_owned())),
    }
}

/// The checkpoint that rank 0 chooses, for all to go on from, and whatever else it says of it; others only see that it is
/// there. `E` is the error of `choose`, such as that of [`newest`] or [`named`].
///
/// # Errors
/// Whatever `choose` returns, and [`CheckpointError::NotShared`] where a rank does not see the checkpoint; the same on all.
pub fn together<T, E>(
    together: &Together<'_>,
    choose: impl FnOnce() -> Result<(Option<PathBuf>, T), E>,
) -> Result<(Option<PathBuf>, T), E>
where
    T: Serialize + DeserializeOwned,
    E: Display + From<CheckpointError> + From<TogetherError>,
{
    let (chosen, said) = together.first("choose a checkpoint", choose)?;
    let see = || match &chosen {
        Some(folder) if !folder.join(MANIFEST).is_file() => Err(CheckpointError::NotShared(folder.clone()).into()),
        _ => Ok(()),
    };
    together.all("find the checkpoint to go on from", see, |seen: Result<Vec<()>, E>| seen.map(drop))?;
    Ok((chosen, said))
}
