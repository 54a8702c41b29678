//! The stages: their steps, their learning rates, and what each source gives after `max_epochs`.

use super::epochs::{Shares, share};
use super::findings::Findings;
use super::{BatchPlan, DataPlan, StagePlan};
use crate::figures::thousands;
use crate::optim::schedule::{Decay, Schedule, ScheduleError, Settings, Shape};
use crate::recipe::Recipe;
use crate::recipe::quantity::Part;
use crate::recipe::sections::{self, DecayShape, ScheduleKind, Stage, Start};

/// Epochs beyond which a source is remarked on: repetition stops helping after about four (Muennighoff et al. 2023,
/// arXiv 2305.16264).
const REPEATS: f64 = 4.0;

/// The stages, with what the shown plan says of them.
pub(super) struct Staged {
    pub(super) stages: Vec<StagePlan>,
    pub(super) asked: Vec<Vec<f64>>,
    pub(super) capped: Vec<Vec<bool>>,
}

/// Resolves every stage; `data` is missing where it was refused, and then only steps and schedules are looked at.
pub(super) fn stages(
    recipe: &Recipe,
    batch: BatchPlan,
    data: Option<&DataPlan>,
    findings: &mut Findings,
) -> Option<Staged> {
    let tokens_a_step = batch.rows.saturating_mul(recipe.data.sequence_length.0).max(1);
    let mut ended = 0.0;
    let mut lengths = Vec::new();
    for (at, stage) in recipe.stages.iter().enumerate() {
        let key = format!("stages.{at}");
        // A stage without an end leaves nothing for the next to continue from.
        let Some(steps) = steps(&key, stage, tokens_a_step, findings) else { continue };
        let schedule = schedule(&format!("{key}.schedule"), stage, steps, tokens_a_step, ended, findings);
        ended = schedule.as_ref().map_or(0.0, |schedule| schedule.rate(steps));
        lengths.push((steps, schedule));
    }
    if lengths.len() < recipe.stages.len() {
        return None;
    }
    let mut mixing = Mixing::new(data?);
    let mut staged = Staged { stages: Vec::new(), asked: Vec::new(), capped: Vec::new() };
    let mut whole = true;
    for (at, (stage, (steps, schedule))) in recipe.stages.iter().zip(lengths).enumerate() {
        let mixed = mixing.stage(at, stage, steps * batch.rows, findings);
        let (Some((asked, Shares { shares, capped })), Some(schedule)) = (mixed, schedule) else {
            whole = false;
            continue;
        };
        staged.asked.push(asked);
        staged.capped.push(capped);
        staged.stages.push(StagePlan { name: stage.name.clone(), steps, mixture: shares, schedule });
    }
    mixing.remark(findings);
    whole.then_some(staged)
}

/// Optimizer steps of a stage; tokens are rounded up to whole steps.
fn steps(key: &str, stage: &Stage, tokens_a_step: u64, findings: &mut Findings) -> Option<u64> {
    let (name, steps) = match (stage.tokens, stage.steps) {
        (Some(tokens), _) if tokens.0 < tokens_a_step => {
            let message =
                format!("is {tokens}, less than the {tokens_a_step} of one step: train longer, or on smaller batches");
            findings.complain(&format!("{key}.tokens"), message);
            return None;
        }
        (Some(tokens), _) => ("tokens", tokens.0.div_ceil(tokens_a_step)),
        (None, steps) => ("steps", steps.map_or(1, |steps| steps.0)),
    };
    let Some(trained) = steps.checked_mul(tokens_a_step) else {
        findings.complain(&format!("{key}.{name}"), "more tokens than can be counted, 2^64");
        return None;
    };
    if let Some(tokens) = stage.tokens.filter(|tokens| tokens.0 != trained) {
        findings.remark(format!(
            "stage {}: {} tokens are rounded up to {} whole steps, {} tokens",
            stage.name,
            thousands(tokens.0),
            thousands(steps),
            thousands(trained)
        ));
    }
    Some(steps)
}

/// Steps of a part of a stage; tokens are rounded up, and a share above 0 is one step at least.
fn part(part: Part, steps: u64, tokens_a_step: u64) -> u64 {
    match part {
        Part::Steps(steps) => steps,
        Part::Tokens(tokens) => tokens.div_ceil(tokens_a_step),
        Part::Share(share) => ((steps as f64 * share).round() as u64).max(u64::from(share > 0.0)),
    }
}

fn schedule(
    key: &str,
    stage: &Stage,
    steps: u64,
    tokens_a_step: u64,
    ended: f64,
    findings: &mut Findings,
) -> Option<Schedule> {
    let written: &sections::Schedule = &stage.schedule;
    let length = |phase: Option<Part>| phase.map_or(0, |phase| part(phase, steps, tokens_a_step));
    let decay = match written.decay_shape {
        None | Some(DecayShape::Linear) => Decay::Linear,
        Some(DecayShape::Cosine) => Decay::Cosine,
        Some(DecayShape::Exponential) => Decay::Exponential,
        Some(DecayShape::MinusSqrt) => Decay::MinusSqrt,
    };
    let shape = match written.kind {
        ScheduleKind::Constant => Shape::Constant,
        ScheduleKind::Linear => Shape::Decay(Decay::Linear),
        ScheduleKind::Cosine => Shape::Decay(Decay::Cosine),
        ScheduleKind::Wsd => Shape::Wsd { steps: length(written.decay), decay },
        ScheduleKind::Infinite => Shape::Infinite {
            cooldown: length(written.cooldown),
            constant: written.constant.unwrap_or(written.peak),
            anneal: length(written.decay),
            decay,
        },
    };
    let start = if written.start == Start::Continue { ended } else { 0.0 };
    let (peak, floor, warmup) = (written.peak, written.floor, length(Some(written.warmup)));
    if written.start == Start::Continue && warmup == 0 && (peak - ended).abs() > 1e-6 * peak.max(ended) {
        let message = format!(
            "is continue without a warm-up, and the stage before ends at {ended:.3e}: give a warmup, or that as the peak"
        );
        findings.complain(&format!("{key}.start"), message);
    }
    match Schedule::new(Settings { steps, start, peak, floor, warmup, shape }) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            // The phases are at fault together; the rates were held against each other by the recipe's rules.
            let key =
                if matches!(error, ScheduleError::TooLong { .. }) { key.to_owned() } else { format!("{key}.peak") };
            findings.complain(&key, error.to_string());
            None
        }
    }
}

/// Rows that the sources have given, from the first stage on.
pub(super) struct Mixing<'a> {
    data: &'a DataPlan,
    given: Vec<f64>,
    /// Whether some stage asks a source for rows.
    asked: Vec<bool>,
}

impl<'a> Mixing<'a> {
    fn new(data: &'a DataPlan) -> Self {
        Self::from(data, vec![0.0; data.sources.len()])
    }

    /// Of sources that have given so many rows already.
    pub(super) fn from(data: &'a DataPlan, given: Vec<f64>) -> Self {
        let asked = vec![false; data.sources.len()];
        Self { data, given, asked }
    }

    /// Counts `rows` rows that are given by these shares.
    pub(super) fn gave(&mut self, shares: &[f64], rows: u64) {
        self.given.iter_mut().zip(shares).for_each(|(given, share)| *given += share * rows as f64);
    }

    /// The shares a stage of `rows` rows asks for, and those it gets.
    pub(super) fn stage(
        &mut self,
        at: usize,
        stage: &Stage,
        rows: u64,
        findings: &mut Findings,
    ) -> Option<(Vec<f64>, Shares)> {
        let sources = &self.data.sources;
        let weights: Vec<f64> =
            sources.iter().map(|source| stage.mixture.get(&source.name).copied().unwrap_or(0.0)).collect();
        let all: f64 = weights.iter().sum();
        let asked: Vec<f64> = weights.iter().map(|weight| weight / all).collect();
        let barren = sources.iter().zip(&weights).filter(|(source, weight)| **weight > 0.0 && source.rows == 0);
        let barren: Vec<&str> = barren.map(|(source, _)| source.name.as_str()).collect();
        for name in &barren {
            let message = "has no token to train on: its documents are empty, but for those held out";
            findings.complain(&format!("stages.{at}.mixture.{name}"), message);
        }
        if !barren.is_empty() {
            return None;
        }
        let left = sources.iter().zip(&self.given).map(|(source, given)| {
            let most = source.max_epochs? * source.rows as f64;
            Some((most - given).max(0.0).floor() as u64)
        });
        let left: Vec<Option<u64>> = left.collect();
        let shares = match share(&asked, rows, &left) {
            Ok(shares) => shares,
            Err(have) => {
                let names: Vec<_> =
                    sources.iter().zip(&weights).filter(|(_, w)| **w > 0.0).map(|(s, _)| s.name.as_str()).collect();
                let message = format!(
                    "{} rows, and {} have {} left under their max_epochs: raise max_epochs, train on less, or add a source",
                    thousands(rows),
                    names.join(", "),
                    thousands(have)
                );
                let key = if stage.tokens.is_some() { "tokens" } else { "steps" };
                findings.complain(&format!("stages.{at}.{key}"), message);
                return None;
            }
        };
        self.gave(&shares.shares, rows);
        for (at, source) in sources.iter().enumerate() {
            self.asked[at] |= weights[at] > 0.0;
            if shares.capped[at] {
                findings.remark(format!(
                    "stage {}: {} is cut from {:.1} % to {:.1} % of the rows, as max_epochs is {}; the other sources fill in",
                    stage.name,
                    source.name,
                    asked[at] * 100.0,
                    shares.shares[at] * 100.0,
                    source.max_epochs.unwrap_or_default()
                ));
            }
        }
        Some((asked, shares))
    }

    fn remark(&self, findings: &mut Findings) {
        for ((source, given), asked) in self.data.sources.iter().zip(&self.given).zip(&self.asked) {
            let epochs = given / source.rows.max(1) as f64;
            if epochs > REPEATS {
                findings.remark(format!(
                    "{} is repeated {epochs:.1} times; beyond about {REPEATS} a repetition stops helping (arXiv 2305.16264): a lower \
                     weight or max_epochs prevents it",
                    source.name
                ));
            } else if *given == 0.0 && *asked {
                findings.remark(format!(
                    "{} is never trained on, only validated: max_epochs {} of its {} rows is less than one row; raise max_epochs, or \
                     leave it out of the mixtures",
                    source.name,
                    source.max_epochs.unwrap_or_default(),
                    thousands(source.rows)
                ));
            } else if *given == 0.0 {
                findings.remark(format!("{} is in no mixture: it is validated, never trained on", source.name));
            }
        }
    }
}
