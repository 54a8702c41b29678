//! When a checkpoint is due, and that there is room for it.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;

use super::step::Engine;
use crate::checkpoint::{State, Together, retention, save};
use crate::figures::size;
use crate::hf::export::DEFAULT_SHARD;
use crate::hf::layout::Layout;
use crate::metrics::reporter::Reporter;
use crate::plan::{Plan, memory};
use crate::recipe::quantity::Interval;

/// Writes a run's checkpoints.
#[derive(Debug)]
pub struct Saver<'a> {
    plan: &'a Plan,
    newest: Option<PathBuf>,
    saved_step: u64,
    saved_at: Instant,
}

impl<'a> Saver<'a> {
    /// A saver of a run that stands at `step`, where `newest` is its checkpoint, if it has one.
    #[must_use]
    pub fn new(plan: &'a Plan, newest: Option<PathBuf>, step: u64) -> Self {
        Self { plan, newest, saved_step: step, saved_at: Instant::now() }
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn newest(&self) -> Option<&Path> {
        self.newest.as_deref()
    }

    /// The step of the newest checkpoint.
    #[must_use]
    pub fn saved_step(&self) -> u64 {
        self.saved_step
    }

    /// Whether one is due after `step`.
    #[must_use]
    pub fn due(&self, step: u64) -> bool {
        match self.plan.checkpoint.every {
            Interval::Steps(steps) => step.is_multiple_of(steps),
            Interval::Time(time) => self.saved_at.elapsed() >= time,
        }
    }

    /// Writes one, then removes those that are not kept.
    ///
    /// # Errors
    /// A disk that refuses; the older checkpoints stay.
    pub fn save(&mut self, engine: &Engine, state: &State, reporter: &mut Reporter) -> anyhow::Result<()> {
        let began = Instant::now();
        let (config, parameters) = (&self.plan.model.config, &engine.parameters);
        let layout = Layout::of(config, parameters.kind(), DEFAULT_SHARD, 1)?;
        let contents = save::Contents {
            config,
            layout: &layout,
            weights: parameters.iter().map(|(name, weight)| (name.to_owned(), weight.shallow_clone())).collect(),
            optimizer: engine.optimizer.slices(parameters.specs()),
            replica: (0, 1),
            state,
            tokenizer: &self.plan.tokenizer,
            recipe: &self.plan.resolved_recipe(),
        };
        let saving = reporter.spin("saving", 0);
        let folder = save::save(&self.plan.output, &contents, &Together::alone()).map_err(|error| {
            let error = anyhow::Error::new(error);
            match &self.newest {
                Some(newest) => error.context(format!(
                    "the checkpoint of step {} could not be written; the last one is {}",
                    state.step,
                    newest.display()
                )),
                None => error.context(format!("the checkpoint of step {} could not be written", state.step)),
            }
        })?;
        retention::prune(&self.plan.output, self.plan.checkpoint.keep_last, self.plan.checkpoint.keep_every)?;
        drop(saving);
        reporter.note(&format!("saved {} in {:.1} s", folder.display(), began.elapsed().as_secs_f64()));
        (self.newest, self.saved_step, self.saved_at) = (Some(folder), state.step, Instant::now());
        Ok(())
    }
}

/// Keeps other runs out of a folder as long as the file lives.
///
/// # Errors
/// Another run writes there.
pub(super) fn lock(output: &Path) -> anyhow::Result<fs_err::File> {
    let file = fs_err::File::create(output.join(".lock"))?;
    match file.file().try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("{}: another run writes here: let it end, or name another run.output", output.display())
        }
        // File systems without locks are not refused.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Refuses a run whose first checkpoint would find no room.
///
/// # Errors
/// Less free space than a checkpoint takes.
pub(super) fn check_room(plan: &Plan) -> anyhow::Result<()> {
    let needed = memory::checkpoint(plan);
    let existing = plan.output.ancestors().find(|folder| folder.is_dir());
    let existing = existing.unwrap_or_else(|| Path::new(if plan.output.is_absolute() { "/" } else { "." }));
    // A file system that does not say is not refused.
    let Ok(disk) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        bail!(
            "{}: {} free, and a checkpoint takes {}: make room, or name another run.output",
            plan.output.display(),
            size(free),
            size(needed)
        );
    }
    Ok(())
}
