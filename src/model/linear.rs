//! Linear layers, alone and with the RMSNorm or SwiGLU before them, so that the backward pass may make their input again
//! instead of finding it kept.
//!
//! N tokens.

use std::array;

use tch::Tensor;

use super::mlp::{self, swiglu};
use super::norm::{self, add_rms_norm, rms_norm};
use super::twins::{Size, Twin};
use crate::ffi;

/// A matrix `[out, in]`, perhaps with a bias `[out]`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
}

impl Linear {
    /// `[N, in]` to `[N, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        linear(x, &self.weight, self.bias.as_ref())
    }
}

/// `x` `[N, in]` times `weight` `[out, in]`, plus `bias` `[out]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if ffi::takes(x)
        && let Some(y) = ffi::fused("linear", ffi::linear(x, weight, bias))
    {
        return y;
    }
    x.linear(weight, bias)
}

/// RMSNorm of `x` `[N, in]`, or of `x + delta`, through each of `layers`; and what was normed.
pub(super) fn norm_linear<const W: usize>(
    x: &Tensor,
    delta: Option<&Tensor>,
    norm: &Tensor,
    eps: f64,
    layers: [&Linear; W],
    keep: bool,
) -> ([Tensor; W], Tensor) {
    let weights = layers.map(|layer| (&layer.weight, layer.bias.as_ref()));
    if ffi::takes(x)
        && let Some((ys, sum)) = ffi::fused("norm_linear", ffi::norm_linear(x, delta, norm, eps, weights, keep))
    {
        return (ys, sum.unwrap_or_else(|| x.shallow_clone()));
    }
    let (sum, normed) = match delta {
        Some(delta) => add_rms_norm(x, delta, norm, eps),
        None => (x.shallow_clone(), rms_norm(x, norm, eps)),
    };
    (array::from_fn(|at| layers[at].forward(&normed)), sum)
}

/// `silu(gate) * up` `[N, in]` through `layer`.
pub(super) fn swiglu_linear(gate: &Tensor, up: &Tensor, layer: &Linear, keep: bool) -> Tensor {
    if ffi::takes(gate) {
        let y = ffi::swiglu_linear(gate, up, &layer.weight, layer.bias.as_ref(), keep);
        if let Some(y) = ffi::fused("swiglu_linear", y) {
            return y;
        }
    }
    layer.forward(&swiglu(gate, up))
}

/// The functions above beside their twins.
pub(super) fn twins(size: &Size) -> Vec<Twin> {
    const EPS: f64 = 1e-5;
    let Size { width, inner, .. } = *size;
    let n = size.tokens();
    let product = Twin::new(
        "linear",
        &[&[n, width], &[inner, width], &[inner]],
        |x| Ok(vec![ffi::linear(&x[0], &x[1], Some(&x[2]))?]),
        |x| vec![x[0].linear(&x[1], Some(&x[2]))],
    );
    // Two weights, of which the second has a bias, and a delta.
    let shapes: [&[i64]; 6] = [&[n, width], &[width], &[inner, width], &[width, width], &[width], &[n, width]];
    let of_norm = |name, keep: bool| {
        let fused = move |x: &[Tensor]| {
            let weights = [(&x[2], None), (&x[3], Some(&x[4]))];
            let (ys, sum) = ffi::norm_linear(&x[0], Some(&x[5]), &x[1], EPS, weights, keep)?;
            Ok(ys.into_iter().chain(sum).collect())
        };
        Twin::new(name, &shapes, fused, |x| {
            let sum = &x[0] + &x[5];
            let normed = norm::plain(&sum, &x[1], EPS);
            vec![normed.linear(&x[2], None::<Tensor>), normed.linear(&x[3], Some(&x[4])), sum]
        })
    };
    let of_swiglu = |name, keep: bool| {
        Twin::new(
            name,
            &[&[n, inner], &[n, inner], &[width, inner], &[width]],
            move |x| Ok(vec![ffi::swiglu_linear(&x[0], &x[1], &x[2], Some(&x[3]), keep)?]),
            |x| vec![mlp::plain(&x[0], &x[1]).linear(&x[2], Some(&x[3]))],
        )
    };
    vec![
        product,
        of_norm("norm_linear", true),
        of_norm("norm_linear, recomputed", false),
        of_swiglu("swiglu_linear", true),
        of_swiglu("swiglu_linear, recomputed", false),
    ]
}
