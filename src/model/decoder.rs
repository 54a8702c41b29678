//! The decoder: embedding, layers, last norm, head.
//!
//! Everything runs on the flattened tokens of a packed batch: N tokens, C width, V vocabulary.

use std::convert::Infallible;
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

/// A part of a model whose weights are used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The embedding.
    Embedding,
    /// A layer, from 0 on.
    Layer(usize),
    /// The last norm and the head.
    Head,
}

/// Moments of a pass, for whoever brings weights and takes gradients away while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The weights of a part are about to be used in the forward pass; those of the head in its backward pass too.
    Forward(Part),
    /// They have been: the backward pass asks for them again, but for the embedding's.
    Computed(Part),
    /// The weights of a layer are about to be used in the backward pass.
    Backward(Part),
    /// The gradients of a part are all there, but for those of an embedding that is the head too: they are there when the
    /// embedding's own are.
    Done(Part),
}

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
        let Ok(hidden) = self.forward(batch, &mut |_| Ok::<_, Infallible>(()));
        hidden
    }

    /// The same, with `at` told where the pass is.
    fn forward<E>(&self, batch: &TokenBatch, at: &mut impl FnMut(Moment) -> Result<(), E>) -> Result<Tensor, E> {
        let rotation = self.rotation(batch);
        at(Moment::Forward(Part::Embedding))?;
        let mut x = self.embed(batch);
        at(Moment::Computed(Part::Embedding))?;
        for (number, layer) in self.layers.iter().enumerate() {
            at(Moment::Forward(Part::Layer(number)))?;
            x = layer.forward(&x, &batch.segments, &rotation, true);
            at(Moment::Computed(Part::Layer(number)))?;
        }
        at(Moment::Forward(Part::Head))?;
        Ok(rms_norm(&x, &self.norm, self.eps))
    }

    /// `[N, V]` logits of every token. For inspection: training never holds them whole.
    pub fn logits(&self, batch: &TokenBatch) -> Tensor {
        self.hidden(batch).linear(&self.head, None::<Tensor>)
    }

    /// `[V]` logits of the batch's last token.
    pub fn last_logits(&self, batch: &TokenBatch) -> Tensor {
        self.hidden(batch).select(0, -1).linear(&self.head, None::<Tensor>)
    }

    /// The loss without its gradient, for validation, with `at` told where the pass is.
    ///
    /// # Errors
    /// Those of `at`.
    pub fn loss<E>(
        &self,
        batch: &TokenBatch,
        z_loss: f64,
        at: &mut impl FnMut(Moment) -> Result<(), E>,
    ) -> Result<LossOutput, E> {
        tch::no_grad(|| {
            let loss = self.head_loss(&self.forward(batch, at)?, batch, z_loss);
            at(Moment::Computed(Part::Head))?;
            Ok(loss)
        })
    }

    /// The loss, with `scale` (a scalar) times its gradient added to the `.grad()` of every parameter.
    ///
    /// The chain rule is applied one layer at a time, from the last. A layer that recomputes all keeps its input alone and
    /// is computed again when its turn comes (Chen et al. 2016, arXiv 1604.06174). `at` is told where the pass is.
    ///
    /// # Errors
    /// Those of `at`.
    pub fn loss_and_backward<E>(
        &self,
        batch: &TokenBatch,
        z_loss: f64,
        scale: &Tensor,
        at: &mut impl FnMut(Moment) -> Result<(), E>,
    ) -> Result<LossOutput, E> {
        let rotation = self.rotation(batch);
        at(Moment::Forward(Part::Embedding))?;
        let embedded = self.embed(batch);
        at(Moment::Computed(Part::Embedding))?;
        let mut held = Vec::with_capacity(self.layers.len());
        let mut x = embedded.detach();
        for (number, (layer, recompute)) in self.layers.iter().zip(&self.recompute).enumerate() {
            at(Moment::Forward(Part::Layer(number)))?;
            let input = x.set_requires_grad(true);
            let forward = || layer.forward(&input, &batch.segments, &rotation, *recompute == Recompute::None);
            let output = if *recompute == Recompute::Full { tch::no_grad(forward) } else { forward() };
            x = output.detach();
            held.push((input, Some(output).filter(|_| *recompute != Recompute::Full)));
            at(Moment::Computed(Part::Layer(number)))?;
        }
        at(Moment::Forward(Part::Head))?;
        let last = x.set_requires_grad(true);
        let loss = self.head_loss(&rms_norm(&last, &self.norm, self.eps), batch, z_loss);
        (&loss.sum * scale).backward();
        let mut gradient = last.grad();
        drop(last);
        at(Moment::Done(Part::Head))?;
        for ((number, layer), (input, output)) in self.layers.iter().enumerate().zip(held).rev() {
            at(Moment::Backward(Part::Layer(number)))?;
            let output = output.unwrap_or_else(|| layer.forward(&input, &batch.segments, &rotation, true));
            backward(&output, &gradient);
            gradient = input.grad();
            drop((input, output));
            at(Moment::Done(Part::Layer(number)))?;
        }
        backward(&embedded, &gradient);
        at(Moment::Done(Part::Embedding))?;
        Ok(loss)
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
