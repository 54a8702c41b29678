//! Next-token cross-entropy straight from hidden states, without ever holding all logits.
//!
//! N tokens, R tokens of one chunk, C width, V vocabulary. For each chunk the logits are computed, turned into the loss
//! and at once into gradients with respect to hidden states and head, and dropped: memory is R x V, not N x V.

use tch::{Kind, Tensor};

use super::linear::product;
use super::twins::{Size, Twin};
use crate::ffi;

/// R: rows of V logits of so many bytes each that are held at once, in whole tiles of a product where there is room for one.
///
/// For each chunk the fp32 sum of the head's gradient is read and written once, which fewer and larger ones spare; so a GPU
/// of `gpu` bytes holds a 256th of them, at least 64 and at most 512 MiB, and one of unknown memory, `Some(0)`, 256 MiB. On a
/// CPU, `None`, what its caches still see.
#[must_use]
pub fn rows_at_once(gpu: Option<u64>, vocabulary: u64, bytes: u64) -> u64 {
    const TILE: u64 = 128;
    const MIB: u64 = 1 << 20;
    let logits = match gpu {
        None => 32 * MIB,
        Some(0) => 256 * MIB / bytes,
        Some(memory) => (memory / 256).clamp(64 * MIB, 512 * MIB) / bytes,
    };
    let rows = logits / vocabulary.max(1);
    if rows > TILE { rows / TILE * TILE } else { rows.max(1) }
}

/// A batch's loss.
#[derive(Debug)]
pub struct LossOutput {
    /// Weighted sum over tokens, z-loss included: an fp32 scalar that backward starts from.
    pub sum: Tensor,
    /// `[N]` fp32 negative log-likelihood of each target, unweighted, without gradient; 0 where there is no target.
    pub nll: Tensor,
}

/// `sum over n of weight_n * (nll_n + z_loss * log(Z_n)^2)`, `Z_n` the partition function (PaLM, arXiv 2204.02311,
/// section 5).
///
/// `hidden` `[N, C]`, `head` `[V, C]`, `targets` `[N]` i64 (negative for none), `weights` `[N]` f32 (0 where there is no
/// target), `rows` R. Softmax and sums are in fp32 whatever the inputs are. Gradients are only computed where `hidden` asks
/// for them.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    z_loss: f64,
    rows: i64,
) -> LossOutput {
    let learn = hidden.requires_grad();
    let (h, w) = (hidden.detach(), head.detach());
    let (mut sums, mut nlls, mut hidden_grads, mut head_grad) = (Vec::new(), Vec::new(), Vec::new(), None);
    let chunks = h.split(rows, 0).into_iter().zip(targets.split(rows, 0)).zip(weights.split(rows, 0));
    for ((h, targets), weights) in chunks {
        let Chunk { log_z, nll, gradient } = cross_entropy(product(&h, &w), &targets, &weights, z_loss, learn);
        sums.push(((&nll + log_z.square() * z_loss) * &weights).sum(Kind::Float));
        nlls.push(nll);
        if learn {
            hidden_grads.push(product(&gradient, &w.tr())); // [R, C]
            head_grad = Some(add_product(head_grad, &gradient.tr(), &h)); // [V, C]
        }
    }
    let sum = Tensor::stack(&sums, 0).sum(Kind::Float);
    let sum = match head_grad {
        None => sum,
        Some(head_grad) => {
            let sum = with_gradient(&sum, hidden, &Tensor::cat(&hidden_grads, 0));
            with_gradient(&sum, head, &head_grad.to_kind(head.kind()))
        }
    };
    LossOutput { sum, nll: Tensor::cat(&nlls, 0) }
}

/// What comes of R tokens.
struct Chunk {
    /// `[R]` fp32.
    log_z: Tensor,
    /// `[R]` fp32.
    nll: Tensor,
    /// `[R, V]` with respect to the logits, if learned.
    gradient: Tensor,
}

/// Logits `[R, V]` into the loss and, in their place where that is possible, its gradient.
fn cross_entropy(mut logits: Tensor, targets: &Tensor, weights: &Tensor, z_loss: f64, learn: bool) -> Chunk {
    if ffi::takes(&logits)
        && let Some((log_z, nll)) =
            ffi::fused("cross_entropy", ffi::cross_entropy(&mut logits, targets, weights, z_loss, learn))
    {
        return Chunk { log_z, nll, gradient: logits };
    }
    plain(&logits, targets, weights, z_loss, learn)
}

/// What the fused function computes, by libtorch's operations.
fn plain(logits: &Tensor, targets: &Tensor, weights: &Tensor, z_loss: f64, learn: bool) -> Chunk {
    let target = targets.clamp_min(0).unsqueeze(1); // [R, 1]
    let wide = logits.to_kind(Kind::Float);
    let log_z = wide.logsumexp([1_i64].as_slice(), false); // [R]
    let nll = (&log_z - wide.gather(1, &target, false).squeeze_dim(1)) * targets.ge(0);
    if !learn {
        return Chunk { log_z, nll, gradient: wide };
    }
    // d/dlogits = weight * (softmax * (1 + 2 z log Z) - onehot), [R, V]
    let factor = (&log_z * (2.0 * z_loss) + 1.0) * weights;
    let mut gradient = (wide - log_z.unsqueeze(1)).exp_() * factor.unsqueeze(1);
    let gradient = gradient.scatter_add_(1, &target, &-weights.unsqueeze(1)).to_kind(logits.kind());
    Chunk { log_z, nll, gradient }
}

/// `sum + a b`, in fp32; the first product alone keeps its type.
fn add_product(sum: Option<Tensor>, a: &Tensor, b: &Tensor) -> Tensor {
    let Some(sum) = sum else { return a.matmul(b) };
    let mut sum = sum.to_kind(Kind::Float);
    if !ffi::fuses() || ffi::fused("add_product", ffi::add_product(&mut sum, a, b)).is_none() {
        sum += a.matmul(b);
    }
    sum
}

/// `value`, whose gradient with respect to `input` is `gradient`, for one backward.
fn with_gradient(value: &Tensor, input: &Tensor, gradient: &Tensor) -> Tensor {
    // Else a term that is zero in value and linear in the input, with two passes more over all of it.
    ffi::with_gradient(value, input, gradient)
        .unwrap_or_else(|_| value + ((input - input.detach()) * gradient).sum(Kind::Float))
}

/// The fused loss beside its twin; its gradient is one of its results.
pub(super) fn twins(size: &Size) -> Vec<Twin> {
    const Z_LOSS: f64 = 0.2;
    let vocabulary = size.vocabulary;
    let rows = size.tokens().min(rows_at_once(Some(0), vocabulary as u64, 2) as i64);
    // Some rows have no target, some a weight of a half.
    let targets = move |device| {
        let targets = Tensor::arange(rows, (Kind::Int64, device)) * 7919;
        let targets = targets.remainder(vocabulary + vocabulary / 4);
        let is_there = targets.lt(vocabulary);
        let weights = is_there.to_kind(Kind::Float) * (targets.remainder(2) + 1).to_kind(Kind::Float) * 0.5;
        (targets.where_scalarother(&is_there, -1), weights)
    };
    let fused = move |x: &[Tensor]| {
        let (targets, weights) = targets(x[0].device());
        let mut gradient = x[0].copy();
        let (log_z, nll) = ffi::cross_entropy(&mut gradient, &targets, &weights, Z_LOSS, true)?;
        Ok(vec![log_z, nll, gradient])
    };
    let twin = Twin::new("cross_entropy", &[&[rows, vocabulary]], fused, move |x| {
        let (targets, weights) = targets(x[0].device());
        let Chunk { log_z, nll, gradient } = plain(&x[0], &targets, &weights, Z_LOSS, true);
        vec![log_z, nll, gradient]
    });
    // The copy besides: two passes over what three are made of.
    vec![twin.without_gradients().moving(5 * rows * vocabulary)]
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_target_beyond_the_head_is_refused() {
        let options = (Kind::Float, Device::Cpu);
        let (targets, weights) = (Tensor::from_slice(&[7_i64]), Tensor::ones([1], options));
        let error = ffi::cross_entropy(&mut Tensor::zeros([1, 7], options), &targets, &weights, 0.0, true);
        assert!(error.unwrap_err().to_string().contains("target 7 of 7 tokens"));
    }
}
