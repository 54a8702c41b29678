//! A plan that resumes from a checkpoint: what has changed in the recipe since then, and what is left of the run.
//!
//! Every key that differs from the checkpoint's own recipe is told, and is one of three kinds ([`Effect`]): it changes nothing
//! that is trained, it takes effect from the checkpoint on, or it would make another run of this one and is refused unless the
//! user accepts it. Free of libtorch; `--dry-run` and a run use the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::stages::Mixing;
use super::{Plan, PlanError};
use crate::checkpoint::{CheckpointError, MODEL, RECIPE, State};
use crate::corpus::loader::Position;
use crate::figures::thousands;
use crate::recipe::problem::{Positions, Problems, nearest};
use crate::recipe::{Recipe, keys};

/// Shares that differ by less are the same.
const SAME_SHARE: f64 = 1e-12;

/// A checkpoint that a run resumes from, read.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Its folder.
    pub folder: PathBuf,
    /// How far the run was.
    pub state: State,
    /// The recipe it was trained by, with every default filled in, by its keys.
    recipe: BTreeMap<String, String>,
    /// Tokens of a step by that recipe, if it says so.
    tokens_per_step: Option<u64>,
}

/// Where a plan resumes.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// How far the run was there.
    pub state: State,
    /// The stage of the next step, or the last one.
    pub stage: usize,
    /// Steps of that stage that count as finished: where the batch has changed, other ones than were made.
    pub stage_step: u64,
    /// Tokens of that stage trained on.
    pub stage_tokens: u64,
    /// Whether the rows of the stage are counted anew, as its shares have changed.
    pub counts_anew: bool,
    /// What has changed since, in the order of keys.
    pub changes: Vec<Change>,
}

/// A key of the recipe that has another value than the checkpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `stages.main.mixture.text`.
    pub key: String,
    /// Its value in the checkpoint's recipe; `None` where it was not set.
    pub before: Option<String>,
    /// Its value now.
    pub now: Option<String>,
    /// What it does.
    pub effect: Effect,
}

/// What a change does to a run that resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing to what is trained; with a word on why, where that needs one.
    Free(&'static str),
    /// It takes effect from the checkpoint on; how.
    FromHere(String),
    /// It would make another run of this one; why. The user has accepted it.
    Accepted(&'static str),
    /// The same, not accepted.
    Refused(&'static str),
}

/// Why a plan cannot resume from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The recipe asks for another run.
    #[error("{}: the recipe asks for another run than the one that was begun:\n{table}set the keys back, give the new run another run.output, or accept a change with --accept KEY", checkpoint.display())]
    Refused {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// The refused changes, a line each.
        table: String,
    },
    /// The stage of the checkpoint is not in the recipe.
    #[error("{}: the run stopped in stage {stage}, and the recipe has only {}: put it back, or give a new run another run.output", checkpoint.display(), names.join(", "))]
    NoStage {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Its stage.
        stage: String,
        /// Those of the recipe.
        names: Vec<String>,
    },
    /// A key to accept that neither recipe has.
    #[error("--accept {named}: no key of the recipe or of the checkpoint's is called so; {}name one as the table of changes shows it, or a section", .near.as_ref().map(|near| format!("did you mean {near}? ")).unwrap_or_default())]
    NoKey {
        /// What was to be accepted.
        named: String,
        /// The key most like it.
        near: Option<String>,
    },
    /// What is left of the run cannot be trained so.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Saved {
    /// Reads how far the run was, and its recipe, from the checkpoint in `folder`.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what this program writes.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let state = State::read(folder)?;
        let file = folder.join(RECIPE);
        let text = fs_err::read_to_string(&file)?;
        let damaged = |reason: String| CheckpointError::Damaged { file: file.clone(), reason };
        // Read by its types where it can be: a key that did not exist then has its default now.
        let (recipe, tokens_per_step) = match serde_yaml::from_str::<Recipe>(&text) {
            Ok(recipe) => (keys::by_key(&recipe), Some(recipe.tokens_per_step())),
            Err(_) => {
                let value: serde_json::Value =
                    serde_yaml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
                (keys::by_key(&value), None)
            }
        };
        let recipe = recipe.map_err(|error| damaged(error.to_string()))?;
        Ok(Self { folder: folder.to_owned(), state, recipe, tokens_per_step })
    }

    /// Tokens of its stage trained on.
    fn stage_tokens(&self, plan: &Plan) -> u64 {
        let tokens_per_step = self.tokens_per_step.unwrap_or_else(|| plan.tokens_a_step());
        self.state.stage_tokens.unwrap_or_else(|| self.state.stage_step.saturating_mul(tokens_per_step))
    }
}

/// Resolves what is left of `plan`, made for a whole run, from the checkpoint `saved` on. Keys in `accept`, or below one in it, may
/// have changed whatever it does.
///
/// # Errors
/// Changes that are refused, all at once, and shares that the sources cannot give any more.
pub fn resume(mut plan: Plan, saved: &Saved, accept: &[String]) -> Result<Plan, ResumeError> {
    let state = &saved.state;
    let Some(stage) = plan.stages.iter().position(|stage| stage.name == state.stage) else {
        let names = plan.stages.iter().map(|stage| stage.name.clone()).collect();
        return Err(ResumeError::NoStage { checkpoint: saved.folder.clone(), stage: state.stage.clone(), names });
    };
    let mut changes = changes(&plan, saved, stage, accept)?;
    let refused: Vec<_> =
        changes.iter().filter(|change| matches!(change.effect, Effect::Refused(_))).cloned().collect();
    if !refused.is_empty() {
        return Err(ResumeError::Refused { checkpoint: saved.folder.clone(), table: table(&refused) });
    }
    let steps = plan.stages[stage].steps;
    let stage_tokens = saved.stage_tokens(&plan);
    let stage_step = match plan.resolved.stages[stage].tokens {
        Some(tokens) => {
            let left = tokens.0.saturating_sub(stage_tokens).div_ceil(plan.tokens_a_step().max(1));
            steps.saturating_sub(left)
        }
        None => state.stage_step,
    };
    let counts_anew = mix(&mut plan, saved, stage, steps.saturating_sub(stage_step), &changes)?;
    let next = state.step + 1;
    let left = steps.saturating_sub(stage_step);
    for change in &mut changes {
        if let Effect::FromHere(how) = &mut change.effect {
            *how = effect(&change.key, &state.stage, next, left, counts_anew);
        }
    }
    let (checkpoint, state) = (saved.folder.clone(), state.clone());
    plan.resumed = Some(Resumed { checkpoint, state, stage, stage_step, stage_tokens, counts_anew, changes });
    Ok(plan)
}

impl Resumed {
    /// The position in the order of rows, for sources of these names.
    #[must_use]
    pub fn position<'a>(&self, sources: impl ExactSizeIterator<Item = &'a str>) -> Position {
        let mut position = Position::start(sources.len());
        (position.step, position.stage, position.stage_step) = (self.state.step, self.stage, self.stage_step);
        for (at, name) in sources.enumerate() {
            let Some(drawn) = self.state.sources.get(name) else { continue };
            position.drawn[at] = drawn.rows;
            position.drawn_in_stage[at] = if self.counts_anew { 0 } else { drawn.rows_in_stage };
        }
        position
    }

    /// The changes as a table, a line each; empty where there are none.
    #[must_use]
    pub fn table(&self) -> String {
        table(&self.changes)
    }
}

/// The keys that differ, each with what it does; how a change takes effect is told later.
fn changes(plan: &Plan, saved: &Saved, stage: usize, accept: &[String]) -> Result<Vec<Change>, ResumeError> {
    let now = keys::by_key(&plan.settled()).map_err(|error| CheckpointError::from(io::Error::from(error)))?;
    let all: BTreeSet<&String> = saved.recipe.keys().chain(now.keys()).collect();
    if let Some(named) = accept.iter().find(|named| !all.iter().any(|key| names(named, key))) {
        let near = nearest(named, all.iter().map(|key| key.as_str())).map(str::to_owned);
        return Err(ResumeError::NoKey { named: named.clone(), near });
    }
    let differing = all.into_iter().filter(|key| saved.recipe.get(*key) != now.get(*key));
    let mut changes = Vec::new();
    for key in differing {
        let (before, now) = (saved.recipe.get(key).cloned(), now.get(key).cloned());
        let effect = match classify(key, plan, saved, stage) {
            Effect::Refused(why) if is_accepted(key, accept) => Effect::Accepted(why),
            effect => effect,
        };
        changes.push(Change { key: key.clone(), before, now, effect });
    }
    // The folder may hold other weights under the same name.
    if let (Some(now), Some(base)) = (&plan.model.base, &saved.state.base)
        && now != base
        && !changes.iter().any(|change| change.key == "model.from")
    {
        let short = |hash: &str| Some(format!("weights {}…", hash.get(..12).unwrap_or(hash)));
        let key = "model.from".to_owned();
        let effect = if is_accepted(&key, accept) { Effect::Accepted(BASE) } else { Effect::Refused(BASE) };
        changes.push(Change { key, before: short(base), now: short(now), effect });
    }
    Ok(changes)
}

/// Returns whether the user named a key, or what it is part of.
#[must_use]
pub fn is_accepted(key: &str, accept: &[String]) -> bool {
    accept.iter().any(|named| names(named, key))
}

/// Returns whether `named` is `key`, or a section that it is in.
fn names(named: &str, key: &str) -> bool {
    key.strip_prefix(named).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

const BASE: &str = "the checkpoint's weights go on, and other ones would never be read";
const ROWS: &str = "the rows that were trained on could not be told from the others any more";

/// What a change of `key` does.
fn classify(key: &str, plan: &Plan, saved: &Saved, stage: usize) -> Effect {
    let from_here = || Effect::FromHere(String::new());
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["model", "activation_checkpointing"] | ["batch", "micro_sequences"] | ["distributed", "reduce"] => {
            Effect::Free("rounding may differ")
        }
        ["model", "from"] if plan.model.base.is_some() && plan.model.base == saved.state.base => {
            Effect::Free("the same weights in another place")
        }
        ["model", ..] => Effect::Refused(BASE),
        ["tokenizer"] if same_tokenizer(plan, &saved.folder) => Effect::Free("the same tokenizer in another place"),
        ["tokenizer"] => Effect::Refused("the corpora and the weights are of the one that was used so far"),
        ["run", "seed"] => Effect::Refused("the order of the data would change, and rows come again"),
        ["data", "sources", _, "path"] => Effect::Free("refused where it is another corpus"),
        ["data", "sources", name, "held_out"]
            if !saved.recipe.contains_key(&format!("data.sources.{name}.path"))
                || !plan.data.sources.iter().any(|source| source.name == *name) =>
        {
            from_here()
        }
        ["data", "sources", _, "held_out"] => Effect::Refused("documents held out so far would be trained on"),
        ["data", "sources", ..] => from_here(),
        ["data", ..] => Effect::Refused(ROWS),
        ["batch", ..] | ["optimizer", ..] | ["device", "precision"] => from_here(),
        ["stages", name, ..] => match plan.stages.iter().position(|other| other.name == *name) {
            Some(at) if at == stage => from_here(),
            Some(at) if at > stage => Effect::Free("a later stage"),
            Some(_) => Effect::Free("an earlier stage: it is over"),
            None => Effect::Free("a stage that is not in the recipe any more"),
        },
        // How it is computed, saved, validated and logged.
        _ => Effect::Free(""),
    }
}

/// Whether the tokenizer is the one that the checkpoint carries.
fn same_tokenizer(plan: &Plan, checkpoint: &Path) -> bool {
    let read = |folder: &Path| fs_err::read(folder.join("tokenizer.json")).ok();
    read(&plan.tokenizer).is_some_and(|now| read(&checkpoint.join(MODEL)) == Some(now))
}

/// Whether a change has a part in which rows a stage draws.
fn is_of_mixing(key: &str, stage: &str) -> bool {
    let of_stage = |rest: &str| rest.starts_with("mixture") || rest == "tokens" || rest == "steps";
    key.starts_with("data.")
        || key == "batch.tokens"
        || key == "batch.sequences"
        || key.strip_prefix("stages.").and_then(|key| key.strip_prefix(stage)?.strip_prefix('.')).is_some_and(of_stage)
}

/// Gives the stages from `stage` on their shares: as they were where nothing has changed that has a part in them, else what the
/// recipe asks for, of the rows that are left. Returns whether the stage's own have changed.
fn mix(plan: &mut Plan, saved: &Saved, stage: usize, left: u64, changes: &[Change]) -> Result<bool, ResumeError> {
    let names: Vec<_> = plan.data.sources.iter().map(|source| source.name.clone()).collect();
    // By stage, what it was when the stage began.
    let stored = |name: &str| {
        let shares = saved.state.shares.get(name)?;
        Some(names.iter().map(|source| shares.get(source).copied().unwrap_or(0.0)).collect::<Vec<f64>>())
    };
    // A checkpoint of version 1 has none stored; its recipe tells.
    let positions = Positions::default();
    let mut findings = Findings::new(&positions);
    let drawn = |name: &String| saved.state.sources.get(name).map_or(0.0, |drawn| drawn.rows as f64);
    let mut changed = false;
    let mut mixed = Vec::new();
    let mut mixing = Mixing::from(&plan.data, names.iter().map(drawn).collect());
    let mut before_changed = false;
    for at in stage..plan.stages.len() {
        let name = plan.stages[at].name.clone();
        let steps = if at == stage { left } else { plan.stages[at].steps };
        let rows = steps.saturating_mul(plan.batch.rows);
        before_changed |= changes.iter().any(|change| is_of_mixing(&change.key, &name));
        if !before_changed || rows == 0 {
            let shares = stored(&name).unwrap_or_else(|| plan.stages[at].mixture.clone());
            mixing.gave(&shares, rows);
            mixed.push((shares, None));
            continue;
        }
        let Some((asked, shares)) = mixing.stage(at, &plan.resolved.stages[at], rows, &mut findings) else { continue };
        if at == stage {
            // What another source's absence or return leaves as it is need not be counted anew.
            let before = stored(&name);
            changed = before.is_none_or(|before| {
                before.iter().zip(&shares.shares).any(|(before, now)| (before - now).abs() > SAME_SHARE)
            }) || is_lost(saved, &names, &name);
        }
        mixed.push((shares.shares, Some((asked, shares.capped))));
    }
    if !findings.problems.is_empty() {
        return Err(PlanError::from(Problems::new(findings.problems)).into());
    }
    plan.notes.remarks.append(&mut findings.remarks);
    for (at, (shares, told)) in (stage..).zip(mixed) {
        plan.stages[at].mixture = shares;
        if let Some((asked, capped)) = told {
            (plan.notes.asked[at], plan.notes.capped[at]) = (asked, capped);
        }
    }
    Ok(changed)
}

/// Whether a source that had a share of the stage is not in the recipe any more.
fn is_lost(saved: &Saved, names: &[String], stage: &str) -> bool {
    let shares = saved.state.shares.get(stage);
    shares.is_some_and(|shares| shares.iter().any(|(name, share)| *share > 0.0 && !names.contains(name)))
}

/// How a change takes effect.
fn effect(key: &str, stage: &str, next: u64, left: u64, counts_anew: bool) -> String {
    let steps = format!("{} steps of stage {stage} are left", thousands(left));
    let next = thousands(next);
    match key.split('.').collect::<Vec<_>>().as_slice() {
        ["batch", ..] | ["stages", _, "tokens" | "steps"] => format!("from step {next}: {steps}"),
        ["stages", _, "mixture", ..] | ["data", "sources", ..] if counts_anew => {
            format!("from step {next}: shares count from there, epochs go on")
        }
        _ => format!("from step {next}"),
    }
}

/// Changes as a table.
fn table(changes: &[Change]) -> String {
    const SHORT: usize = 48;
    let shown = |value: &Option<String>| {
        let text = value.as_deref().unwrap_or("not set");
        match text.char_indices().nth(SHORT) {
            // The end of a path tells more than its beginning.
            Some(_) => format!("…{}", text.chars().skip(text.chars().count() - SHORT).collect::<String>()),
            None => text.to_owned(),
        }
    };
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            let values = format!("{} -> {}", shown(&change.before), shown(&change.now));
            let effect = match &change.effect {
                Effect::Free("") => "no effect on what is trained".to_owned(),
                Effect::Free(why) => format!("no effect on what is trained ({why})"),
                Effect::FromHere(how) => how.clone(),
                Effect::Accepted(why) => format!("accepted; {why}"),
                Effect::Refused(why) => format!("refused: {why}"),
            };
            (change.key.clone(), values, effect)
        })
        .collect();
    let width = |of: fn(&(String, String, String)) -> &String| {
        rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
    };
    let (keys, values) = (width(|row| &row.0), width(|row| &row.1));
    let mut text = String::new();
    for (key, value, effect) in &rows {
        let _ = writeln!(text, "  {key:<keys$}  {value:<values$}  {effect}");
    }
    text
}
