//! Training: a plan carried out.
//!
//! [`run()`] prepares it, and `run` is the loop. [`start`] is how a run begins or resumes, [`data`] its corpora and place in them, [`step`]
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
mod run;
mod same;
pub mod save;
pub mod start;
pub mod step;
pub mod stop;
pub mod team;
pub mod validation;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;

use self::data::Data;
use self::run::Run;
use self::save::Saver;
use self::start::Resume;
use self::stop::Stop;
use self::team::Team;
use crate::checkpoint::{retention, shared};
use crate::ffi;
use crate::hf::companions::{Carried, Sources};
use crate::metrics::reporter::{Reporter, Settings};
use crate::plan::{Compute, Disk, Plan};

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
    let (mut lock, mut left, mut carried) = (None, Vec::new(), Carried::default());
    shared::folder(&plan.output, team.together(), || {
        carried = Sources { model: Some(&plan.model.source), tokenizer: Some(&plan.tokenizer) }.read()?;
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
    let saver = Saver::new(plan, carried, checkpoint.clone(), position.step);
    let (tokens, skipped) = plan.resumed.as_ref().map_or((0, 0), |at| (at.state.tokens, at.state.skipped));
    let mut run = Run { plan, team, data, engine, reporter, saver, position, tokens, skipped, failure: None };
    let outcome = refusal::attempt(|| run.finish(options, stop)).map_err(|error| refusal::advised(error, plan));
    // A failure is told before anything is given back, which may wait for a GPU; its report does without a bar.
    run.reporter = Reporter::silent();
    let outcome = team.judged(outcome)?;
    team.close(run.engine.sharding.into_groups())?;
    Ok(outcome)
}
