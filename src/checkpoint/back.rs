//! A run that is taken up further back: what it had saved after that is set aside, so that neither the newest checkpoint nor
//! those that are kept are of what it left; and the same command, given again, goes on instead of going back again.

use std::path::{Path, PathBuf};

use hephaestus_core::whole;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, find};

/// Name of the file in a run's folder that says where a user had it go on from.
pub const WENT_BACK: &str = "went-back.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WentBack {
    /// What the user named, as an absolute path.
    to: String,
    /// The step of the checkpoint there.
    step: u64,
}

/// Renames checkpoints of a run that goes on from `checkpoint`, after `step` steps, wherever that lies: those of later steps, and
/// another of the same. Returns their new names, which are none of a checkpoint.
///
/// # Errors
/// A folder that cannot be read or renamed.
pub fn set_aside(output: &Path, checkpoint: &Path, step: u64) -> Result<Vec<PathBuf>, CheckpointError> {
    let checkpoint = fs_err::canonicalize(checkpoint)?;
    let mut left = Vec::new();
    for (later, folder) in find::all(output)? {
        if later < step || fs_err::canonicalize(&folder)? == checkpoint {
            continue;
        }
        let names = std::iter::once("left".to_owned()).chain((2..).map(|number| format!("left-{number}")));
        let free = names.map(|name| folder.with_extension(name)).find(|aside| !aside.exists());
        if let Some(aside) = free {
            fs_err::rename(&folder, &aside)?;
            left.push(aside);
        }
    }
    if !left.is_empty() {
        fs_err::File::open(output)?.sync_all()?;
    }
    Ok(left)
}

/// The step of the checkpoint at `path`, if that is where the run in `output` was last had to go on from.
///
/// # Errors
/// A file that cannot be read, or is not what is written here.
pub fn went_back(output: &Path, path: &Path) -> Result<Option<u64>, CheckpointError> {
    let file = output.join(WENT_BACK);
    if !file.exists() {
        return Ok(None);
    }
    let last: WentBack = serde_json::from_slice(&fs_err::read(&file)?).map_err(|error| CheckpointError::Damaged {
        reason: format!("{error}: remove it, and the run goes back to {}", path.display()),
        file: file.clone(),
    })?;
    Ok((last.to == absolute(path)).then_some(last.step))
}

/// Records that the run in `output` goes on from `path`, where its checkpoint is of `step`.
///
/// # Errors
/// A file that cannot be written.
pub fn record(output: &Path, path: &Path, step: u64) -> Result<(), CheckpointError> {
    if went_back(output, path)?.is_some() {
        return Ok(());
    }
    let text = serde_json::to_string(&WentBack { to: absolute(path), step }).map_err(std::io::Error::from)?;
    Ok(whole::write(&output.join(WENT_BACK), format!("{text}\n").as_bytes())?)
}

/// The same for every way to name a path. Its last part may be gone by now, as old checkpoints are removed.
fn absolute(path: &Path) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) => fs_err::canonicalize(parent).map(|parent| parent.join(name)),
        _ => fs_err::canonicalize(&whole),
    };
    real.unwrap_or(whole).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::retention;
    use super::*;

    fn make(output: &Path, names: &[&str]) {
        for name in names {
            fs_err::create_dir_all(output.join(name).join("model")).unwrap();
        }
    }

    fn names(output: &Path) -> Vec<String> {
        let all = fs_err::read_dir(output).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn what_a_run_left_is_set_aside_and_its_new_checkpoints_stay() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        make(output, &["step-10", "step-20", "step-30", "step-30.left", "step-40"]);
        let from = find::folder(output, 10);
        let left = set_aside(output, &output.join(".").join("step-10"), 10).unwrap();
        assert_eq!(left, ["step-20.left", "step-30.left-2", "step-40.left"].map(|name| output.join(name)));
        assert_eq!(find::all(output).unwrap(), [(10, from)]);
        make(output, &["step-15"]);
        retention::prune(output, 1, None).unwrap();
        assert_eq!(names(output), ["step-15", "step-20.left", "step-30.left", "step-30.left-2", "step-40.left"]);
        // Of a run that goes on from elsewhere its own of the same step, too.
        make(output, &["other/step-15"]);
        set_aside(output, &output.join("other/step-15"), 15).unwrap();
        assert!(find::all(output).unwrap().is_empty() && output.join("step-15.left").exists());
    }

    #[test]
    fn where_a_run_went_back_to_is_known_by_any_name_and_after_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path();
        make(output, &["step-10", "step-20"]);
        assert_eq!(went_back(output, &output.join("step-10")).unwrap(), None);
        record(output, &output.join("step-10"), 10).unwrap();
        let by_another_name = output.join("step-20/../step-10/");
        assert_eq!(went_back(output, &by_another_name).unwrap(), Some(10));
        fs_err::remove_dir_all(output.join("step-10")).unwrap();
        assert_eq!(went_back(output, &by_another_name).unwrap(), Some(10));
        assert_eq!(went_back(output, &output.join("step-20")).unwrap(), None);
        record(output, &output.join("step-20"), 20).unwrap();
        assert_eq!(went_back(output, &by_another_name).unwrap(), None);
        fs_err::write(output.join(WENT_BACK), "{").unwrap();
        let error = went_back(output, &by_another_name).unwrap_err().to_string();
        assert!(error.contains("went-back.json: EOF") && error.contains(": remove it"), "{error}");
    }
}
