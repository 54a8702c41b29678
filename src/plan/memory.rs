//! What a run takes in memory on its device, and on disk: an estimate from the shapes alone.
//!
//! P parameters; N tokens computed at once; L layers, C width, F MLP width, Q = H x D and K = KV heads x D, V vocabulary; w
//! bytes of an element in the forward pass (2 in bf16, 4 in fp32).
//!
//! Activations are counted as Korthikanti et al. 2022 do (arXiv 2205.05198, section 4.1), for the functions of `model`: what
//! each keeps for the backward pass.

use crate::hf::names;
use crate::model::config::{ModelConfig, Recompute};
use crate::model::loss::logits_at_once;
use crate::recipe::sections::Moments;

use super::{Arithmetic, Compute, Plan};

/// Bytes by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// w P: the weights that forward and backward read.
    pub weights: u64,
    /// 4 P: fp32 master weights; none in fp32, where the weights are the masters.
    pub masters: u64,
    /// 8 P: AdamW's two moments in fp32; 4 P in bf16.
    pub moments: u64,
    /// w P: gradients; and in bf16 4 P, in which those of several micro-batches are summed.
    pub gradients: u64,
    /// What the backward pass needs of the forward pass, see [`activations`].
    pub activations: u64,
    /// The loss: R x V logits, in whose place their gradient comes, and the head's gradient, summed in fp32 where there are
    /// more than R tokens.
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
        Arithmetic::Bf16 | Arithmetic::Fp8 => 2,
        Arithmetic::Fp32 => 4,
    }
}

/// The memory a plan takes.
#[must_use]
pub fn estimate(plan: &Plan) -> Memory {
    let config = &plan.model.config;
    let (parameters, w) = (names::total(config), width(plan.device.arithmetic));
    let reduced = plan.device.arithmetic != Arithmetic::Fp32;
    let moments = match plan.optimizer.moments {
        Moments::Fp32 => 8,
        Moments::Bf16 => 4,
    };
    let summed = reduced && plan.batch.rows > plan.batch.micro_rows;
    let tokens = plan.batch.micro_rows * plan.data.sequence_length as u64;
    let (c, v) = (config.hidden_size as u64, config.vocab_size as u64);
    let chunk = (logits_at_once(matches!(plan.device.compute, Compute::Cuda(_))) / v).max(1).min(tokens);
    let head = if tokens > chunk && reduced { 4 + w } else { w };
    Memory {
        weights: w * parameters,
        masters: if reduced { 4 * parameters } else { 0 },
        moments: moments * parameters,
        gradients: (w + if summed { 4 } else { 0 }) * parameters,
        activations: activations(config, tokens, plan.device.arithmetic, plan.model.recompute),
        loss: w * chunk * v + head * v * c,
    }
}

/// Bytes of activations of N tokens.
///
/// A token keeps in each layer:
///
/// | of | bytes | recomputed selectively |
/// |---|---|---|
/// | its input, and the sum with attention's output | 2 w C | 2 w C |
/// | the norms of both, and a statistic each | 2 w C + 8 | 8 |
/// | attention: queries and keys as rotated, values, output, one fp32 statistic a head | w (2 Q + 2 K) + 4 H | the same |
/// | norms of queries and keys, where there are any: their input, a statistic a head | w (Q + K) + 4 (H + KV heads) | the same |
/// | MLP: gate, up, and the product that goes down | 3 w F | 2 w F |
///
/// and after the last layer one norm, 2 w C + 4, and the gradient that the loss hands back, w C. While a layer's turn comes
/// its gradients are there too: 3 w F + 3 w C. Where layers are recomputed fully, each keeps its input, w C, and one at a
/// time the above.
#[must_use]
pub fn activations(config: &ModelConfig, tokens: u64, arithmetic: Arithmetic, recompute: Recompute) -> u64 {
    let w = width(arithmetic);
    let [c, f, h, g, d] =
        [config.hidden_size, config.intermediate_size, config.heads, config.kv_heads, config.head_dim]
            .map(|n| n as u64);
    let (q, k, layers) = (h * d, g * d, config.layers as u64);
    let qk_norm = if config.qk_norm { w * (q + k) + 4 * (h + g) } else { 0 };
    let selective = 2 * w * c + 8 + w * (2 * q + 2 * k) + 4 * h + qk_norm + 2 * w * f;
    let whole = selective + 2 * w * c + w * f;
    let kept = match recompute {
        Recompute::None => layers * whole,
        Recompute::Selective => layers * selective,
        Recompute::Full => layers * w * c + whole,
    };
    tokens * (kept + 3 * w * c + 4 + 3 * w * f + 3 * w * c)
}

/// Bytes of one checkpoint: the weights, the fp32 masters where those are others, and two moments in fp32.
#[must_use]
pub fn checkpoint(plan: &Plan) -> u64 {
    let memory = estimate(plan);
    memory.weights + memory.masters + 8 * names::total(&plan.model.config)
}
