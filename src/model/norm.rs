//! RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467).

use tch::{Kind, Tensor};

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension; statistics in fp32, the result as `x`.
///
/// `x` is `[N, C]` or `[N, H, D]`, `weight` is `[C]` or `[D]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let kind = x.kind();
    let wide = x.to_kind(Kind::Float);
    let scale = (wide.square().mean_dim([-1_i64].as_slice(), true, Kind::Float) + eps).rsqrt(); // [N, 1]
    (wide * scale).to_kind(kind) * weight
}
