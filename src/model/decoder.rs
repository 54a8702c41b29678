//! The decoder: embedding, layers, last norm, head.
//!
//! Everything runs on the flattened tokens of a packed batch: N tokens, C width, V vocabulary.

use tch::{Kind, TchError, Tensor};

use super::batch::TokenBatch;
use super::config::ModelConfig;
use super::layer::{Layer, take};
use super::loss::{LossOutput, linear_cross_entropy};
use super::norm::rms_norm;
use super::parameters::Parameters;
use super::rope::{Rope, Rotation};
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
    recompute_layers: bool,
}

impl Decoder {
    /// A decoder over `parameters`; with `recompute_layers` the backward pass keeps only each layer's input and computes
    /// the layer again (Chen et al. 2016, arXiv 1604.06174).
    ///
    /// # Errors
    /// Parameters that are not those of `config`.
    pub fn new(config: &ModelConfig, parameters: &Parameters, recompute_layers: bool) -> Result<Self, TchError> {
        let embedding = take(parameters, names::EMBEDDING)?;
        let head = if config.tied_embeddings { embedding.shallow_clone() } else { take(parameters, names::HEAD)? };
        Ok(Self {
            embedding,
            layers: (0..config.layers).map(|at| Layer::new(config, parameters, at)).collect::<Result<_, _>>()?,
            norm: take(parameters, names::FINAL_NORM)?,
            head,
            eps: config.norm_eps,
            rope: Rope::new(config, parameters.device()),
            recompute_layers,
        })
    }

    /// `[N, C]` hidden states after the last norm, ready for the head.
    pub fn hidden(&self, batch: &TokenBatch) -> Tensor {
        let rotation = self.rotation(batch);
        let mut x = self.embed(batch);
        for layer in &self.layers {
            x = layer.forward(&x, &batch.segments, &rotation);
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

    /// The loss, with `scale` times its gradient added to the `.grad()` of every parameter.
    pub fn loss_and_backward(&self, batch: &TokenBatch, z_loss: f64, scale: f64) -> LossOutput {
        if self.recompute_layers {
            return self.backward_by_layer(batch, z_loss, scale);
        }
        let loss = self.head_loss(&self.hidden(batch), batch, z_loss);
        (&loss.sum * scale).backward();
        loss
    }

    /// Backward with only the layers' inputs kept: the chain rule is applied one layer at a time, from the last.
    fn backward_by_layer(&self, batch: &TokenBatch, z_loss: f64, scale: f64) -> LossOutput {
        let rotation = self.rotation(batch);
        let mut inputs = Vec::with_capacity(self.layers.len());
        let last = tch::no_grad(|| {
            let mut x = self.embed(batch);
            for layer in &self.layers {
                let next = layer.forward(&x, &batch.segments, &rotation);
                inputs.push(std::mem::replace(&mut x, next));
            }
            x
        });
        let last = last.set_requires_grad(true);
        let loss = self.head_loss(&rms_norm(&last, &self.norm, self.eps), batch, z_loss);
        (&loss.sum * scale).backward();
        let mut gradient = last.grad();
        drop(last);
        for (layer, input) in self.layers.iter().rev().zip(inputs.into_iter().rev()) {
            let input = input.set_requires_grad(true);
            backward_from(&layer.forward(&input, &batch.segments, &rotation), &gradient);
            gradient = input.grad();
        }
        backward_from(&self.embed(batch), &gradient);
        loss
    }

    fn rotation(&self, batch: &TokenBatch) -> Rotation {
        self.rope.at(&batch.positions, self.embedding.kind())
    }

    fn embed(&self, batch: &TokenBatch) -> Tensor {
        Tensor::embedding(&self.embedding, &batch.tokens, -1, false, false)
    }

    fn head_loss(&self, hidden: &Tensor, batch: &TokenBatch, z_loss: f64) -> LossOutput {
        linear_cross_entropy(hidden, &self.head, &batch.targets, &batch.weights, z_loss)
    }
}

/// Backward from `output` with the gradient it was given. The sum's own value is never read, and its gradient with
/// respect to `output` is `gradient` exactly: one times it.
fn backward_from(output: &Tensor, gradient: &Tensor) {
    (output * gradient).sum(Kind::Float).backward();
}
