//! Recipe, model, corpora and machine resolved into one plan.
//!
//! Every value here is final: nothing later has defaults. Whatever can be refused is refused while the plan is made,
//! before any tensor exists. Free of libtorch.
//!
//! [`resolve`](mod@resolve) makes a plan, [`resume`](mod@resume) what is left of one from a checkpoint on, [`show`](mod@show)
//! prints it, [`memory`] estimates what it takes, [`fit`] chooses what the recipe leaves open so that it fits, [`disk`] is the
//! room that checkpoints take. Of several ranks, [`units`] are what they share, [`traffic`] what they send each
//! other, and [`speed`] how long a step should take on [`gpus`] that need not be here.

mod data;
pub mod disk;
mod epochs;
mod findings;
pub mod fit;
pub mod gpus;
pub mod machine;
pub mod memory;
mod model;
mod ranks;
pub mod resolve;
pub mod resume;
pub mod show;
pub mod speed;
mod stages;
pub mod traffic;
pub mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use disk::Disk;
pub use fit::{Fit, Room};
pub use machine::{Gpu, Machine, Ranks};
pub use resolve::{PlanError, resolve};
pub use resume::{Resumed, Saved, resume};
pub use show::{show, show_expecting};
pub use speed::Assumed;

use crate::corpus::loader::Position;
use crate::corpus::source::Packing;
use crate::model::config::{ModelConfig, Recompute};
use crate::optim::schedule::Schedule;
use crate::recipe::quantity::{Count, Interval, Rows};
use crate::recipe::sections::{Optimizer, Reduction};
use crate::recipe::{Recipe, to_yaml};

/// Everything a run does, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run's name, as logs and exports show it.
    pub name: String,
    /// Where checkpoints and logs go.
    pub output: PathBuf,
    /// Seed of initialisation and data order.
    pub seed: u64,
    /// The model.
    pub model: ModelPlan,
    /// Folder that holds `tokenizer.json` and its companions; its tokenizer is copied into every checkpoint.
    pub tokenizer: PathBuf,
    /// The data.
    pub data: DataPlan,
    /// The batch.
    pub batch: BatchPlan,
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// When and what to save.
    pub checkpoint: CheckpointPlan,
    /// When to validate, and on how much.
    pub validation: ValidationPlan,
    /// What to tell, and how often.
    pub logging: LoggingPlan,
    /// Where to compute.
    pub device: DevicePlan,
    /// Who computes it together.
    pub distributed: DistributedPlan,
    /// What was left to the planner, and the memory it had.
    pub room: Room,
    /// The recipe with every default filled in.
    pub resolved: Recipe,
    /// The checkpoint it resumes from; `None` for a run from its first step.
    pub resumed: Option<Resumed>,
    /// What the shown plan says besides; nothing depends on it.
    pub notes: Notes,
}

/// What a person should know of a plan that the run itself does not need.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// The device by name, with its memory.
    pub device: String,
    /// The GPU as CUDA calls it; empty for a CPU.
    pub gpu: String,
    /// By stage and source: the share of rows that the recipe asks for, before `max_epochs` caps.
    pub asked: Vec<Vec<f64>>,
    /// By stage and source: whether `max_epochs` cut the share.
    pub capped: Vec<Vec<bool>>,
    /// Ranks of one machine.
    pub node: usize,
    /// Whatever was rounded, cut, assumed or is unusual, a sentence each.
    pub remarks: Vec<String>,
}

/// The model and where its weights come from.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// Its shape.
    pub config: ModelConfig,
    /// The Hugging Face folder, or `config.json`, whose files and other keys go into every checkpoint.
    pub source: PathBuf,
    /// Its weights.
    pub weights: Weights,
    /// What their folder is known by: [`crate::hf::folder::fingerprint`]. `None` for fresh ones.
    pub base: Option<String>,
    /// What the backward pass computes again, of each layer from the first on.
    pub recompute: Vec<Recompute>,
}

/// Where a run's first weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// A Hugging Face folder; of a checkpoint of this trainer, the one inside it.
    Folder(PathBuf),
    /// The folder of a checkpoint of this trainer: its weights and optimizer moments, under a new schedule and step count.
    WithOptimizer(PathBuf),
    /// Drawn from the configuration's initializer with the run's seed.
    Fresh,
}

/// The corpora and how they are cut.
#[derive(Clone, Debug)]
pub struct DataPlan {
    /// T: tokens a row.
    pub sequence_length: usize,
    /// How documents become rows.
    pub packing: Packing,
    /// Whether attention stays inside a document.
    pub document_mask: bool,
    /// Token added after each document; `None` to add nothing.
    pub end_of_document: Option<u32>,
    /// The sources, in the recipe's order; mixtures are aligned with it.
    pub sources: Vec<SourcePlan>,
}

/// One corpus.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// Its name in the recipe.
    pub name: String,
    /// Path of `.bin`/`.idx` without the extension.
    pub prefix: PathBuf,
    /// Share of its documents held out for validation, 0 to 1.
    pub held_out: f64,
    /// Most times it is repeated over the whole run, if capped.
    pub max_epochs: Option<f64>,
    /// Documents in it.
    pub documents: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// Rows of one epoch of training.
    pub rows: u64,
    /// Rows held out for validation.
    pub held_out_rows: u64,
}

/// Rows a step and how they are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Rows a step, over all ranks.
    pub rows: u64,
    /// Rows computed at once; divides those of a rank.
    pub micro_rows: u64,
}

/// One stage.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// Its name.
    pub name: String,
    /// Optimizer steps in it.
    pub steps: u64,
    /// Share of rows from each source; sums to 1, after `max_epochs` caps.
    pub mixture: Vec<f64>,
    /// Learning rate by step of the stage.
    pub schedule: Schedule,
}

/// When and what to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// How often; the last step is always saved.
    pub every: Interval,
    /// How many of the newest to keep, at least 1.
    pub keep_last: usize,
    /// Keep every checkpoint whose step is a multiple of this.
    pub keep_every: Option<u64>,
}

/// When to validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidationPlan {
    /// Every so many steps; `None` for never between start and end.
    pub every: Option<u64>,
    /// At most so many rows a source.
    pub rows: u64,
    /// Whether to validate before the first step.
    pub at_start: bool,
}

/// What to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggingPlan {
    /// A console line every so many steps.
    pub every: u64,
    /// Whether to write TensorBoard events.
    pub tensorboard: bool,
}

/// The device that computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// The CPU.
    Cpu,
    /// A CUDA device, by index.
    Cuda(usize),
}

/// Arithmetic of forward and backward; master weights are fp32 in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// bfloat16 compute.
    Bf16,
    /// The same with the products of the layers in FP8.
    Fp8,
    /// float32 throughout.
    Fp32,
}

/// Where and how to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// The device.
    pub compute: Compute,
    /// The arithmetic.
    pub arithmetic: Arithmetic,
    /// Whether micro-batches are recorded as CUDA graphs.
    pub graphs: bool,
    /// CPU threads for libtorch; `None` leaves its default.
    pub threads: Option<usize>,
}

/// How several ranks share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DistributedPlan {
    /// W: how many ranks there are.
    pub world: usize,
    /// Ranks that hold one copy together of what is sharded: 1 where nothing is.
    pub shard: usize,
    /// Whether weights are sharded too, and gathered layer by layer.
    pub fully: bool,
    /// What gradients are summed in.
    pub reduce: Reduction,
    /// How long a rank waits for others.
    pub timeout: Duration,
}

impl DistributedPlan {
    /// What one process alone does.
    pub const ALONE: Self =
        Self { world: 1, shard: 1, fully: false, reduce: Reduction::Fp32, timeout: Duration::from_mins(10) };
}

impl Plan {
    /// The recipe with every default filled in and the micro-batch as it is.
    #[must_use]
    pub fn settled(&self) -> Recipe {
        let mut recipe = self.resolved.clone();
        recipe.batch.micro_sequences = Rows::Count(Count(self.batch.micro_rows));
        recipe
    }

    /// The same as YAML; stored in checkpoints.
    #[must_use]
    pub fn resolved_recipe(&self) -> String {
        to_yaml(&self.settled())
    }

    /// Optimizer steps of the run: those that were made before it resumed, and those that are left.
    #[must_use]
    pub fn steps(&self) -> u64 {
        let made = self.resumed.as_ref().map_or(0, |resumed| resumed.state.step);
        made + (0..self.stages.len()).map(|stage| self.steps_left(stage)).sum::<u64>()
    }

    /// Optimizer steps of a stage that are left where the run begins or resumes.
    #[must_use]
    pub fn steps_left(&self, stage: usize) -> u64 {
        let steps = self.stages[stage].steps;
        match &self.resumed {
            Some(resumed) if stage < resumed.stage => 0,
            Some(resumed) if stage == resumed.stage => steps.saturating_sub(resumed.stage_step),
            _ => steps,
        }
    }

    /// Tokens of its stage that were trained on at a position, of a run by this plan.
    #[must_use]
    pub fn stage_tokens(&self, position: &Position) -> u64 {
        let since = |stage_step: u64| (position.stage_step - stage_step).saturating_mul(self.tokens_a_step());
        match &self.resumed {
            // With another batch before, steps of this stage had other tokens.
            Some(resumed) if resumed.stage == position.stage => resumed.stage_tokens + since(resumed.stage_step),
            _ => since(0),
        }
    }

    /// The shares of the rows by stage and source, of the stages from one on.
    #[must_use]
    pub fn shares_from(&self, stage: usize) -> BTreeMap<String, BTreeMap<String, f64>> {
        let named = |stage: &StagePlan| {
            let sources = self.data.sources.iter().zip(&stage.mixture);
            let shares =
                sources.filter(|(_, share)| **share > 0.0).map(|(source, share)| (source.name.clone(), *share));
            (stage.name.clone(), shares.collect())
        };
        self.stages[stage..].iter().map(named).collect()
    }

    /// Rows of one optimizer step that each rank computes.
    #[must_use]
    pub fn rows_a_rank(&self) -> u64 {
        self.batch.rows / (self.distributed.world as u64).max(1)
    }

    /// Micro-batches of one optimizer step that each rank computes.
    #[must_use]
    pub fn micro_batches(&self) -> u64 {
        self.rows_a_rank() / self.batch.micro_rows.max(1)
    }

    /// Tokens of one optimizer step, padding included.
    #[must_use]
    pub fn tokens_a_step(&self) -> u64 {
        self.batch.rows * self.data.sequence_length as u64
    }
}
