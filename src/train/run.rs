//! The training loop: the next batch and what the ranks agree on, an update, what is told, and what is due: a validation, a
//! checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::bail;

use super::data::Data;
use super::interval::Interval;
use super::profile::Profile;
use super::refusal::{self, OutOfMemory};
use super::save::Saver;
use super::step::Engine;
use super::stop::Stop;
use super::team::Team;
use super::validation::{self, Measured};
use super::{Options, Outcome, start};
use crate::checkpoint::State;
use crate::corpus::loader::{Position, UNIT};
use crate::distributed::agree::Word;
use crate::ffi;
use crate::figures::size;
use crate::metrics::reporter::Reporter;
use crate::metrics::{Validation, curves, jsonl, table};
use crate::plan::{Compute, Plan, memory};

/// A run under way.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) team: &'a Team<'a>,
    pub(super) data: Data,
    pub(super) engine: Engine,
    pub(super) reporter: Reporter,
    pub(super) saver: Saver<'a>,
    pub(super) position: Position,
    pub(super) tokens: u64,
    pub(super) skipped: u64,
    /// What ends the run where the next step would begin, on this rank, with everything that was trained saved first.
    pub(super) failure: Option<anyhow::Error>,
}

impl Run<'_> {
    /// From the first step, or the one after the checkpoint, to the last.
    pub(super) fn finish(&mut self, options: &Options, stop: &Stop) -> anyhow::Result<Outcome> {
        let (plan, team) = (self.plan, self.team);
        if self.is_validation_owed()? {
            self.validate(stop)?;
        }
        let mut loader = self.data.loader(plan, team.rank(), self.position.clone())?;
        let mut interval = Interval::new(plan, &loader);
        let mut stage = None;
        let mut save_owed = false;
        // Of ranks that do alike one is enough.
        let recorded = options.profile.as_ref().filter(|_| team.rank() == 0);
        let mut profile = Profile::new(recorded, &plan.output, plan.device.compute != Compute::Cpu);
        while options.stop_at.is_none_or(|step| self.position.step < step) {
            let Some(batch) = loader.next() else { break };
            let batch = batch.map_err(|error| self.failure.get_or_insert(error.into())).ok();
            let Some((now, rate)) = self.rate() else { break };
            let next = self.position.step + 1;
            team.at(next, "training");
            let own = Word {
                stop: stop.asked() || self.failure.is_some(),
                save: self.saver.due(next),
                weight: batch.as_ref().map_or(0, |batch| batch.weight),
            };
            let agreed = team.agree(own)?;
            let Some(batch) = batch.filter(|_| !agreed.stop) else {
                if self.failure.is_none() {
                    stop.ask();
                }
                break;
            };
            if stage.replace(now) != Some(now) {
                self.reporter.note(&format!("stage {}: {} steps", plan.stages[now].name, plan.steps_left(now)));
            }
            let (trained, sources) = (agreed.weight as f64 / UNIT, plan.data.sources.len());
            self.note_profile(profile.before(next).map(|()| None));
            // Alone it may also stop between two micro-batches.
            let asked = || team.is_alone() && stop.asked();
            let done = refusal::attempt(|| Ok(self.engine.step(&batch.micro, trained, rate, sources, asked)?));
            let step = match done {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(error) if team.is_alone() => return Err(self.broken_off(error, &mut interval)),
                Err(error) => return Err(error.context(format!("step {next}"))),
            };
            self.position.clone_from(&batch.position);
            loader.recycle(batch);
            self.tokens += plan.tokens_a_step();
            self.reporter.step(self.position.step);
            self.note_profile(profile.after(self.position.step));
            interval.add(&step)?;
            let last = self.rate().is_none();
            let told = last || self.position.step.is_multiple_of(plan.logging.every);
            save_owed |= agreed.save;
            // Reading a figure waits for a CUDA device, so there it is done where something depends on it.
            if told || save_owed || self.saver.prunes() || plan.device.compute == Compute::Cpu {
                self.skipped += interval.skipped()?;
                interval.check(self.saver.newest())?;
            }
            if self.saver.prunes() && !interval.is_skipping()? {
                self.saver.prune(&mut self.reporter);
            }
            if told {
                let progress = interval.report(&self.position, now, self.tokens, rate, self.skipped, &loader)?;
                self.reporter.progress(&progress);
            }
            let pause = Instant::now();
            if last {
                // What a validation may fail on costs no step. Nothing is trained from it that could be skipped.
                self.save(&mut interval)?;
            }
            if self.is_validation_due() {
                self.validate(stop)?;
            }
            // Weights that updates are skipped for are not those to resume from.
            if save_owed && !last && !interval.is_skipping()? {
                self.save(&mut interval)?;
                save_owed = false;
            }
            interval.leave_out(pause);
        }
        // A run that ends before the last step to be recorded leaves what there is.
        self.note_profile(profile.end(self.position.step));
        self.end(&mut interval)
    }

    /// Saves what was trained since the last checkpoint, tells what the run came to, and ends it.
    fn end(&mut self, interval: &mut Interval) -> anyhow::Result<Outcome> {
        let (team, step) = (self.team, self.position.step);
        let unsaved = step > self.saver.saved_step() || self.saver.newest().is_none();
        if unsaved && interval.is_skipping()? {
            let steps = step - self.saver.saved_step();
            self.reporter.note(&format!(
                "not saved: {steps} steps since the last checkpoint, as the last update was skipped for a loss or gradient that is \
                 not finite"
            ));
        } else if unsaved && (self.failure.is_none() || step > 0) {
            self.save(interval)?;
        }
        if self.saver.prunes() && !interval.is_skipping()? {
            self.saver.prune(&mut self.reporter);
        }
        if let Some(error) = self.failure.take() {
            return Err(self.goes_on(format!("the run has ended after step {step}"), error));
        }
        let finished = self.rate().is_none();
        team.at(step, "ending");
        if team.rank() == 0 {
            self.tell_results();
        }
        let Some(newest) = self.saver.newest().map(PathBuf::from) else { bail!("nothing was saved") };
        Ok(if finished { Outcome::Finished(newest) } else { Outcome::Stopped(newest) })
    }

    /// Tells what became of the profile; one that cannot be made ends no run.
    fn note_profile(&mut self, outcome: anyhow::Result<Option<String>>) {
        match outcome {
            Ok(line) => line.iter().for_each(|line| self.reporter.note(line)),
            Err(error) => self.reporter.note(&format!("the profile could not be made: {error:#}")),
        }
    }

    /// Losses before and after, the memory that was used, and the curves. Whatever cannot be written ends no run.
    fn tell_results(&mut self) {
        let plan = self.plan;
        let told = jsonl::validations(&plan.output.join(jsonl::FILE)).unwrap_or_else(|error| {
            self.reporter.note(&format!("no losses before and after: {error}"));
            Vec::new()
        });
        if let [before, .., after] = told.as_slice() {
            self.reporter.note(&table::before_and_after(before, after));
        }
        if let Some(used) = start::peak_memory(plan) {
            let planned = size(memory::estimate(plan).total());
            self.reporter.note(&format!("memory: {planned} planned, {} used at most", size(used)));
        }
        if let Err(error) = curves::draw(&plan.output, &plan.name, &told) {
            self.reporter.note(&format!("the curves could not be drawn: {error}"));
        }
        std::mem::take(&mut self.reporter).close();
    }

    /// The error with what it ended, and the checkpoint that the run resumes from.
    fn goes_on(&self, ended: String, error: anyhow::Error) -> anyhow::Error {
        let from = self.saver.newest().map(|newest| format!("; the same command goes on from {}", newest.display()));
        error.context(format!("{ended}{}", from.unwrap_or_default()))
    }

    /// What ends a run in the middle of a step. A step that finds no memory has changed nothing: those before it are saved.
    fn broken_off(&mut self, error: anyhow::Error, interval: &mut Interval) -> anyhow::Error {
        if !error.is::<OutOfMemory>() {
            return error;
        }
        let made = self.position.step;
        let freed = self.engine.forget();
        ffi::empty_cache();
        if freed.is_ok()
            && made > self.saver.saved_step()
            && let Err(error) = self.save(interval)
        {
            self.reporter.note(&format!("the steps since the last checkpoint could not be saved: {error:#}"));
        }
        self.goes_on(format!("step {}", made + 1), error)
    }

    /// The stage of the next step and its learning rate; `None` after the last one.
    fn rate(&self) -> Option<(usize, f64)> {
        let (mut stage, mut step) = (self.position.stage, self.position.stage_step);
        while step >= self.plan.stages.get(stage)?.steps {
            (stage, step) = (stage + 1, 0);
        }
        Some((stage, self.plan.stages[stage].schedule.rate(step)))
    }

    /// Whether a validation is due after the last step made.
    fn is_validation_due(&self) -> bool {
        let (step, validation) = (self.position.step, &self.plan.validation);
        match step {
            0 => validation.at_start,
            _ => self.rate().is_none() || validation.every.is_some_and(|every| step.is_multiple_of(every)),
        }
    }

    /// Whether a validation of the last step made is missing: before the first step, or where one was interrupted.
    fn is_validation_owed(&self) -> anyhow::Result<bool> {
        let due = self.is_validation_due();
        let step = self.position.step;
        self.team.together().first("look for a validation", || {
            // A log that cannot be read lacks it.
            let told = jsonl::validations(&self.plan.output.join(jsonl::FILE)).unwrap_or_default();
            Ok(due && !told.iter().any(|validation| validation.step == step))
        })
    }

    /// Measures the loss on every source's held-out documents, unless it is stopped meanwhile. What cannot be read ends the run
    /// where the next step would begin.
    fn validate(&mut self, stop: &Stop) -> anyhow::Result<()> {
        self.team.at(self.position.step, "validating");
        let asked = || stop.asked() || self.failure.is_some();
        let measured =
            validation::measure(self.plan, self.team, &self.data, &mut self.engine, &mut self.reporter, asked);
        match measured {
            Ok(Measured::Losses(sources)) => {
                let validation = Validation { step: self.position.step, tokens: self.tokens, sources };
                self.reporter.validation(&validation);
            }
            Ok(Measured::Stopped) => {}
            Ok(Measured::Unread(error)) => self.failure = Some(error.context("validation")),
            Err(error) if self.team.is_alone() => self.failure = Some(error.context("validation")),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn save(&mut self, interval: &mut Interval) -> anyhow::Result<()> {
        self.skipped += interval.skipped()?;
        let stage = self.position.stage.min(self.plan.stages.len() - 1);
        let state = State {
            version: State::VERSION,
            step: self.position.step,
            tokens: self.tokens,
            skipped: self.skipped,
            stage: self.plan.stages[stage].name.clone(),
            stage_step: self.position.stage_step,
            stage_tokens: Some(self.plan.stage_tokens(&self.position)),
            shares: self.plan.shares_from(stage),
            base: self.plan.model.base.clone(),
            seed: self.plan.seed,
            sequence_length: self.plan.data.sequence_length as u64,
            sources: self.data.drawn(self.plan, &self.position),
        };
        self.team.at(self.position.step, "saving");
        // What the log tells of these steps is there when the checkpoint is.
        self.reporter.sync();
        self.saver.save(&mut self.engine, &state, self.team.together(), &mut self.reporter)
    }
}
