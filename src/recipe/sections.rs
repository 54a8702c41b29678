//! The sections of a recipe: what a user writes, key by key, with its defaults.
//!
//! These types are the one description of a recipe: its checks, its JSON Schema and its reference are made from them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hephaestus_core::corpus::source::Packing;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, Count, Interval, Part, Rows, Share, Time};

/// A training run: what is trained, on what, how, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the recipe format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The run itself.
    pub run: Run,
    /// The model and its first weights.
    pub model: Model,
    /// Folder with `tokenizer.json` and its companions, as Hugging Face lays it out; `model.from` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub tokenizer: Option<PathBuf>,
    /// The corpora and how they become rows.
    pub data: Data,
    /// The batch of one optimizer step.
    pub batch: Batch,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// AdamW.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// When and what to save.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// When to measure the loss on held-out documents.
    #[serde(default)]
    pub validation: Validation,
    /// What to tell, and how often.
    #[serde(default)]
    pub logging: Logging,
    /// Where and in what precision to compute.
    #[serde(default)]
    pub device: Device,
    /// How several ranks share the work.
    #[serde(default)]
    pub distributed: Distributed,
}

/// The run itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name, as logs show it.
    pub name: String,
    /// Folder for checkpoints and logs; `checkpoints/NAME` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub output: Option<PathBuf>,
    /// Seed of fresh weights and of the order of the data.
    #[serde(default)]
    pub seed: u64,
}

/// The model and its first weights: `from` a folder, or fresh from a `config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["from"]}, {"required": ["config"]}]))]
pub struct Model {
    /// Hugging Face folder, or a checkpoint of this trainer, to take the weights from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub from: Option<PathBuf>,
    /// A `config.json` (or the folder that holds one) to draw fresh weights for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub config: Option<PathBuf>,
    /// Take the optimizer's moments from the checkpoint in `from` too: the schedule and the data begin anew.
    #[serde(default)]
    pub keep_optimizer: bool,
    /// What the backward pass computes again instead of keeping it; losses and gradients are the same.
    #[serde(default)]
    pub activation_checkpointing: ActivationCheckpointing,
}

/// What the backward pass computes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationCheckpointing {
    /// Layer by layer the cheapest of the others with which a step fits into `device.memory`.
    #[default]
    Auto,
    /// Nothing: fastest, most memory.
    None,
    /// Norms and the product inside the MLP: about a third less memory for next to no time.
    Selective,
    /// Every layer from its input: about a third more arithmetic, least memory.
    Full,
}

/// The corpora and how they become rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Tokens a row.
    pub sequence_length: Count,
    /// How documents become rows.
    #[serde(default)]
    pub packing: Packing,
    /// Keep attention inside a document.
    #[serde(default = "yes")]
    pub document_mask: bool,
    /// Token added after each document that does not end with it already: `auto` for the tokenizer's end-of-document token,
    /// a token by its text, or `none`.
    #[serde(default = "auto")]
    pub end_of_document: String,
    /// The corpora by name.
    pub sources: BTreeMap<String, Source>,
}

/// One corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Path of its `.bin` and `.idx`, without the ending.
    #[schemars(extend("format" = "path"))]
    pub path: PathBuf,
    /// Share of its documents that is never trained on and validates.
    #[serde(default = "held_out")]
    pub held_out: Share,
    /// Most times it is repeated over the whole run; its share then goes to the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_epochs: Option<f64>,
}

/// The batch of one optimizer step: `tokens` or `sequences`, cut into micro-batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["tokens"]}, {"required": ["sequences"]}]))]
pub struct Batch {
    /// Tokens a step; a multiple of `data.sequence_length`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Count>,
    /// Rows a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequences: Option<Count>,
    /// Rows computed at once, a divisor of the rows of a step (of several ranks, of those of each); gradients accumulate over
    /// the others. It changes speed, memory and rounding.
    #[serde(default)]
    pub micro_sequences: Rows,
}

/// One stage: a mixture and a learning-rate schedule for so many `tokens` or `steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["tokens"]}, {"required": ["steps"]}]))]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Tokens to train on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Count>,
    /// Optimizer steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Count>,
    /// Weight of each source; weights are divided by their sum.
    pub mixture: BTreeMap<String, f64>,
    /// The learning rate.
    pub schedule: Schedule,
}

/// The learning rate of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its shape.
    pub kind: ScheduleKind,
    /// Highest rate.
    #[schemars(range(min = 0))]
    pub peak: f64,
    /// Lowest rate after the warm-up.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub floor: f64,
    /// Length of the warm-up.
    #[serde(default = "no_part")]
    pub warmup: Part,
    /// Where the warm-up starts from.
    #[serde(default)]
    pub start: Start,
    /// Length of the decay at the end, for `wsd` and `infinite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Part>,
    /// Form of that decay; `linear` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_shape: Option<DecayShape>,
    /// Rate between cooldown and decay, for `infinite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub constant: Option<f64>,
    /// Length of the fall from `peak` to `constant`, for `infinite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Part>,
}

/// The shape of a schedule after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The peak, to the end.
    Constant,
    /// A straight line from peak to floor.
    Linear,
    /// Half a cosine from peak to floor.
    Cosine,
    /// Warm-up, stable, decay: the peak, then `decay` to the floor.
    Wsd,
    /// `cooldown` to `constant`, that rate, then `decay` to the floor (Ibrahim et al. 2024, arXiv 2403.08763).
    Infinite,
}

/// The form of a decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayShape {
    /// `1 - x`
    #[default]
    Linear,
    /// `(1 + cos(pi x)) / 2`
    Cosine,
    /// `2 * 0.5^x - 1`
    Exponential,
    /// `1 - sqrt(x)`
    MinusSqrt,
}

/// Where a stage's warm-up starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// 0: re-warming.
    #[default]
    Zero,
    /// The rate the stage before ended with.
    Continue,
}

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Decay of the first moment.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay of the second moment.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Added to the denominator.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// Decoupled weight decay; norms and biases have none.
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// Element type of both moments. Half the memory in bf16: 4 bytes a parameter less.
    pub moments: Moments,
    /// Largest global norm of the gradients; 0 turns clipping off.
    #[schemars(range(min = 0))]
    pub clip_norm: f64,
    /// Weight of the squared log-partition in the loss (PaLM, arXiv 2204.02311, section 5); 0 turns it off.
    #[schemars(range(min = 0))]
    pub z_loss: f64,
    /// Updates skipped in a row, for a loss or gradient that is not finite, after which the run stops.
    #[schemars(range(min = 1))]
    pub max_skipped: u32,
}

/// The element type of AdamW's moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moments {
    /// float32.
    #[default]
    Fp32,
    /// bfloat16, rounded up or down at random (stochastic rounding).
    Bf16,
}

/// When and what to save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Steps or time between checkpoints; the last step is always saved.
    pub every: Interval,
    /// How many of the newest to keep.
    #[schemars(range(min = 1))]
    pub keep_last: u32,
    /// Keep each whose step is a multiple of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keep_every: Option<u64>,
}

/// When to measure the loss on held-out documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Steps between measurements; 0 for none between the first step and the last.
    pub every: u64,
    /// Most rows a source.
    pub sequences: Count,
    /// Measure before the first step.
    pub at_start: bool,
}

/// What to tell, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// Steps between lines.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Write TensorBoard events.
    pub tensorboard: bool,
}

/// Where and in what precision to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Device {
    /// The device.
    pub kind: DeviceKind,
    /// Arithmetic of forward and backward; master weights are fp32 in all.
    pub precision: Precision,
    /// Record micro-batches as CUDA graphs, for small models, whose time goes into launching. Not with fp32 or fsdp; no
    /// effect on the CPU.
    pub cuda_graphs: bool,
    /// Memory that a run may take on the device, of which a reserve stays free; all that a GPU has, or half of what a machine
    /// has for its CPU, shared out among its ranks, where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// CPU threads; where it is not given, as many as `OMP_NUM_THREADS` says, or one a core, shared out among the ranks of a
    /// machine unless srun gives each cores of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub threads: Option<u32>,
}

/// The device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// CUDA where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device: the first, or of several ranks on a machine one each.
    Cuda,
}

/// How several ranks share the work. One process alone pays it no heed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Distributed {
    /// What each rank holds whole.
    pub mode: Mode,
    /// Ranks that hold one copy together of what is sharded, such as those of a node; the others replicate it (hybrid
    /// sharding). A divisor of their number; all ranks where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub shard_ranks: Option<u32>,
    /// What gradients are summed in over ranks.
    pub reduce: Reduction,
    /// How long a rank waits for the others before it gives up: at the start, and in each collective.
    pub timeout: Time,
}

/// What each rank holds whole, and what it shares with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// zero1 where it fits without recomputing layers fully, else fsdp where that recomputes fewer.
    #[default]
    Auto,
    /// Distributed data parallel: weights, gradients and optimizer whole on every rank.
    Ddp,
    /// The optimizer is sharded (ZeRO-1, arXiv 1910.02054): moments and master weights of a part on each rank.
    Zero1,
    /// Fully sharded (ZeRO-3, FSDP, arXiv 2304.11277): a rank holds a part of everything, and gathers a layer's weights
    /// while it is computed.
    Fsdp,
}

/// What gradients are summed in over ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// float32.
    #[default]
    Fp32,
    /// bfloat16: half the traffic, less exact.
    Bf16,
}

/// The arithmetic of forward and backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bfloat16 on CUDA, float32 on the CPU.
    #[default]
    Auto,
    /// bfloat16.
    Bf16,
    /// bfloat16 with the matrix products of the layers in FP8: e4m3 with a scale a row. Hopper, Ada or newer; on the CPU it
    /// is emulated, which is slow.
    Fp8,
    /// float32.
    Fp32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            moments: Moments::Fp32,
            clip_norm: 1.0,
            z_loss: 0.0,
            max_skipped: 5,
        }
    }
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: Interval::Steps(500), keep_last: 2, keep_every: None }
    }
}

impl Default for Validation {
    fn default() -> Self {
        Self { every: 500, sequences: Count(64), at_start: true }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { every: 10, tensorboard: true }
    }
}

impl Default for Distributed {
    fn default() -> Self {
        Self { mode: Mode::Auto, shard_ranks: None, reduce: Reduction::Fp32, timeout: Time(Duration::from_mins(10)) }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self { kind: DeviceKind::Auto, precision: Precision::Auto, cuda_graphs: false, memory: None, threads: None }
    }
}

fn yes() -> bool {
    true
}

fn auto() -> String {
    "auto".to_owned()
}

fn held_out() -> Share {
    Share(0.01)
}

fn no_part() -> Part {
    Part::Steps(0)
}
