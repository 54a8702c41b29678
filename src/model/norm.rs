//! RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467).

use tch::{Kind, Tensor};

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
fn plain(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let kind = x.kind();
    let wide = x.to_kind(Kind::Float);
    let scale = (wide.square().mean_dim([-1_i64].as_slice(), true, Kind::Float) + eps).rsqrt(); // [N, 1]
    (wide * scale).to_kind(kind) * weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::twins::agree;

    const KINDS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

    #[test]
    fn the_fused_norm_is_the_plain_one_over_rows_and_heads() {
        for shape in [&[403, 91][..], &[57, 3, 64]] {
            agree(
                &KINDS,
                &[shape, &shape[shape.len() - 1..]],
                |x| vec![ffi::rms_norm(&x[0], &x[1], 1e-5).unwrap()],
                |x| vec![plain(&x[0], &x[1], 1e-5)],
            );
        }
    }

    #[test]
    fn the_fused_sum_and_norm_are_the_plain_ones() {
        let both = |(sum, y)| vec![sum, y];
        agree(
            &KINDS,
            &[&[403, 91], &[403, 91], &[91]],
            |x| both(ffi::add_rms_norm(&x[0], &x[1], &x[2], 1e-5).unwrap()),
            |x| {
                let sum = &x[0] + &x[1];
                let y = plain(&sum, &x[2], 1e-5);
                both((sum, y))
            },
        );
    }
}
