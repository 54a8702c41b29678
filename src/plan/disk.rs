//! The disk that the checkpoints of a run take, and whether there is room for them.

use std::path::Path;

use super::{CheckpointPlan, Plan, memory};
use crate::checkpoint::find;
use crate::figures::{size, thousands};
use crate::recipe::quantity::Interval;

/// What a run's checkpoints take beyond those that are in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that the run may write; `None` where the file system does not say.
    pub free: Option<u64>,
    /// Bytes of a checkpoint.
    pub checkpoint: u64,
    /// How many are written.
    pub more: More,
    /// How many are in the folder.
    pub there: u64,
}

/// Checkpoints that a run adds to those that are in its folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// Most of the last few, and of the one that is being written, at once.
    pub at_once: u64,
    /// Those that `keep_every` keeps besides until the end; 0 where checkpoints are written by time, as their steps are not
    /// known.
    pub kept: u64,
}

/// The disk has no room for the checkpoints that are there at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRoom(String);

impl Disk {
    /// The disk of `plan.output`, as it is now.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        // A folder that cannot be read is refused by the start of the run.
        let there: Vec<u64> = find::all(&plan.output).unwrap_or_default().into_iter().map(|(step, _)| step).collect();
        Self {
            free: free(&plan.output),
            checkpoint: memory::checkpoint(plan),
            more: more(plan.checkpoint, plan.steps(), &there),
            there: there.len() as u64,
        }
    }

    /// Bytes that are needed at once.
    #[must_use]
    pub fn needed(&self) -> u64 {
        self.checkpoint.saturating_mul(self.more.at_once)
    }

    /// Bytes of the checkpoints that `keep_every` keeps besides.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.checkpoint.saturating_mul(self.more.kept)
    }

    /// Refuses a disk without room for the checkpoints that are there at once.
    ///
    /// # Errors
    /// Less free space than they take.
    pub fn check(&self, plan: &Plan) -> Result<(), NoRoom> {
        let Some(free) = self.free.filter(|free| *free < self.needed()) else { return Ok(()) };
        let (output, kept, each) = (plan.output.display(), plan.checkpoint.keep_last, size(self.checkpoint));
        let there = if self.there > 0 { format!("; {} are there already", self.there) } else { String::new() };
        Err(NoRoom(format!(
            "{output}: {} free, and checkpoints need {}: {} more of {each} at once, as the last {kept} are kept \
             (checkpoint.keep_last) while another is written{there}; make room, lower checkpoint.keep_last, or name another \
             run.output",
            size(free),
            size(self.needed()),
            self.more.at_once,
        )))
    }

    /// What a plan says of it, many lines with columns as wide as `names` before them.
    #[must_use]
    pub fn show(&self, plan: &Plan, names: usize) -> String {
        let there = if self.there > 0 { format!(" besides the {} there", self.there) } else { String::new() };
        let at_once = format!("{} more checkpoints at once{there}, {}", self.more.at_once, size(self.needed()));
        let free =
            self.free.map_or_else(|| "free space is not known".to_owned(), |free| format!("{} free", size(free)));
        let mut text = format!("{:names$}{at_once}; {free}\n", "disk");
        if let (Some(every), 1..) = (plan.checkpoint.keep_every, self.more.kept) {
            let all = self.needed().saturating_add(self.kept());
            let fit = if self.free.is_some_and(|free| free < all) { ", which do not fit" } else { "" };
            text += &format!(
                "{:names$}{} more by the end, as each whose step is a multiple of {} is kept, {} in all{fit}\n",
                "",
                thousands(self.more.kept),
                thousands(every),
                size(all)
            );
        }
        text
    }
}

/// The checkpoints that a run of `steps` steps adds to those of the steps `there`, from the oldest to the newest.
fn more(CheckpointPlan { every, keep_last, keep_every }: CheckpointPlan, steps: u64, there: &[u64]) -> More {
    let newest = there.last().copied().unwrap_or(0);
    if newest >= steps {
        return More::default();
    }
    let keep_last = keep_last.max(1);
    let last = &there[there.len().saturating_sub(keep_last)..];
    let room = (keep_last + 1 - last.len()) as u64;
    let Interval::Steps(every) = every else { return More { at_once: room, kept: 0 } };
    // After each multiple of `every` below the last step, and after that.
    let (every, before_last) = (every.max(1), steps - 1);
    let saves = before_last / every - newest / every + 1;
    let kept = keep_every.map_or(0, |keep| {
        // The oldest of the last few: all but one of them are multiples.
        let multiples = keep_last as u64 - 1;
        let oldest = match (before_last / every + 1).saturating_sub(multiples) {
            _ if multiples == 0 => steps,
            first => first * every,
        };
        let both = (every / gcd(every, keep)).saturating_mul(keep);
        let new = (oldest.saturating_sub(1) / both).saturating_sub(newest / both);
        new + last.iter().filter(|step| step.is_multiple_of(keep) && **step < oldest).count() as u64
    });
    More { at_once: room.min(saves), kept }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Bytes that may be written below `output`: what is free, and what an interrupted run left there, which the next one removes.
fn free(output: &Path) -> Option<u64> {
    let existing = output.ancestors().find(|folder| folder.is_dir());
    let existing = existing.unwrap_or_else(|| Path::new(if output.is_absolute() { "/" } else { "." }));
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(leftovers(output)))
}

/// Bytes of checkpoints half written or half removed.
fn leftovers(output: &Path) -> u64 {
    let entries = fs_err::read_dir(output).into_iter().flatten().flatten();
    let left = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(".step-") && (name.ends_with(".writing") || name.ends_with(".removing"))
    });
    left.map(|entry| bytes(&entry.path())).sum()
}

fn bytes(path: &Path) -> u64 {
    let Ok(about) = fs_err::symlink_metadata(path) else { return 0 };
    if about.is_dir() {
        return fs_err::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes(&entry.path())).sum();
    }
    about.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn every(steps: u64, keep_last: usize, keep_every: Option<u64>) -> CheckpointPlan {
        CheckpointPlan { every: Interval::Steps(steps), keep_last, keep_every }
    }

    #[test]
    fn the_last_few_and_the_one_being_written_are_counted_without_those_that_are_there() {
        for (plan, steps, there, at_once) in [
            (every(10, 2, None), 100, vec![], 3),
            (every(10, 2, None), 100, vec![10], 2),
            (every(10, 2, None), 100, vec![10, 20], 1),
            (every(10, 2, None), 100, vec![10, 20, 30, 40], 1),
            (every(10, 50, None), 100, vec![], 10),
            (every(10, 50, None), 101, vec![90], 2),
            (every(500, 2, None), 100, vec![], 1),
            (every(10, 2, None), 100, vec![90, 100], 0),
        ] {
            assert_eq!(more(plan, steps, &there), More { at_once, kept: 0 }, "{plan:?} {steps} {there:?}");
        }
        let timed = CheckpointPlan { every: Interval::Time(Duration::from_mins(1)), keep_last: 3, keep_every: Some(7) };
        assert_eq!(more(timed, 100, &[5]), More { at_once: 3, kept: 0 });
    }

    #[test]
    fn what_is_counted_is_what_a_run_holds_at_most_and_in_the_end() {
        for (steps, every_, keep_last, keep_every) in [
            (100, 10, 2, 30),
            (100, 10, 1, 10),
            (97, 10, 3, 20),
            (97, 7, 2, 5),
            (12, 4, 2, 4),
            (30, 10, 8, 10),
            (5, 9, 2, 3),
        ] {
            let saves: Vec<u64> = (1..=steps).filter(|step| step % every_ == 0 || *step == steps).collect();
            for begun in 0..saves.len() {
                let mut held = BTreeSet::new();
                let mut save = |step: u64| {
                    held.insert(step);
                    let older = held.len().saturating_sub(keep_last);
                    let gone: Vec<u64> =
                        held.iter().copied().take(older).filter(|step| step % keep_every != 0).collect();
                    gone.iter().for_each(|step| assert!(held.remove(step)));
                    held.clone()
                };
                let there: Vec<u64> =
                    saves[..begun].iter().map(|step| save(*step)).last().unwrap_or_default().into_iter().collect();
                let ended = saves[begun..].iter().map(|step| save(*step)).last().unwrap();
                let kept = ended.len().saturating_sub(keep_last);
                let before = there.len().saturating_sub(keep_last);
                let found = more(every(every_, keep_last, Some(keep_every)), steps, &there).kept;
                assert_eq!(
                    found,
                    (kept - before) as u64,
                    "{steps} {every_} {keep_last} {keep_every}: {there:?} to {ended:?}"
                );
            }
        }
    }

    #[test]
    fn what_an_interrupted_run_left_counts_as_free() {
        let output = tempfile::tempdir().unwrap();
        let folder = output.path().join(".step-4.writing/model");
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join("model.safetensors"), [0; 1000]).unwrap();
        fs_err::write(output.path().join("metrics.jsonl"), [0; 500]).unwrap();
        assert_eq!(leftovers(output.path()), 1000);
        assert_eq!(leftovers(&output.path().join("missing")), 0);
    }
}
