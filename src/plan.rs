//! Recipe, model, corpora and machine resolved into one plan.
//!
//! Every value here is final: nothing later has defaults. Whatever can be refused is refused while the plan is made,
//! before any tensor exists.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::config::ModelConfig;
use crate::optim::schedule::Schedule;

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
    /// Folder that holds `tokenizer.json` and its companions; copied into every checkpoint.
    pub tokenizer: PathBuf,
    /// The data.
    pub data: DataPlan,
    /// The batch.
    pub batch: BatchPlan,
    /// The stages in order.
    pub stages: Vec<StagePlan>,
    /// The optimizer.
    pub optimizer: OptimizerPlan,
    /// When and what to save.
    pub checkpoint: CheckpointPlan,
    /// When to validate, and on how much.
    pub validation: ValidationPlan,
    /// What to tell, and how often.
    pub logging: LoggingPlan,
    /// Where to compute.
    pub device: DevicePlan,
    /// The recipe with every default filled in, as YAML; stored in checkpoints.
    pub resolved_recipe: String,
}

/// The model and where its weights come from.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// Its shape.
    pub config: ModelConfig,
    /// Its weights.
    pub weights: Weights,
    /// Whether each layer's activations are recomputed in the backward pass.
    pub recompute_layers: bool,
}

/// Where a run's first weights come from.
#[derive(Clone, Debug)]
pub enum Weights {
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// A checkpoint of this trainer: its weights and optimizer moments, under a new schedule and step count.
    WithOptimizer(PathBuf),
    /// Drawn from the configuration's initializer with the run's seed.
    Fresh,
}

/// How documents become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Documents concatenated and cut every `sequence_length` tokens; nothing is lost.
    Split,
    /// Documents kept whole where they fit, placed best-fit-decreasing (Ding et al. 2024, arXiv 2404.10830).
    BestFit,
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
    /// Token written after each document that does not end with it already; `None` to add nothing.
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
    /// Share of its documents' tokens held out for validation, 0 to 1.
    pub held_out: f64,
    /// Times it may be repeated over the whole run, if capped.
    pub max_epochs: Option<f64>,
}

/// Sequences a step and how they are computed.
#[derive(Clone, Copy, Debug)]
pub struct BatchPlan {
    /// Rows a step, over all ranks.
    pub rows: u64,
    /// Rows computed at once.
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

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct OptimizerPlan {
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay, not applied to norms and biases.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
    /// Weight of the squared log-partition (PaLM, arXiv 2204.02311, section 5); 0 turns it off.
    pub z_loss: f64,
    /// Skipped steps in a row after which the run stops.
    pub max_skipped: u32,
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interval {
    /// Every so many optimizer steps.
    Steps(u64),
    /// After so much time.
    Time(Duration),
}

/// When and what to save.
#[derive(Clone, Debug)]
pub struct CheckpointPlan {
    /// How often; the last step is always saved.
    pub every: Interval,
    /// How many of the newest to keep.
    pub keep_last: usize,
    /// Keep every checkpoint whose step is a multiple of this.
    pub keep_every: Option<u64>,
}

/// When to validate.
#[derive(Clone, Copy, Debug)]
pub struct ValidationPlan {
    /// Every so many steps; `None` for never between start and end.
    pub every: Option<u64>,
    /// At most so many rows a source.
    pub rows: u64,
    /// Whether to validate before the first step.
    pub at_start: bool,
}

/// What to tell.
#[derive(Clone, Copy, Debug)]
pub struct LoggingPlan {
    /// A console line every so many steps.
    pub every: u64,
    /// Whether to write TensorBoard events.
    pub tensorboard: bool,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// A CUDA device, by index.
    Cuda(usize),
}

/// Arithmetic of forward and backward; master weights and moments are fp32 in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// bfloat16 compute.
    Bf16,
    /// float32 throughout.
    Fp32,
}

/// Where and how to compute.
#[derive(Clone, Copy, Debug)]
pub struct DevicePlan {
    /// The device.
    pub kind: DeviceKind,
    /// The arithmetic.
    pub precision: Precision,
    /// CPU threads for libtorch; `None` leaves its default.
    pub threads: Option<usize>,
}
