//! The decoder: embedding, layers, last norm, head.
//!
//! Everything runs on the flattened tokens of a packed batch: N tokens, C width, V vocabulary.

use std::slice;

use tch::{TchError, Tensor};

use super::batch::TokenBatch;
use super::config::{ModelConfig, Recompute};
use super::layer::{Layer, take};
use super::loss::{LossOutput, linear_cross_entropy, rows_at_once};
use super::norm::rms_norm;
use super::parameters::Parameters;
use super::rope::{Rope, Rotation};
use crate::ffi;
use crate::hf::names;

/// A decoder over parameters that it shares with their owner.
#[derive(Debug)]
pub struct Decoder {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
    eps: f64,
    rope: Rope,
    /// Of each layer.
    recompute: Vec<Recompute>,
    /// Rows whose logits are held at once.
    loss_rows: i64,
}

impl Decoder {
    /// A decoder over `parameters`, every layer of which keeps for the backward pass what `recompute` leaves.
    ///
    /// # Errors
    /// Parameters that are not those of `config`.
    pub fn new(config: &ModelConfig, parameters: &Parameters, recompute: Recompute) -> Result<Self, TchError> {
        let embedding = take(parameters, names::EMBEDDING)?;
        let head = if config.tied_embeddings { embedding.shallow_clone() } else { take(parameters, names::HEAD)? };
        Ok(Self {
            embedding,
            layers: (0..config.layers).map(|at| Layer::new(config, parameters, at)).collect::<Result<_, _>>()?,
            norm: take(parameters, names::FINAL_NORM)?,
            head,
            eps: config.norm_eps,
            rope: Rope::new(config, parameters.device()),
            recompute: vec![recompute; config.layers],
            loss_rows: {
                let gpu = parameters.device().is_cuda().then_some(0);
                rows_at_once(gpu, config.vocab_size as u64, parameters.kind().elt_size_in_bytes() as u64) as i64
            },
        })
    }

    /// The same decoder with what each layer recomputes, from the first on.
    #[must_use]
    pub fn with_recompute(mut self, layers: &[Recompute]) -> Self {
        self.set_recompute(layers);
        self
    }

    /// Sets what each layer recomputes, from the first on.
    pub fn set_recompute(&mut self, layers: &[Recompute]) {
        self.recompute.iter_mut().zip(layers).for_each(|(mine, recompute)| *mine = *recompute);
    }

    /// The same decoder with the logits of so many rows held at once.
    #[must_use]
    pub fn with_loss_rows(self, rows: u64) -> Self {
        Self { loss_rows: rows as i64, ..self }
    }

    /// The same decoder with segments of one length `batched` for attention on a GPU, or packed as all others are.
    #[must_use]
    pub fn with_attention(mut self, batched: bool) -> Self {
        self.layers.iter_mut().for_each(|layer| layer.batched = batched);
        self
    }

    /// The same decoder with the products of its layers in FP8, or in the type of its weights. Embedding and head stay as
    /// they are, as is usual: the loss depends on them most.
    #[must_use]
    pub fn with_fp8(mut self, fp8: bool) -> Self {
        self.set_fp8(fp8);
        self
    }

    /// Sets whether the products of layers are in FP8.
    pub fn set_fp8(&mut self, fp8: bool) {
        self.layers.iter_mut().for_each(|layer| layer.set_fp8(fp8));
    }

    /// `[N, C]` hidden states after the last norm, ready for the head.
    pub fn hidden(&self, batch: &TokenBatch) -> Tensor {
        let rotation = self.rotation(batch);
        let mut x = self.embed(batch);
        for layer in &self.layers {
            x = layer.forward(&x, &batch.segments, &rotation, true);
        }
        rms_norm(&x, &self.norm, self.eps)
    }

    /// `[N, V]` logits of every token. For inspection: training never holds them whole.
    pub fn logits(&self, batch: &TokenBatch) -> Tensor {
        self.hidden(batch).linear(&self.head, None::<Tensor>)
    }

    /// `[V]` logits of the batch's last token.
    pub fn last_logits(&self, batch: &TokenBatch) -> Tensor {
        self.hidden(batch).select(0, -1).linear(&self.head, None::<Tensor>)
    }

    /// The loss without its gradient, for validation.
    pub fn loss(&self, batch: &TokenBatch, z_loss: f64) -> LossOutput {
        tch::no_grad(|| self.head_loss(&self.hidden(batch), batch, z_loss))
    }

    /// The loss, with `scale` (a scalar) times its gradient added to the `.grad()` of every parameter.
    ///
    /// The chain rule is applied one layer at a time, from the last. A layer that recomputes all keeps its input alone and
    /// is computed again when its turn comes (Chen et al. 2016, arXiv 1604.06174).
    pub fn loss_and_backward(&self, batch: &TokenBatch, z_loss: f64, scale: &Tensor) -> LossOutput {
        let rotation = self.rotation(batch);
        let embedded = self.embed(batch);
        let mut held = Vec::with_capacity(self.layers.len());
        let mut x = embedded.detach();
        for (layer, recompute) in self.layers.iter().zip(&self.recompute) {
            let input = x.set_requires_grad(true);
            let forward = || layer.forward(&input, &batch.segments, &rotation, *recompute == Recompute::None);
            let output = if *recompute == Recompute::Full { tch::no_grad(forward) } else { forward() };
            x = output.detach();
            held.push((input, Some(output).filter(|_| *recompute != Recompute::Full)));
        }
        let last = x.set_requires_grad(true);
        let loss = self.head_loss(&rms_norm(&last, &self.norm, self.eps), batch, z_loss);
        (&loss.sum * scale).backward();
        let mut gradient = last.grad();
        drop(last);
        for (layer, (input, output)) in self.layers.iter().zip(held).rev() {
            let output = output.unwrap_or_else(|| layer.forward(&input, &batch.segments, &rotation, true));
            backward(&output, &gradient);
            gradient = input.grad();
        }
        backward(&embedded, &gradient);
        loss
    }

    fn rotation(&self, batch: &TokenBatch) -> Rotation {
        self.rope.at(&batch.positions, self.embedding.kind())
    }

    fn embed(&self, batch: &TokenBatch) -> Tensor {
        Tensor::embedding(&self.embedding, &batch.tokens, -1, false, false)
    }

    fn head_loss(&self, hidden: &Tensor, batch: &TokenBatch, z_loss: f64) -> LossOutput {
        linear_cross_entropy(hidden, &self.head, &batch.targets, &batch.weights, z_loss, self.loss_rows)
    }
}

/// Backward from `output` with the gradient it was given.
///
/// # Panics
/// Where libtorch throws, as its operations in the forward pass do: such as more memory than there is.
fn backward(output: &Tensor, gradient: &Tensor) {
    ffi::backward(slice::from_ref(output), slice::from_ref(gradient)).unwrap();
}
