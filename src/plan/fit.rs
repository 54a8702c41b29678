//! How a step is cut into micro-batches and what its backward pass computes again: the fastest way that fits into memory.
//!
//! Both change speed and memory and, but for rounding, nothing else, so a recipe may leave both to the planner (`auto`). It
//! takes the cheapest, by what `cost` counts for a token:
//!
//! - a layer recomputed fully does its forward pass again, a third of its arithmetic;
//! - recomputed selectively it goes over a few rows of memory again, for about half of the bytes that fully saves;
//! - every micro-batch adds its gradients to those before it, one pass over all of them however few its tokens are.
//!
//! For Llama-3-8B in bf16 that is 31 % of the arithmetic, 1.7 %, and 4.4 % at 8,192 tokens a micro-batch, 2.2 % at 16,384. So
//! nothing is recomputed fully to make a micro-batch of thousands of tokens larger, and a larger one is taken where selective
//! recomputation makes room for it. Of equal layers the first ones recompute: they would keep the longest.

use super::findings::Findings;
use super::memory::{self, Load, Memory};
use super::units::UnitSizes;
use super::{Arithmetic, Compute, DistributedPlan, Plan, ranks};
use crate::figures::size;
use crate::hf::names;
use crate::model::config::Recompute;
use crate::recipe::sections::{Mode, Moments};

/// FLOPs in the time of one byte to or from memory, as both are reached in training: on an H100 about 500 TFLOP/s in bf16
/// and 2.5 TB/s. It decides between choices that are close in any case.
const MOVED: f64 = 200.0;

/// What a run may choose, and the memory it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Whether the micro-batch is the planner's to choose.
    pub rows: bool,
    /// Whether it is to choose what layers recompute.
    pub layers: bool,
    /// Bytes that the run may take; 0 where that is not known.
    pub memory: u64,
}

/// How a step is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Rows computed at once.
    pub micro_rows: u64,
    /// What is recomputed, of each layer.
    pub recompute: Vec<Recompute>,
}

impl Room {
    /// Bytes that an estimate may come to: a twentieth stays free for gaps between tensors and what the estimate is off by, a
    /// gigabyte (of little memory a tenth) for what CUDA and the libraries take.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.memory - self.memory / 20 - (self.memory / 10).min(1_000_000_000)
    }
}

impl Plan {
    /// The same plan, computed in another way.
    #[must_use]
    pub fn with(mut self, fit: Fit) -> Self {
        (self.batch.micro_rows, self.model.recompute) = (fit.micro_rows, fit.recompute);
        self
    }

    /// The same plan with weights sharded too, or not.
    fn fully(mut self, fully: bool) -> Self {
        self.distributed.fully = fully && self.distributed.shard > 1;
        self
    }

    /// What it would take, computed in another way.
    #[must_use]
    pub fn memory_with(&self, fit: &Fit) -> Memory {
        load(self, fit).memory()
    }
}

fn load<'a>(plan: &'a Plan, fit: &'a Fit) -> Load<'a> {
    Load {
        tokens: Load::tokens(fit.micro_rows, plan.data.sequence_length),
        several: plan.rows_a_rank() > fit.micro_rows,
        recompute: &fit.recompute,
        ..Load::of(plan)
    }
}

/// Chooses what the recipe leaves open, and refuses what cannot fit.
pub(super) fn settle(plan: Plan, findings: &mut Findings) -> Plan {
    let Room { rows, layers, memory } = plan.room;
    if memory == 0 {
        if rows {
            findings.remark(
                "how much memory there is cannot be told, so one row is computed at a time: device.memory says it",
            );
        }
        return plan;
    }
    let budget = plan.room.budget();
    let plan = sharded(plan, budget, findings);
    let plan = match fastest(&plan, budget) {
        Some(fit) => plan.with(fit),
        None => {
            let least = smallest(&plan);
            plan.with(least)
        }
    };
    let takes = memory::estimate(&plan).total();
    if takes > memory {
        let key =
            if rows || plan.batch.micro_rows == 1 { "model.activation_checkpointing" } else { "batch.micro_sequences" };
        let key = if rows && layers { "model" } else { key };
        findings.complain(key, too_large(&plan, takes));
    } else if takes > budget {
        findings.remark(format!(
            "memory is tight: {} by estimate, and of the {} there are {} should stay free",
            size(takes),
            size(memory),
            size(memory - budget)
        ));
    }
    plan
}

/// Where the mode is left to the planner: zero1 if it fits without layers recomputed fully, else whichever recomputes fewer.
fn sharded(plan: Plan, budget: u64, findings: &mut Findings) -> Plan {
    if plan.distributed.world == 1 || plan.resolved.distributed.mode != Mode::Auto || plan.device.graphs {
        return plan;
    }
    let full = |fit: &Fit| fit.recompute.iter().filter(|one| **one == Recompute::Full).count();
    let fsdp = plan.clone().fully(true);
    let (whole, parts) = (fastest(&plan, budget), fastest(&fsdp, budget));
    match (whole, parts) {
        (Some(whole), Some(parts)) if full(&parts) < full(&whole) => {
            findings.remark(format!(
                "distributed.mode auto is fsdp, which recomputes {} of {} layers; zero1 would fit too, but recompute {}: where \
                 ranks are joined by slow links that may be faster",
                full(&parts),
                parts.recompute.len(),
                full(&whole)
            ));
            fsdp
        }
        (Some(_), _) => plan,
        (None, Some(_)) => fsdp,
        // Neither does as it should: whichever takes less may still fit, or be refused.
        (None, None) => {
            let takes = |plan: &Plan| plan.memory_with(&smallest(plan)).total();
            if takes(&plan) <= takes(&fsdp) { plan } else { fsdp }
        }
    }
}

/// Why a plan is refused, and what would take less.
fn too_large(plan: &Plan, takes: u64) -> String {
    let there = plan.room.memory;
    let all = format!("a step takes {} by estimate, and there are {}", size(takes), size(there));
    let others = less(plan);
    let shown = |(what, bytes): &(String, u64)| format!("{what} ({})", size(*bytes));
    let fitting: Vec<_> = others.iter().filter(|(_, bytes)| *bytes <= there).collect();
    // Other machines are for what these cannot hold in any mode.
    let mode = fitting.iter().any(|(what, _)| what.starts_with("distributed.mode"));
    let more = if mode { None } else { more_ranks(plan) };
    let set = fitting.iter().map(|one| shown(one)).collect::<Vec<_>>().join(" or ");
    match (set.as_str(), more) {
        ("", None) => {}
        ("", Some(more)) => return format!("{all}: {more}"),
        (set, None) => return format!("{all}: set {set}"),
        (set, Some(more)) => return format!("{all}: set {set}, or {more}"),
    }
    let parts = memory::estimate(plan);
    if parts.states() > there {
        let narrower = match plan.optimizer.moments {
            Moments::Fp32 => format!(", or optimizer.moments=bf16, which saves {}", size(parts.moments / 2)),
            Moments::Bf16 => String::new(),
        };
        return format!(
            "{all}: weights, moments and gradients alone are {}; use a larger device or a smaller model{narrower}",
            size(parts.states())
        );
    }
    match others.iter().min_by_key(|(_, bytes)| *bytes) {
        Some(least) => format!("{all}: the least is {}; use a larger device or a smaller model", shown(least)),
        None => format!("{all}, in the way that takes least: use a larger device, a smaller model or shorter rows"),
    }
}

/// Nodes that are tried for a plan that does not fit.
const NODES: usize = 1024;

/// The fewest ranks, in whole nodes of GPUs, on which a plan fits that does not fit on its own, sharded as the recipe says or,
/// where it asks for what cannot be helped by more, fully.
fn more_ranks(plan: &Plan) -> Option<String> {
    let (Compute::Cuda(_), node) = (plan.device.compute, plan.notes.node.max(1)) else { return None };
    let asked = &plan.resolved.distributed;
    let micro = if plan.room.rows { 1 } else { plan.batch.micro_rows };
    let worlds = (1..=NODES).map(|nodes| nodes * node).filter(|world| *world > plan.distributed.world);
    let shared = worlds.take_while(|world| *world as u64 <= plan.batch.rows).filter(|world| {
        let groups = asked.shard_ranks.is_none_or(|ranks| world.is_multiple_of(ranks as usize));
        groups && plan.batch.rows.is_multiple_of(*world as u64 * micro)
    });
    let modes: &[bool] = match (plan.device.graphs, asked.mode) {
        (true, _) => &[false],
        (false, Mode::Fsdp) => &[true],
        (false, _) => &[false, true],
    };
    for world in shared {
        for &fully in modes {
            let shard = asked.shard_ranks.map_or(world, |ranks| ranks as usize);
            let fully = fully && shard > 1;
            let distributed = DistributedPlan { world, shard, fully, reduce: asked.reduce, ..plan.distributed };
            let larger = Plan { distributed, ..plan.clone() };
            let takes = larger.memory_with(&smallest(&larger)).total();
            if takes <= plan.room.budget() {
                let mode = match (asked.mode, fully) {
                    (Mode::Ddp, false) => " with distributed.mode=zero1",
                    (Mode::Ddp | Mode::Zero1, true) => " with distributed.mode=fsdp",
                    _ => "",
                };
                return Some(format!("start {world} ranks{mode} ({} each)", size(takes)));
            }
        }
    }
    None
}

/// The fastest of what is left open that `budget` has room for.
#[must_use]
pub fn fastest(plan: &Plan, budget: u64) -> Option<Fit> {
    let units = UnitSizes::of(&plan.model.config, plan.distributed);
    let fits = |fit: &Fit| load(plan, fit).among(&units).total() <= budget;
    let of_rows = rows(plan).into_iter().filter_map(|micro_rows| cheapest(plan, micro_rows, fits));
    of_rows.min_by(|a, b| cost(plan, a).total_cmp(&cost(plan, b)))
}

/// The one that takes least.
#[must_use]
pub fn smallest(plan: &Plan) -> Fit {
    let layers = plan.model.config.layers;
    let all = match plan.room.layers {
        true => [Recompute::Full, Recompute::Selective, Recompute::None].map(|one| vec![one; layers]).to_vec(),
        false => vec![plan.model.recompute.clone()],
    };
    // Not always one row: all at once need no sums of gradients.
    let fits = rows(plan)
        .into_iter()
        .flat_map(|micro_rows| all.iter().map(move |recompute| Fit { micro_rows, recompute: recompute.clone() }));
    let least = fits.min_by_key(|fit| load(plan, fit).memory().total());
    least.unwrap_or(Fit { micro_rows: plan.batch.micro_rows, recompute: plan.model.recompute.clone() })
}

/// What to try where a plan was tried and did not fit: the fastest that takes a tenth less, or the one that takes least.
#[must_use]
pub fn next(plan: &Plan) -> Option<Fit> {
    let takes = memory::estimate(plan).total();
    fastest(plan, takes - takes / 10).or_else(|| {
        let least = smallest(plan);
        (load(plan, &least).memory().total() < takes).then_some(least)
    })
}

/// Other settings that take less, as a user writes them, with the bytes of each.
#[must_use]
pub fn less(plan: &Plan) -> Vec<(String, u64)> {
    let (micro_rows, layers) = (plan.batch.micro_rows, plan.model.config.layers);
    let smaller = rows_of(plan).into_iter().find(|rows| *rows < micro_rows);
    let checkpointing = [("selective", Recompute::Selective), ("full", Recompute::Full)];
    let mut all = Vec::new();
    let mut add = |what: String, micro_rows: u64, recompute: Vec<Recompute>| {
        all.push((what, load(plan, &Fit { micro_rows, recompute }).memory().total()));
    };
    if let Some(rows) = smaller {
        add(format!("batch.micro_sequences={rows}"), rows, plan.model.recompute.clone());
    }
    for (name, recompute) in checkpointing {
        add(format!("model.activation_checkpointing={name}"), micro_rows, vec![recompute; layers]);
    }
    if smaller.is_some() {
        add(
            "batch.micro_sequences=1 with model.activation_checkpointing=full".to_owned(),
            1,
            vec![Recompute::Full; layers],
        );
    }
    if plan.optimizer.moments == Moments::Fp32 {
        let load = Load { moments: Moments::Bf16, ..Load::of(plan) };
        all.push(("optimizer.moments=bf16".to_owned(), load.memory().total()));
    }
    let DistributedPlan { world, shard, fully, .. } = plan.distributed;
    if world > 1 && !fully {
        let whole = if shard == 1 { world } else { shard };
        let modes = [("zero1", shard > 1, false), ("fsdp", plan.device.graphs, true)];
        for (mode, _, fully) in modes.into_iter().filter(|(_, beside, _)| !beside) {
            let distributed = DistributedPlan { shard: whole, fully, ..plan.distributed };
            let load = Load { distributed, ..Load::of(plan) };
            all.push((format!("distributed.mode={mode}"), load.memory().total()));
        }
    }
    let half = plan.data.sequence_length / 2;
    if smaller.is_none() && half > 1 {
        let load = Load { tokens: half as u64, ..Load::of(plan) };
        all.push((format!("data.sequence_length={half} in a new run"), load.memory().total()));
    }
    let takes = memory::estimate(plan).total();
    all.retain(|(_, bytes)| *bytes < takes);
    all
}

/// What layers recompute, in words.
#[must_use]
pub fn words(recompute: &[Recompute]) -> String {
    let count = |what| recompute.iter().filter(|one| **one == what).count();
    let (full, selective, all) = (count(Recompute::Full), count(Recompute::Selective), recompute.len());
    match (full, selective) {
        (0, 0) => "all kept".to_owned(),
        (0, selective) if selective == all => "norms recomputed".to_owned(),
        (full, 0) if full == all => "layers recomputed".to_owned(),
        (0, selective) => format!("norms of {selective} of {all} layers recomputed"),
        (full, 0) => format!("{full} of {all} layers recomputed"),
        (full, selective) => format!("{full} of {all} layers recomputed, norms of {selective}"),
    }
}

/// The micro-batches to choose from, the largest first.
fn rows(plan: &Plan) -> Vec<u64> {
    if plan.room.rows { rows_of(plan) } else { vec![plan.batch.micro_rows] }
}

/// All micro-batches that divide the rows of a rank, the largest first.
fn rows_of(plan: &Plan) -> Vec<u64> {
    ranks::divisors_of(plan.rows_a_rank()).into_iter().rev().collect()
}

/// The least recomputation with which so many rows at once fit: none, then selective, and full only where all the others
/// are selective and it is not enough; then as few of those as are needed.
fn cheapest(plan: &Plan, micro_rows: u64, fits: impl Fn(&Fit) -> bool) -> Option<Fit> {
    let fit = |recompute| Some(Fit { micro_rows, recompute }).filter(&fits);
    if !plan.room.layers {
        return fit(plan.model.recompute.clone());
    }
    let layers = plan.model.config.layers;
    let mixed = |full: usize, selective: usize| {
        let all = [(Recompute::Full, full), (Recompute::Selective, selective), (Recompute::None, layers)];
        all.into_iter().flat_map(|(what, count)| std::iter::repeat_n(what, count)).take(layers).collect()
    };
    let full = (0..=layers).find(|full| fit(mixed(*full, layers - full)).is_some())?;
    (0..=layers - full).find_map(|selective| fit(mixed(full, selective)))
}

/// What a token costs beyond its arithmetic, in FLOPs.
fn cost(plan: &Plan, fit: &Fit) -> f64 {
    let config = &plan.model.config;
    let [c, f, layers] = [config.hidden_size, config.intermediate_size, config.layers.max(1)].map(|n| n as f64);
    let w = if plan.device.arithmetic == Arithmetic::Fp32 { 4.0 } else { 2.0 };
    let all = names::total(config) as f64;
    let of_layers =
        all - (config.vocab_size * config.hidden_size) as f64 * if config.tied_embeddings { 1.0 } else { 2.0 };
    let again = fit.recompute.iter().map(|recompute| match recompute {
        Recompute::None => 0.0,
        // Both norms read and write C, the product inside the MLP reads 2 F and writes F.
        Recompute::Selective => MOVED * w * (4.0 * c + 3.0 * f),
        Recompute::Full => 2.0 * of_layers / layers,
    });
    // A gradient is read, and its fp32 sum read and written.
    let summed = if plan.rows_a_rank() > fit.micro_rows { MOVED * (w + 8.0) * all } else { 0.0 };
    again.sum::<f64>() + summed / load(plan, fit).tokens.max(1) as f64
}
