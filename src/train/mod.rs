//! Training: a plan carried out.
//!
//! [`run`] is the whole of it. [`start`] is how a run begins or goes on, [`data`] its corpora and place in them, [`step`]
//! one update, [`graphs`] what of it a GPU repeats, [`interval`] what is told between two log lines, [`validation`] the
//! losses on held-out documents, [`save`] when and how checkpoints are written, [`stop`] what Ctrl-C does, [`team`] the ranks,
//! `same` that all of them do the same, [`mod@profile`] where the time of some steps went, [`fitting`] that a step fits into
//! memory, [`refusal`] what is said when libtorch refuses.

pub mod data;
pub mod fitting;
pub mod graphs;
pub mod interval;
pub mod profile;
pub mod refusal;
mod same;
pub mod save;
pub mod start;
pub mod step;
pub mod stop;
pub mod team;
pub mod validation;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};

use self::data::Data;
use self::interval::Interval;
use self::profile::Profile;
use self::refusal::OutOfMemory;
use self::save::Saver;
use self::start::Resume;
use self::step::Engine;
use self::stop::Stop;
use self::team::Team;
use self::validation::Measured;
use crate::checkpoint::{State, retention, shared};
use crate::corpus::loader::{Position, UNIT};
use crate::distributed::agree::Word;
use crate::ffi;
use crate::figures::size;
use crate::metrics::reporter::{Reporter, Settings};
use crate::metrics::table;
use crate::metrics::{Validation, curves, jsonl};
use crate::plan::{Compute, Disk, Plan, memory};

/// What a user asks for besides the plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to go on from.
    pub resume: Resume,
    /// Stop after this step with a checkpoint, as if interrupted.
    pub stop_at: Option<u64>,
    /// Keys of the recipe whose change is accepted where it would be refused, `data.sources` for corpora that have changed.
    pub accept: Vec<String>,
    /// Steps to record with the profiler.
    pub profile: Option<profile::Steps>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step was made; its last checkpoint.
    Finished(PathBuf),
    /// It was stopped; the checkpoint to go on from.
    Stopped(PathBuf),
}

/// Carries out `plan`: trains, validates, logs and saves until the last step, or until `stop` is asked. With other ranks it
/// does so together with those of `team`, each of which is given the same plan.
///
/// # Errors
/// Inputs that cannot be read, a checkpoint that does not fit, a disk that refuses, more memory than there is, or losses
/// that are not finite several steps in a row. Checkpoints already written stay.
pub fn run(plan: &Plan, options: &Options, stop: &Stop, team: &Team<'_>) -> anyhow::Result<Outcome> {
    // What is left to the planner may turn out otherwise while it is tried.
    let mut plan = plan.clone();
    refusal::caught(|| carry_out(&mut plan, options, stop, team)).map_err(|error| refusal::advised(error, &plan))
}

fn carry_out(plan: &mut Plan, options: &Options, stop: &Stop, team: &Team<'_>) -> anyhow::Result<Outcome> {
    ffi::keep_freed_memory();
    tracing::debug!(growing = ffi::grow_segments(), "memory segments on GPUs");
    if let Compute::Cuda(index) = plan.device.compute {
        ffi::use_device(index)?;
    }
    let data = Data::open(plan)?;
    let (mut lock, mut left) = (None, Vec::new());
    shared::folder(&plan.output, team.together(), || {
        Disk::of(plan).check(plan)?;
        fs_err::create_dir_all(&plan.output)?;
        lock = Some(save::lock(&plan.output)?);
        left = retention::clear_leftovers(&plan.output)?;
        anyhow::Ok(())
    })?;
    let (checkpoint, mut notes) = start::choose(&options.resume, &plan.output, team.together())?;
    notes.extend(left);
    if let Some(folder) = &checkpoint {
        *plan = start::resumed(plan, folder, &options.accept)?;
    }
    let position = data.position(plan, &options.accept)?;
    let mut reporter = match team.rank() {
        0 => Reporter::open(&Settings {
            output: &plan.output,
            name: &plan.name,
            steps: plan.steps(),
            from_step: position.step,
            tensorboard: plan.logging.tensorboard,
            terminal: std::io::stderr().is_terminal(),
        }),
        _ => Reporter::silent(),
    };
    notes.iter().for_each(|line| reporter.note(line));
    if let Some(resumed) = &plan.resumed {
        reporter.note(&format!("going on from {}", resumed.checkpoint.display()));
        if !resumed.changes.is_empty() {
            reporter.note(&format!("the recipe has changed since then:\n{}", resumed.table()));
        }
    }
    if let Some(threads) = plan.device.threads {
        tch::set_num_threads(i32::try_from(threads).context("device.threads")?);
    }
    if let Some(line) = checkpoint.as_deref().and_then(|folder| fitting::as_before(plan, folder)) {
        reporter.note(&line);
    }
    same::check(plan, &data, team)?;
    let loading = reporter.spin("loading the model", 0);
    let mut engine = start::engine(plan, checkpoint.as_deref(), team.world())?;
    drop(loading);
    team.look_after(engine.sharding.health())?;
    fitting::rehearse(plan, &mut engine, team, &mut reporter)?;
    let plan = &*plan;
    if let Some(folder) = &checkpoint {
        let settle = || start::settle(&options.resume, &plan.output, folder, position.step);
        let told = team.together().first("set checkpoints aside", settle)?;
        told.iter().for_each(|line| reporter.note(line));
    }
    let saver = Saver::new(plan, checkpoint.clone(), position.step);
    let (tokens, skipped) = plan.resumed.as_ref().map_or((0, 0), |at| (at.state.tokens, at.state.skipped));
    let mut run = Run { plan, team, data, engine, reporter, saver, position, tokens, skipped, failure: None };
    let outcome = refusal::attempt(|| run.finish(options, stop)).map_err(|error| refusal::advised(error, plan));
    // A failure is told before anything is given back, which may wait for a GPU; its report does without a bar.
    run.reporter = Reporter::silent();
    let outcome = team.judged(outcome)?;
    team.close(run.engine.sharding.into_groups())?;
    Ok(outcome)
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    team: &'a Team<'a>,
    data: Data,
    engine: Engine,
    reporter: Reporter,
    saver: Saver<'a>,
    position: Position,
    tokens: u64,
    skipped: u64,
    /// What ends the run where the next step would begin, on this rank, with everything that was trained saved first.
    failure: Option<anyhow::Error>,
}

impl Run<'_> {
    /// From the first step, or the one after the checkpoint, to the last.
    fn finish(&mut self, options: &Options, stop: &Stop) -> anyhow::Result<Outcome> {
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
            profile.before(next)?;
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
            if let Some(line) = profile.after(self.position.step)? {
                self.reporter.note(&line);
            }
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
                // What a validation may fail on costs no step.
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
        if let Some(line) = profile.end(self.position.step)? {
            self.reporter.note(&line);
        }
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
