//! RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467).

use tch::{Kind, Tensor};

use super::twins::{Size, Twin};
use crate::ffi;

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension; statistics in fp32, the result as `x`.
///
/// `x` is `[N, C]` or `[N, H, D]`, `weight` is `[C]` or `[D]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    if ffi::takes(x)
        && let Some(y) = ffi::fused("rms_norm", ffi::rms_norm(x, weight, eps))
    {
        return y;
    }
    plain(x, weight, eps)
}

/// `x + delta`, and its RMSNorm; all `[N, C]`.
pub fn add_rms_norm(x: &Tensor, delta: &Tensor, weight: &Tensor, eps: f64) -> (Tensor, Tensor) {
    if ffi::takes(x)
        && let Some(both) = ffi::fused("add_rms_norm", ffi::add_rms_norm(x, delta, weight, eps))
    {
        return both;
    }
    let sum = x + delta;
    let y = plain(&sum, weight, eps);
    (sum, y)
}

/// What the fused function computes, by libtorch's operations.
pub(super) fn plain(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let (kind, wide) = (x.kind(), at_least_fp32(x));
    let scale = (wide.square().mean_dim([-1_i64].as_slice(), true, wide.kind()) + eps).rsqrt(); // [N, 1]
    (wide * scale).to_kind(kind) * weight
}

/// `x` in fp32; in fp64 where it is that.
fn at_least_fp32(x: &Tensor) -> Tensor {
    if x.kind() == Kind::Double { x.shallow_clone() } else { x.to_kind(Kind::Float) }
}

/// The functions above beside their twins.
pub(super) fn twins(size: &Size) -> Vec<Twin> {
    const EPS: f64 = 1e-5;
    let Size { width, heads, head, .. } = *size;
    let n = size.tokens();
    let rows = |name, shape: &[i64], weight: &[i64]| {
        let fused = |x: &[Tensor]| Ok(vec![ffi::rms_norm(&x[0], &x[1], EPS)?]);
        let moved = 5 * shape.iter().product::<i64>();
        Twin::new(name, &[shape, weight], fused, |x| vec![plain(&x[0], &x[1], EPS)]).moving(moved)
    };
    let added = Twin::new(
        "add_rms_norm",
        &[&[n, width], &[n, width], &[width]],
        |x| ffi::add_rms_norm(&x[0], &x[1], &x[2], EPS).map(|(sum, y)| vec![sum, y]),
        |x| {
            let sum = &x[0] + &x[1];
            let y = plain(&sum, &x[2], EPS);
            vec![sum, y]
        },
    );
    vec![
        rows("rms_norm", &[n, width], &[width]),
        rows("rms_norm of heads", &[n, heads, head], &[head]),
        added.moving(8 * n * width),
    ]
}
