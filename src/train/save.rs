//! When a checkpoint is due, and how it is written.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::bail;
use fs_err::OpenOptions;
use tch::{Device, Tensor};

use super::step::Engine;
use crate::checkpoint::{State, Together, retention, save};
use crate::distributed::sharding::StepError;
use crate::hf::companions::Carried;
use crate::hf::export::DEFAULT_SHARD;
use crate::hf::layout::Layout;
use crate::metrics::reporter::Reporter;
use crate::own;
use crate::plan::Plan;
use crate::recipe::quantity::Interval;

/// Writes a run's checkpoints.
#[derive(Debug)]
pub struct Saver<'a> {
    plan: &'a Plan,
    carried: Carried,
    newest: Option<PathBuf>,
    saved_step: u64,
    saved_at: Instant,
    prunes: bool,
}

impl<'a> Saver<'a> {
    /// A saver of a run that stands at `step`, where `newest` is its checkpoint, if it has one. What is `carried` goes into
    /// every checkpoint, and matters on the first rank alone.
    #[must_use]
    pub fn new(plan: &'a Plan, carried: Carried, newest: Option<PathBuf>, step: u64) -> Self {
        Self { plan, carried, newest, saved_step: step, saved_at: Instant::now(), prunes: false }
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

    /// Writes one; [`prune`](Self::prune) then removes those that are not kept.
    ///
    /// # Errors
    /// A disk that refuses; the older checkpoints stay.
    pub fn save(
        &mut self,
        engine: &mut Engine,
        state: &State,
        together: &Together<'_>,
        reporter: &mut Reporter,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let saving = reporter.spin("saving", 0);
        let config = &self.plan.model.config;
        let layout = Layout::of(config, engine.parameters.kind(), DEFAULT_SHARD, together.count())?;
        let contents = save::Contents {
            config,
            layout: &layout,
            weights: weights(engine, &layout, together.rank())?,
            optimizer: engine.optimizer.slices(engine.parameters.specs()),
            replica: engine.sharding.replica(),
            state,
            carried: &self.carried,
            recipe: &self.plan.resolved_recipe(),
        };
        let folder = save::save(&self.plan.output, &contents, together).map_err(|error| {
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
        drop(saving);
        reporter.note(&format!("saved {} in {:.1} s", folder.display(), began.elapsed().as_secs_f64()));
        (self.newest, self.saved_step, self.saved_at) = (Some(folder), state.step, Instant::now());
        self.prunes = together.rank() == 0;
        Ok(())
    }

    /// Whether older checkpoints are to be removed, now that there is a newer one.
    #[must_use]
    pub fn prunes(&self) -> bool {
        self.prunes
    }

    /// Removes checkpoints that are not kept: once an update from the newest has not been skipped, or the run is over. What
    /// cannot be removed is told, and tried again after the next checkpoint.
    pub fn prune(&mut self, reporter: &mut Reporter) {
        if std::mem::take(&mut self.prunes) {
            let kept = self.plan.checkpoint;
            let pruned = retention::prune(&self.plan.output, kept.keep_last, kept.keep_every);
            let told = pruned.unwrap_or_else(|error| vec![format!("old checkpoints could not be removed: {error}")]);
            told.iter().for_each(|line| reporter.note(line));
        }
    }
}

/// The weights that this rank writes; of those that come and go with others, copies.
fn weights(engine: &mut Engine, layout: &Layout, rank: usize) -> Result<Vec<(String, Tensor)>, StepError> {
    let names: HashSet<_> = layout.parameters_of(rank).map(|spec| spec.name.as_str()).collect();
    let Engine { parameters, sharding, .. } = engine;
    let (specs, stays) = (parameters.specs(), sharding.weights_stay());
    let mut weights = Vec::with_capacity(names.len());
    sharding.visit(|at, weight| {
        if names.contains(specs[at].name.as_str()) {
            let weight =
                if stays { weight.shallow_clone() } else { weight.f_detach_copy()?.f_to_device(Device::Cpu)? };
            weights.push((specs[at].name.clone(), weight));
        }
        Ok(())
    })?;
    Ok(weights)
}

/// Keeps other runs out of a folder as long as the file lives.
///
/// # Errors
/// Another run writes there.
pub(super) fn lock(output: &Path) -> anyhow::Result<fs_err::File> {
    let file = own::open(&output.join(".lock"), OpenOptions::new().write(true).create(true))?;
    match file.file().try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("{}: another run writes here: let it end, or name another run.output", output.display())
        }
        // File systems without locks are not refused.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}
