//! Next-token cross-entropy straight from hidden states, without ever holding all logits.
//!
//! N tokens, R tokens of one chunk, C width, V vocabulary. For each chunk the logits are computed, turned into the loss
//! and at once into gradients with respect to hidden states and head, and dropped: memory is R x V, not N x V.

use tch::{Kind, Tensor};

/// Logits held at once.
const CHUNK: i64 = 1 << 24;

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
/// target). Softmax and sums are in fp32 whatever the inputs are. Gradients are only computed where `hidden` asks for them.
pub fn linear_cross_entropy(
    hidden: &Tensor,
    head: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    z_loss: f64,
) -> LossOutput {
    let learn = hidden.requires_grad();
    let rows = (CHUNK / head.size()[0]).max(1);
    let (h, w) = (hidden.detach(), head.detach());
    let mut head_grad = learn.then(|| w.zeros_like());
    let (mut sums, mut nlls, mut hidden_grads) = (Vec::new(), Vec::new(), Vec::new());
    let chunks = h.split(rows, 0).into_iter().zip(targets.split(rows, 0)).zip(weights.split(rows, 0));
    for ((h, targets), weights) in chunks {
        let target = targets.clamp_min(0).unsqueeze(1); // [R, 1]
        let logits = h.linear(&w, None::<Tensor>).to_kind(Kind::Float); // [R, V]
        let log_z = logits.logsumexp([1_i64].as_slice(), false); // [R]
        let nll = (&log_z - logits.gather(1, &target, false).squeeze_dim(1)) * targets.ge(0);
        sums.push(((&nll + log_z.square() * z_loss) * &weights).sum(Kind::Float));
        nlls.push(nll);
        if let Some(head_grad) = &mut head_grad {
            // d/dlogits = weight * (softmax * (1 + 2 z log Z) - onehot), [R, V]
            let factor = (&log_z * (2.0 * z_loss) + 1.0) * &weights;
            let mut grad = (logits - log_z.unsqueeze(1)).exp_() * factor.unsqueeze(1);
            let grad = grad.scatter_add_(1, &target, &-weights.unsqueeze(1)).to_kind(h.kind());
            hidden_grads.push(grad.matmul(&w)); // [R, C]
            *head_grad += grad.tr().matmul(&h); // [V, C]
        }
    }
    let sum = Tensor::stack(&sums, 0).sum(Kind::Float);
    let sum = match head_grad {
        None => sum,
        Some(head_grad) => with_gradient(&sum, &[(hidden, Tensor::cat(&hidden_grads, 0)), (head, head_grad)]),
    };
    LossOutput { sum, nll: Tensor::cat(&nlls, 0) }
}

/// `value`, with the given gradients: a term that is zero in value and linear in the inputs is added to it.
fn with_gradient(value: &Tensor, gradients: &[(&Tensor, Tensor)]) -> Tensor {
    gradients.iter().fold(value.shallow_clone(), |sum, (input, gradient)| {
        sum + ((*input - input.detach()) * gradient).sum(Kind::Float)
    })
}
