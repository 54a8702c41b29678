//! One optimizer step: forward and backward over its micro-batches, then the update.
//!
//! B rows of a micro-batch, T tokens a row, N = B x T, S sources.

use std::convert::Infallible;

use tch::{Kind, TchError, Tensor};

use super::graphs::Graphs;
use crate::corpus::batch::Batch;
use crate::distributed::sharding::{Sharding, StepError, Turn};
use crate::ffi;
use crate::model::batch::TokenBatch;
use crate::model::decoder::Decoder;
use crate::model::loss::LossOutput;
use crate::model::parameters::Parameters;
use crate::optim::adamw::AdamW;

/// A model with its optimizer, or a rank's share of both.
#[derive(Debug)]
pub struct Engine {
    /// The weights, in the precision that computes; all there only where they are not sharded.
    pub parameters: Parameters,
    /// The model over them.
    pub decoder: Decoder,
    /// Moments and master weights.
    pub optimizer: AdamW,
    /// What of them this rank holds, and how gradients become one.
    pub sharding: Sharding,
    z_loss: f64,
    /// Where micro-batches are recorded.
    graphs: Option<Graphs>,
}

/// What a micro-batch came to; on the device.
#[derive(Debug)]
pub struct Micro {
    /// Its loss, as [`LossOutput`] has it.
    sum: Tensor,
    nll: Tensor,
    /// Of every parameter, where they were not taken while the backward pass went on.
    gradients: Vec<Tensor>,
}

impl Micro {
    pub(super) fn shallow_clone(&self) -> Self {
        Self {
            sum: self.sum.shallow_clone(),
            nll: self.nll.shallow_clone(),
            gradients: self.gradients.iter().map(Tensor::shallow_clone).collect(),
        }
    }
}

/// What a step found over all ranks; on the device, to be read only where it is shown.
#[derive(Debug)]
pub struct Step {
    /// Global norm of the gradients before clipping, fp32.
    pub norm: Tensor,
    /// 1 where the update was skipped because norm or loss is not finite, else 0; fp32.
    pub skipped: Tensor,
    /// `[S, 2]` fp32: of each source the weighted sum of its negative log-likelihoods, and the sum of those weights.
    pub by_source: Tensor,
    /// Bytes that this rank has sent to others, where there are any; see [`Link`](crate::distributed::sharding::link::Link).
    pub sent: Option<u64>,
}

impl Engine {
    /// Puts a model, its optimizer and what ranks share of them together.
    #[must_use]
    pub fn new(parameters: Parameters, decoder: Decoder, optimizer: AdamW, sharding: Sharding, z_loss: f64) -> Self {
        Self { parameters, decoder, optimizer, sharding, z_loss, graphs: None }
    }

    /// The same with micro-batches recorded as CUDA graphs, for a model that computes in less than fp32 on a GPU.
    #[must_use]
    pub fn with_graphs(self) -> Self {
        Self { graphs: Some(Graphs::default()), ..self }
    }

    /// One update at learning rate `lr` by the mean loss over `trained`, the sum of all loss weights of the global batch;
    /// `micro` are this rank's micro-batches, as many as every rank has.
    ///
    /// Returns `None`, with nothing changed, where `stopped` says so between two micro-batches, which with several ranks it
    /// never may.
    ///
    /// # Errors
    /// Another rank that failed, or whatever libtorch refuses, such as more memory than there is.
    pub fn step(
        &mut self,
        micro: &[Batch],
        trained: f64,
        lr: f64,
        sources: usize,
        stopped: impl Fn() -> bool,
    ) -> Result<Option<Step>, StepError> {
        let device = self.parameters.device();
        // Weights gathered for something else do not count.
        self.sharding.take_sent();
        let scale = if trained > 0.0 { 1.0 / trained } else { 1.0 };
        let scale = Tensor::f_full([0_i64; 0], scale, (Kind::Float, device))?;
        let mut loss = Tensor::f_zeros([0_i64; 0], (Kind::Float, device))?;
        let mut by_source = Tensor::f_zeros([sources as i64, 2], (Kind::Float, device))?;
        for (at, batch) in micro.iter().enumerate() {
            if stopped() {
                self.forget()?;
                return Ok(None);
            }
            let tokens = TokenBatch::to_device(batch, device)?;
            let turn = Turn { first: at == 0, last: at + 1 == micro.len() };
            let found = self.micro(&tokens, &scale, turn)?;
            loss += &found.sum;
            add_by_source(&mut by_source, &found.nll, &tokens, batch)?;
        }
        let gradients = self.sharding.gradients()?;
        let norm = self.optimizer.norm(&gradients)?;
        let (norm, [loss, by_source]) = self.sharding.over_all(norm, [loss, by_source])?;
        let update = self.optimizer.update(&gradients, norm, &loss, lr)?;
        drop(gradients);
        self.sharding.updated()?;
        Ok(Some(Step { norm: update.norm, skipped: update.skipped, by_source, sent: self.sharding.take_sent() }))
    }

    /// Forward and backward of one micro-batch, whose gradients are added to those of the step.
    fn micro(&mut self, tokens: &TokenBatch, scale: &Tensor, turn: Turn) -> Result<Micro, StepError> {
        let Self { parameters, decoder, sharding, z_loss, graphs, .. } = self;
        let Some(graphs) = graphs else {
            let at = &mut |moment| sharding.at(moment, Some(turn));
            let LossOutput { sum, nll } = decoder.loss_and_backward(tokens, *z_loss, scale, at)?;
            return Ok(Micro { sum: sum.detach(), nll, gradients: Vec::new() });
        };
        sharding.settle()?;
        let found = graphs.run(tokens, scale, |tokens, scale| {
            let at = &mut |_| Ok::<_, Infallible>(());
            let Ok(LossOutput { sum, nll }) = decoder.loss_and_backward(tokens, *z_loss, scale, at);
            let gradients = parameters.tensors().iter().map(Tensor::grad).collect();
            Micro { sum: sum.detach(), nll, gradients }
        })?;
        ffi::forget_gradients(parameters.tensors())?;
        sharding.take(&found.gradients, turn)?;
        Ok(found)
    }

    /// The loss of rows that are not trained on, in the same form as [`Step::by_source`], of this rank's rows alone.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn evaluate(&mut self, batch: &Batch, sources: usize) -> Result<Tensor, StepError> {
        let device = self.parameters.device();
        let tokens = TokenBatch::to_device(batch, device)?;
        let Self { decoder, sharding, .. } = self;
        let found = decoder.loss(&tokens, 0.0, &mut |moment| sharding.at(moment, None))?;
        let mut by_source = Tensor::f_zeros([sources as i64, 2], (Kind::Float, device))?;
        add_by_source(&mut by_source, &found.nll, &tokens, batch)?;
        Ok(by_source)
    }

    /// Forward and backward of `batch` as a step does them, with their sums where it has `several` micro-batches, and nothing
    /// else: afterwards everything is as it was. Other ranks have no part in it.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn rehearse(&mut self, batch: &Batch, several: bool) -> Result<(), StepError> {
        let device = self.parameters.device();
        self.sharding.settle()?;
        self.sharding.set_silent(true);
        let mut rehearse = || {
            let scale = Tensor::f_ones([0_i64; 0], (Kind::Float, device))?;
            for first in if several { [true, false].as_slice() } else { &[true] } {
                let turn = Turn { first: *first, last: !*first || !several };
                self.micro(&TokenBatch::to_device(batch, device)?, &scale, turn)?;
            }
            self.sharding.gradients().map(drop)
        };
        let rehearsed = rehearse();
        self.sharding.set_silent(false);
        rehearsed?;
        Ok(self.forget()?)
    }

    /// Forgets the gradients of a step that was not finished.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn forget(&mut self) -> Result<(), TchError> {
        self.sharding.forget()
    }
}

/// Adds a micro-batch's losses to those of the sources its rows came from.
fn add_by_source(by_source: &mut Tensor, nll: &Tensor, tokens: &TokenBatch, batch: &Batch) -> Result<(), TchError> {
    let rows =
        |x: &Tensor| x.f_view([batch.rows as i64, batch.length as i64])?.f_sum_dim_intlist(1, false, Kind::Float);
    let sums = Tensor::f_stack(&[rows(&(nll * &tokens.weights))?, rows(&tokens.weights)?], 1)?; // [B, 2]
    *by_source = by_source.f_index_add(0, &tokens.sources, &sums)?;
    Ok(())
}
