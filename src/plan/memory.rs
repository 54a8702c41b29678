//! What a run takes in memory on its device, and on disk: an estimate from the shapes alone.
//!
//! P parameters; N tokens computed at once; L layers, C width, F MLP width, Q = H x D and K = KV heads x D, V vocabulary; w
//! bytes of an element in the forward pass (2 in bf16, 4 in fp32).
//!
//! Activations are counted as Korthikanti et al. 2022 do (arXiv 2205.05198, section 4.1), for the operations of
//! `model::layer`: what automatic differentiation keeps of each until the backward pass.

use crate::hf::names;
use crate::model::config::ModelConfig;

use super::{Arithmetic, Plan};

/// Elements of logits held at once by `model::loss`.
const LOGITS: u64 = 1 << 24;

/// Bytes by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// w P: the weights that forward and backward read.
    pub weights: u64,
    /// 4 P: fp32 master weights; none in fp32, where the weights are the masters.
    pub masters: u64,
    /// 8 P: AdamW's two moments in fp32.
    pub moments: u64,
    /// w P: gradients; and in bf16 4 P, in which they are summed and given to the optimizer.
    pub gradients: u64,
    /// What the backward pass needs of the forward pass, see [`activations`].
    pub activations: u64,
    /// The loss: R x V logits, R x V of their gradient, and the head's gradient. R x V is 2^24.
    pub loss: u64,
}

impl Memory {
    /// All parts together. The allocator and the libraries add to it, some hundred megabytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.masters + self.moments + self.gradients + self.activations + self.loss
    }
}

/// Bytes of an element in forward and backward.
fn width(arithmetic: Arithmetic) -> u64 {
    match arithmetic {
        Arithmetic::Bf16 => 2,
        Arithmetic::Fp32 => 4,
    }
}

/// The memory a plan takes.
#[must_use]
pub fn estimate(plan: &Plan) -> Memory {
    let config = &plan.model.config;
    let (parameters, w) = (names::total(config), width(plan.device.arithmetic));
    let reduced = plan.device.arithmetic == Arithmetic::Bf16;
    let tokens = plan.batch.micro_rows * plan.data.sequence_length as u64;
    let (c, v) = (config.hidden_size as u64, config.vocab_size as u64);
    let chunk = LOGITS.max(v).min(tokens * v);
    Memory {
        weights: w * parameters,
        masters: if reduced { 4 * parameters } else { 0 },
        moments: 8 * parameters,
        gradients: (w + if reduced { 4 } else { 0 }) * parameters,
        activations: activations(config, tokens, plan.device.arithmetic, plan.model.recompute_layers),
        // Logits and probabilities in fp32; in bf16 both besides in bf16. The head's gradient and a chunk's share of it.
        loss: chunk * if reduced { 12 } else { 8 } + 2 * w * v * c,
    }
}

/// Bytes of activations of N tokens.
///
/// A token keeps in each layer:
///
/// | of | bytes |
/// |---|---|
/// | each of two norms: input in fp32, input over its root mean square, output | (4 + 2 w) C |
/// | attention: queries, keys and values as rotated, output, one fp32 statistic a head | w (2 Q + 2 K) + 4 H |
/// | norms of queries and keys, where there are any | (4 + w) (Q + K) |
/// | MLP: gate, its silu, up, and their product | 4 w F |
///
/// and after the last layer one norm and the gradient that the loss hands back, w C. Where layers are recomputed, each
/// keeps its input, w C, and one at a time the above.
#[must_use]
pub fn activations(config: &ModelConfig, tokens: u64, arithmetic: Arithmetic, recompute: bool) -> u64 {
    let w = width(arithmetic);
    let [c, f, h, k, d] =
        [config.hidden_size, config.intermediate_size, config.heads, config.kv_heads, config.head_dim]
            .map(|n| n as u64);
    let (q, k, layers) = (h * d, k * d, config.layers as u64);
    let norm = (4 + 2 * w) * c;
    let qk_norm = if config.qk_norm { (4 + w) * (q + k) } else { 0 };
    let layer = 2 * norm + w * (2 * q + 2 * k) + 4 * h + qk_norm + 4 * w * f;
    let kept = if recompute { layers * w * c + layer } else { layers * layer };
    tokens * (kept + norm + w * c)
}

/// Bytes of one checkpoint: the weights, the fp32 masters where those are others, and two moments.
#[must_use]
pub fn checkpoint(plan: &Plan) -> u64 {
    let memory = estimate(plan);
    memory.weights + memory.masters + memory.moments
}
