//! Which checkpoints stay: the newest few, and each whose step is a multiple of a number.

use std::path::Path;

use super::{CheckpointError, find};

/// Removes what neither `keep_last` nor `keep_every` keeps. A folder loses its name first, so that one half removed is
/// never taken for a checkpoint.
///
/// # Errors
/// A folder that cannot be removed.
pub fn prune(output: &Path, keep_last: usize, keep_every: Option<u64>) -> Result<(), CheckpointError> {
    let all = find::all(output)?;
    let older = all.len().saturating_sub(keep_last.max(1));
    for (step, folder) in &all[..older] {
        if keep_every.is_some_and(|every| every > 0 && step.is_multiple_of(every)) {
            continue;
        }
        let hidden = output.join(format!(".step-{step}.removing"));
        if hidden.exists() {
            fs_err::remove_dir_all(&hidden)?;
        }
        fs_err::rename(folder, &hidden)?;
        fs_err::remove_dir_all(&hidden)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_every_kth_stay() {
        let output = tempfile::tempdir().unwrap();
        for step in [10, 20, 30, 40, 50, 9] {
            fs_err::create_dir_all(find::folder(output.path(), step).join("model")).unwrap();
        }
        let left = |keep_last, keep_every| {
            prune(output.path(), keep_last, keep_every).unwrap();
            find::all(output.path()).unwrap().into_iter().map(|(step, _)| step).collect::<Vec<_>>()
        };
        assert_eq!(left(6, None), [9, 10, 20, 30, 40, 50]);
        assert_eq!(left(2, Some(20)), [20, 40, 50]);
        assert_eq!(left(0, None), [50]);
        assert_eq!(fs_err::read_dir(output.path()).unwrap().count(), 1);
    }
}
