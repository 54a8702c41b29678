//! Which checkpoints stay: the newest few, and each whose step is a multiple of a number; and what a run that was killed
//! while it wrote or removed one left behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{CheckpointError, State, find};

/// Removes what neither `keep_last` nor `keep_every` keeps, nor was saved before skipped updates (`before_skipped`). A folder
/// loses its name first, so that one half removed is never taken for a checkpoint. What cannot be removed stays, and is tried
/// again the next time: a line is returned for each.
///
/// # Errors
/// A folder that cannot be read.
pub fn prune(output: &Path, keep_last: usize, keep_every: Option<u64>) -> Result<Vec<String>, CheckpointError> {
    let mut told = clear(output, &["removing"])?;
    let all = find::all(output)?;
    let older = all.len().saturating_sub(keep_last.max(1));
    let kept = before_skipped(&all);
    for (step, folder) in &all[..older] {
        if keep_every.is_some_and(|every| every > 0 && step.is_multiple_of(every)) || kept.contains(step) {
            continue;
        }
        let hidden = output.join(format!(".step-{step}.removing"));
        let removed = fs_err::rename(folder, &hidden).and_then(|()| fs_err::remove_dir_all(&hidden));
        told.extend(removed.err().map(|error| not_removed(&error)));
    }
    Ok(told)
}

/// The steps of two checkpoints that stay whatever else does: the newest saved before the first update that was skipped for a
/// loss or gradient that was not finite, and the newest before the last ones. Later ones may hold weights that have blown up.
fn before_skipped(all: &[(u64, PathBuf)]) -> BTreeSet<u64> {
    let skipped = |(step, folder): &(u64, PathBuf)| State::read(folder).ok().map(|state| (*step, state.skipped));
    let known: Vec<_> = all.iter().filter_map(skipped).collect();
    let before: Vec<_> = known.windows(2).filter(|pair| pair[0].1 < pair[1].1).map(|pair| pair[0].0).collect();
    [before.first(), before.last()].into_iter().flatten().copied().collect()
}

/// Clears what a killed run left half-written or half-removed. A checkpoint that had stepped aside for one of the same step,
/// which then never got its name, gets its own back. No other run may be writing to `output`. What cannot be removed stays, with
/// a line for each: it has no name that counts.
///
/// # Errors
/// A folder that cannot be read, or a checkpoint that cannot have its name back.
pub fn clear_leftovers(output: &Path) -> Result<Vec<String>, CheckpointError> {
    clear(output, &["replaced", "writing", "removing"])
}

/// Clears what was left under names of these endings.
fn clear(output: &Path, endings: &[&str]) -> Result<Vec<String>, CheckpointError> {
    let mut told = Vec::new();
    for entry in fs_err::read_dir(output)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(".step-"));
        let Some((step, ending)) = name.and_then(|name| name.rsplit_once('.')) else { continue };
        let Ok(step) = step.parse() else { continue };
        let folder = find::folder(output, step);
        if !endings.contains(&ending) {
            continue;
        }
        if ending == "replaced" && !folder.exists() {
            fs_err::rename(&path, folder)?;
        } else if let Err(error) = fs_err::remove_dir_all(&path) {
            told.push(not_removed(&error));
        }
    }
    Ok(told)
}

fn not_removed(error: &std::io::Error) -> String {
    format!("an old checkpoint could not be removed, and is tried again at the next: {error}")
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

    #[test]
    fn what_was_saved_before_the_first_and_the_latest_skipped_updates_stays() {
        let output = tempfile::tempdir().unwrap();
        for (step, skipped) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 4), (8, 4), (9, 4)] {
            let folder = find::folder(output.path(), step);
            fs_err::create_dir_all(&folder).unwrap();
            let state = serde_json::json!({
                "version": 2, "step": step, "tokens": step, "skipped": skipped, "stage": "main", "stage_step": step, "seed": 0,
                "sequence_length": 1, "sources": {}
            });
            fs_err::write(folder.join("state.json"), state.to_string()).unwrap();
        }
        prune(output.path(), 1, None).unwrap();
        let left: Vec<_> = find::all(output.path()).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(left, [2, 6, 9]);
    }

    #[test]
    fn what_a_killed_run_left_goes_and_a_checkpoint_that_stepped_aside_comes_back() {
        let output = tempfile::tempdir().unwrap();
        let names = [".step-4.writing", ".step-5.removing", ".step-6.replaced", "step-7", ".step-7.replaced", ".other"];
        for name in names {
            fs_err::create_dir_all(output.path().join(name).join("model")).unwrap();
        }
        clear_leftovers(output.path()).unwrap();
        let left = fs_err::read_dir(output.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort_unstable();
        assert_eq!(left, [".other", "step-6", "step-7"]);
    }
}
