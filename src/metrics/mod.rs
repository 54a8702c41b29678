//! What a run tells: on the console, in `metrics.jsonl` and to TensorBoard.
//!
//! The training loop fills a [`Progress`] an interval and a [`Validation`] a validation and hands them to one
//! [`reporter::Reporter`], which writes them everywhere. `docs/metrics.md` says what each figure means. Free of libtorch.

use std::time::Duration;

mod append;
pub mod chart;
pub mod console;
pub mod curves;
pub mod jsonl;
mod kept;
pub mod memory;
pub mod reporter;
pub mod table;
pub mod tensorboard;
pub mod throughput;

/// One logging interval of training.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Optimizer steps done, over all stages.
    pub step: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Name of the stage.
    pub stage: String,
    /// Tokens trained so far, over all stages.
    pub tokens: u64,
    /// Mean loss of the interval's trained tokens, nats.
    pub loss: f64,
    /// Global norm of the last step's gradient, before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Tokens a second over the interval, of all ranks.
    pub tokens_per_second: f64,
    /// Model FLOPs utilization, 0 to 1; `None` where the peak of the device is not known.
    pub mfu: Option<f64>,
    /// Bytes: most allocated on a CUDA device, resident on the CPU.
    pub memory: u64,
    /// Bytes that rank 0 has sent to others in a step, on average; `None` where it is alone.
    pub communicated: Option<u64>,
    /// Share of the interval spent waiting for data, 0 to 1.
    pub waited: f64,
    /// Updates skipped so far because a loss or gradient was not finite.
    pub skipped: u64,
    /// Mean training loss by source over the interval, nats; a source that gave no token is left out.
    pub sources: Vec<(String, f64)>,
    /// Time left.
    pub eta: Duration,
}

/// Losses on held-out documents.
#[derive(Clone, Debug, PartialEq)]
pub struct Validation {
    /// Optimizer steps done when they were measured.
    pub step: u64,
    /// Tokens trained by then.
    pub tokens: u64,
    /// The sources, in the recipe's order.
    pub sources: Vec<SourceLoss>,
}

/// The loss on one source's held-out documents.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceLoss {
    /// Name of the source.
    pub name: String,
    /// Mean negative log-likelihood of a token, nats.
    pub loss: f64,
    /// Tokens it was measured on.
    pub tokens: u64,
}

impl SourceLoss {
    /// `exp(loss)`: how many tokens the model is as unsure as if it chose among evenly.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}
