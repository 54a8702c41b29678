//! One optimizer step: forward and backward over its micro-batches, then the update.
//!
//! B rows of a micro-batch, T tokens a row, N = B x T, S sources.

use tch::{Kind, TchError, Tensor};

use super::graphs::Graphs;
use crate::corpus::batch::Batch;
use crate::ffi;
use crate::model::batch::TokenBatch;
use crate::model::decoder::Decoder;
use crate::model::loss::LossOutput;
use crate::model::parameters::Parameters;
use crate::optim::adamw::AdamW;

/// A model with its optimizer.
#[derive(Debug)]
pub struct Engine {
    /// The weights, in the precision that computes.
    pub parameters: Parameters,
    /// The model over them.
    pub decoder: Decoder,
    /// Moments and master weights.
    pub optimizer: AdamW,
    z_loss: f64,
    /// fp32 sums of the gradients, where those of several micro-batches would be added in less.
    sums: Vec<Tensor>,
    /// Where micro-batches are recorded.
    graphs: Option<Graphs>,
}

/// What a micro-batch came to; on the device.
#[derive(Debug)]
pub struct Micro {
    /// Its loss, as [`LossOutput`] has it.
    sum: Tensor,
    nll: Tensor,
    /// Of every parameter.
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

/// What a step found; on the device, to be read only where it is shown.
#[derive(Debug)]
pub struct Step {
    /// Global norm of the gradients before clipping, fp32.
    pub norm: Tensor,
    /// 1 where the update was skipped because norm or loss is not finite, else 0; fp32.
    pub skipped: Tensor,
    /// `[S, 2]` fp32: of each source the weighted sum of its negative log-likelihoods, and the sum of those weights.
    pub by_source: Tensor,
}

impl Engine {
    /// Puts a model and its optimizer together.
    #[must_use]
    pub fn new(parameters: Parameters, decoder: Decoder, optimizer: AdamW, z_loss: f64) -> Self {
        Self { parameters, decoder, optimizer, z_loss, sums: Vec::new(), graphs: None }
    }

    /// The same with micro-batches recorded as CUDA graphs, for a model that computes in less than fp32 on a GPU.
    #[must_use]
    pub fn with_graphs(self) -> Self {
        Self { graphs: Some(Graphs::default()), ..self }
    }

    /// One update at learning rate `lr` by the mean loss over `trained`, the sum of all loss weights of the global batch.
    ///
    /// Returns `None`, with nothing changed, where `stopped` says so between two micro-batches.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn step(
        &mut self,
        micro: &[Batch],
        trained: f64,
        lr: f64,
        sources: usize,
        stopped: impl Fn() -> bool,
    ) -> Result<Option<Step>, TchError> {
        let device = self.parameters.device();
        let scale = if trained > 0.0 { 1.0 / trained } else { 1.0 };
        let scale = Tensor::f_full([0_i64; 0], scale, (Kind::Float, device))?;
        let summed = micro.len() > 1 && self.parameters.kind() != Kind::Float;
        let mut loss = Tensor::f_zeros([0_i64; 0], (Kind::Float, device))?;
        let mut by_source = Tensor::f_zeros([sources as i64, 2], (Kind::Float, device))?;
        let mut gradients = Vec::new();
        for (at, batch) in micro.iter().enumerate() {
            if stopped() {
                self.forget()?;
                return Ok(None);
            }
            let tokens = TokenBatch::to_device(batch, device)?;
            let found = self.micro(&tokens, &scale)?;
            loss += &found.sum;
            add_by_source(&mut by_source, &found.nll, &tokens, batch)?;
            if summed {
                self.sum_gradients(&found.gradients, at == 0)?;
            } else {
                gradients = found.gradients;
            }
        }
        let gradients = if summed { &self.sums } else { &gradients };
        let update = self.optimizer.step(gradients, &loss, lr)?;
        ffi::forget_gradients(self.parameters.tensors())?;
        Ok(Some(Step { norm: update.norm, skipped: update.skipped, by_source }))
    }

    /// Forward and backward of one micro-batch; its gradients are added to those that parameters have.
    fn micro(&mut self, tokens: &TokenBatch, scale: &Tensor) -> Result<Micro, TchError> {
        let Self { parameters, decoder, z_loss, graphs, .. } = self;
        let compute = |tokens: &TokenBatch, scale: &Tensor| {
            let LossOutput { sum, nll } = decoder.loss_and_backward(tokens, *z_loss, scale);
            let gradients = parameters.tensors().iter().map(Tensor::grad).collect();
            Micro { sum: sum.detach(), nll, gradients }
        };
        match graphs {
            Some(graphs) => graphs.run(tokens, scale, compute),
            None => Ok(compute(tokens, scale)),
        }
    }

    /// The loss of rows that are not trained on, in the same form as [`Step::by_source`].
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn evaluate(&self, batch: &Batch, sources: usize) -> Result<Tensor, TchError> {
        let device = self.parameters.device();
        let tokens = TokenBatch::to_device(batch, device)?;
        let found = self.decoder.loss(&tokens, 0.0);
        let mut by_source = Tensor::f_zeros([sources as i64, 2], (Kind::Float, device))?;
        add_by_source(&mut by_source, &found.nll, &tokens, batch)?;
        Ok(by_source)
    }

    /// Forward and backward of `batch` as a step does them, with their sums where it has `several` micro-batches, and nothing
    /// else: afterwards everything is as it was.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn rehearse(&mut self, batch: &Batch, several: bool) -> Result<(), TchError> {
        let device = self.parameters.device();
        let scale = Tensor::f_ones([0_i64; 0], (Kind::Float, device))?;
        for at in 0..if several { 2 } else { 1 } {
            let found = self.micro(&TokenBatch::to_device(batch, device)?, &scale)?;
            if several && self.parameters.kind() != Kind::Float {
                self.sum_gradients(&found.gradients, at == 0)?;
            }
        }
        self.forget()
    }

    /// Forgets the gradients of a step that was not finished.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn forget(&mut self) -> Result<(), TchError> {
        self.sums.clear();
        ffi::forget_gradients(self.parameters.tensors())
    }

    /// Adds a micro-batch's gradients to the fp32 sums.
    fn sum_gradients(&mut self, gradients: &[Tensor], first: bool) -> Result<(), TchError> {
        if self.sums.is_empty() {
            let wide = gradients.iter().map(|gradient| gradient.f_to_kind(Kind::Float));
            self.sums = wide.collect::<Result<_, _>>()?;
        } else if first {
            ffi::copy_all(&self.sums, gradients)?;
        } else {
            ffi::accumulate(&self.sums, gradients)?;
        }
        ffi::forget_gradients(self.parameters.tensors())
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
