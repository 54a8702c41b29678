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
use crate::checkpoint::{State, retention, shared};
use crate::corpus::loader::{Position, UNIT};
use crate::distributed::agree::Word;
use crate::ffi;
use crate::figures::size;
use crate::metrics::reporter::{Reporter, Settings};
use crate::metrics::table;
use crate::metrics::{Validation, curves, jsonl};
use crate::plan::{Compute, Plan, memory};

/// What a user asks for besides the plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to go on from.
    pub resume: Resume,
    /// Stop after this step with a checkpoint, as if interrupted.
    pub stop_at: Option<u64>,
    /// Go on also where a corpus is another than the run has read from so far.
    pub accept_changed_data: bool,
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
    let mut lock = None;
    shared::folder(&plan.output, team.together(), || {
        save::check_room(plan)?;
        fs_err::create_dir_all(&plan.output)?;
        lock = Some(save::lock(&plan.output)?);
        anyhow::Ok(retention::clear_leftovers(&plan.output)?)
    })?;
    let (checkpoint, notes) = start::choose(&options.resume, &plan.output, team.together())?;
    let state = checkpoint.as_deref().map(|folder| start::state(plan, folder)).transpose()?;
    let position = match &state {
        Some(state) => data.position(plan, state, options.accept_changed_data)?,
        None => Position::start(plan.data.sources.len()),
    };
    let mut reporter = match team.rank() {
        0 => Reporter::open(&Settings {
            output: &plan.output,
            name: &plan.name,
            steps: plan.steps(),
            from_step: position.step,
            tensorboard: plan.logging.tensorboard,
            terminal: std::io::stderr().is_terminal(),
        })?,
        _ => Reporter::silent(),
    };
    notes.iter().for_each(|line| reporter.note(line));
    if let Some(folder) = &checkpoint {
        reporter.note(&format!("going on from {}", folder.display()));
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
    let mut run = Run { plan, team, data, engine, reporter, saver, position, tokens: 0, skipped: 0 };
    let outcome = refusal::attempt(|| run.finish(state, options, stop)).map_err(|error| refusal::advised(error, plan));
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
}

impl Run<'_> {
    /// From the first step, or the one after `state`, to the last.
    fn finish(&mut self, state: Option<State>, options: &Options, stop: &Stop) -> anyhow::Result<Outcome> {
        let (plan, team) = (self.plan, self.team);
        if let Some(state) = state {
            (self.tokens, self.skipped) = (state.tokens, state.skipped);
        } else if plan.validation.at_start {
            self.validate(stop)?;
        }
        let mut loader = self.data.loader(plan, team.rank(), self.position.clone())?;
        let mut interval = Interval::new(plan, &loader);
        let mut stage = None;
        // Of ranks that do alike one is enough.
        let recorded = options.profile.as_ref().filter(|_| team.rank() == 0);
        let mut profile = Profile::new(recorded, &plan.output, plan.device.compute != Compute::Cpu);
        while options.stop_at.is_none_or(|step| self.position.step < step) {
            let Some(batch) = loader.next() else { break };
            let batch = match batch {
                Ok(batch) => batch,
                // A corpus that cannot be read any more costs no step that was made.
                Err(error) if team.is_alone() => {
                    self.save(&mut interval)?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
            };
            let Some((now, rate)) = self.rate() else { break };
            let next = self.position.step + 1;
            team.at(next, "training");
            let own = Word { stop: stop.asked(), save: self.saver.due(next), weight: batch.weight };
            let agreed = team.agree(own)?;
            if agreed.stop {
                stop.ask();
                break;
            }
            if stage.replace(now) != Some(now) {
                let planned = &plan.stages[now];
                self.reporter.note(&format!("stage {}: {} steps", planned.name, planned.steps));
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
            // Reading a figure waits for a CUDA device, so there it is done where a line is due anyway.
            if told || plan.device.compute == Compute::Cpu {
                self.skipped += interval.skipped()?;
                interval.check(self.saver.newest())?;
            }
            if told {
                let progress = interval.report(&self.position, now, self.tokens, rate, self.skipped, &loader)?;
                self.reporter.progress(&progress)?;
            }
            if last || plan.validation.every.is_some_and(|every| self.position.step.is_multiple_of(every)) {
                let pause = Instant::now();
                self.validate(stop)?;
                interval.leave_out(pause);
            }
            if !last && agreed.save {
                let pause = Instant::now();
                self.save(&mut interval)?;
                interval.leave_out(pause);
            }
        }
        // A run that ends before the last step to be recorded leaves what there is.
        if let Some(line) = profile.end(self.position.step)? {
            self.reporter.note(&line);
        }
        if self.position.step > self.saver.saved_step() || self.saver.newest().is_none() {
            self.save(&mut interval)?;
        }
        let finished = self.rate().is_none();
        team.at(self.position.step, "ending");
        if team.rank() == 0 {
            let told = jsonl::validations(&plan.output.join(jsonl::FILE))?;
            if let [before, .., after] = told.as_slice() {
                self.reporter.note(&table::before_and_after(before, after));
            }
            if let Some(used) = start::peak_memory(plan) {
                let planned = size(memory::estimate(plan).total());
                self.reporter.note(&format!("memory: {planned} planned, {} used at most", size(used)));
            }
            std::mem::take(&mut self.reporter).close()?;
            curves::draw(&plan.output, &plan.name, &told)?;
        }
        let Some(newest) = self.saver.newest().map(PathBuf::from) else { bail!("nothing was saved") };
        Ok(if finished { Outcome::Finished(newest) } else { Outcome::Stopped(newest) })
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
        let goes_on = self.saver.newest().map(|newest| format!("; the same command goes on from {}", newest.display()));
        error.context(format!("step {}{}", made + 1, goes_on.unwrap_or_default()))
    }

    /// The stage of the next step and its learning rate; `None` after the last one.
    fn rate(&self) -> Option<(usize, f64)> {
        let (mut stage, mut step) = (self.position.stage, self.position.stage_step);
        while step >= self.plan.stages.get(stage)?.steps {
            (stage, step) = (stage + 1, 0);
        }
        Some((stage, self.plan.stages[stage].schedule.rate(step)))
    }

    /// Measures the loss on every source's held-out documents, unless it is stopped meanwhile.
    fn validate(&mut self, stop: &Stop) -> anyhow::Result<()> {
        self.team.at(self.position.step, "validating");
        let measured =
            validation::measure(self.plan, self.team, &self.data, &mut self.engine, &mut self.reporter, stop)?;
        let Some(sources) = measured else { return Ok(()) };
        let validation = Validation { step: self.position.step, tokens: self.tokens, sources };
        Ok(self.reporter.validation(&validation)?)
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
            seed: self.plan.seed,
            sequence_length: self.plan.data.sequence_length as u64,
            sources: self.data.drawn(self.plan, &self.position),
        };
        self.team.at(self.position.step, "saving");
        self.saver.save(&mut self.engine, &state, self.team.together(), &mut self.reporter)
    }
}
