//! Linear layers, alone and with the RMSNorm or SwiGLU before them, so that the backward pass may make their input again
//! instead of finding it kept.
//!
//! N tokens.

use std::array;

use tch::{Kind, Tensor};

use super::mlp::{self, swiglu};
use super::norm::{self, add_rms_norm, rms_norm};
use super::twins::{Size, Twin};
use crate::ffi;

/// A matrix `[out, in]`, perhaps with a bias `[out]`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    /// Whether its products are in FP8.
    pub(super) fp8: bool,
}

impl Linear {
    /// `[N, in]` to `[N, out]`.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        if ffi::takes(x)
            && let Some(y) = ffi::fused("linear", ffi::linear(x, &self.weight, self.bias.as_ref(), self.fp8))
        {
            return y;
        }
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// `x` `[N, in]` times `weight` `[out, in]`.
pub(super) fn product(x: &Tensor, weight: &Tensor) -> Tensor {
    if ffi::takes(x)
        && let Some(y) = ffi::fused("linear", ffi::linear(x, weight, None, false))
    {
        return y;
    }
    x.linear(weight, None::<Tensor>)
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
    let fp8 = layers.iter().all(|layer| layer.fp8);
    if ffi::takes(x)
        && let Some((ys, sum)) = ffi::fused("norm_linear", ffi::norm_linear(x, delta, norm, eps, weights, keep, fp8))
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
        let y = ffi::swiglu_linear(gate, up, &layer.weight, layer.bias.as_ref(), keep, layer.fp8);
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
        |x| Ok(vec![ffi::linear(&x[0], &x[1], Some(&x[2]), false)?]),
        |x| vec![x[0].linear(&x[1], Some(&x[2]))],
    );
    // Two weights, of which the second has a bias, and a delta.
    let shapes: [&[i64]; 6] = [&[n, width], &[width], &[inner, width], &[width, width], &[width], &[n, width]];
    let of_norm = |name, keep: bool| {
        let fused = move |x: &[Tensor]| {
            let weights = [(&x[2], None), (&x[3], Some(&x[4]))];
            let (ys, sum) = ffi::norm_linear(&x[0], Some(&x[5]), &x[1], EPS, weights, keep, false)?;
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
            move |x| Ok(vec![ffi::swiglu_linear(&x[0], &x[1], &x[2], Some(&x[3]), keep, false)?]),
            |x| vec![mlp::plain(&x[0], &x[1]).linear(&x[2], Some(&x[3]))],
        )
    };
    vec![
        product,
        fp8(n, width, inner),
        of_norm("norm_linear", true),
        of_norm("norm_linear, recomputed", false),
        of_swiglu("swiglu_linear", true),
        of_swiglu("swiglu_linear, recomputed", false),
    ]
}

/// The product in FP8 and both of its backward pass, given the gradient of the result. It steps, so it has no slope to be
/// compared with. Tensor cores sum activations with fewer bits than fp32 has.
fn fp8(n: i64, width: i64, inner: i64) -> Twin {
    // Multiples of 16, which tensor cores take; others are multiplied as they are.
    let [n, width, inner] = [n, width, inner].map(|size| (size / 16).max(1) * 16);
    let fused = |x: &[Tensor]| {
        let leaves = [&x[0], &x[1]].map(|x| x.detach().set_requires_grad(true));
        let y = ffi::linear(&leaves[0], &leaves[1], None, true)?;
        ffi::backward(&[y.shallow_clone()], &[x[2].detach()])?;
        let [dx, dweight] = leaves.map(|leaf| leaf.grad());
        Ok(vec![y.detach(), dx, dweight])
    };
    let plain = |x: &[Tensor]| {
        let along = |x: &Tensor| in_e4m3(x, 1);
        let across = |x: &Tensor| in_e4m3(x, 0);
        let y = along(&x[0]).matmul(&along(&x[1]).tr());
        let dx = along(&x[2]).matmul(&across(&x[1]));
        let dweight = across(&x[2]).tr().matmul(&across(&x[0]));
        vec![y, dx, dweight]
    };
    Twin::new("linear, fp8", &[&[n, width], &[inner, width], &[n, inner]], fused, plain)
        .without_gradients()
        .within(3e-2)
}

/// `x` rounded to e4m3 with, along dimension `dim`, the least power of two as a scale that keeps 448 from being exceeded.
fn in_e4m3(x: &Tensor, dim: i64) -> Tensor {
    let largest = x.abs().amax([dim].as_slice(), true);
    let scale = (largest / 448.0).clamp_min(2_f64.powi(-126)).log2().ceil().exp2();
    (x / &scale).to_kind(Kind::Float8e4m3fn).to_kind(x.kind()) * scale
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::twins::difference;
    use super::*;

    /// Results, then gradients for the gradients given.
    fn learned(ys: &[Tensor], leaves: &[Tensor]) -> Vec<Tensor> {
        tch::manual_seed(4);
        ffi::backward(ys, &ys.iter().map(Tensor::randn_like).collect::<Vec<_>>()).unwrap();
        ys.iter().map(Tensor::detach).chain(leaves.iter().map(Tensor::grad)).collect()
    }

    #[test]
    fn in_fp8_joining_a_product_with_what_comes_before_it_changes_no_bit() {
        tch::manual_seed(3);
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
        let [x, norm, first, second, up] = [&[48, 32][..], &[32], &[64, 32], &[16, 32], &[48, 32]].map(draw);
        let layer = |weight: &Tensor| Linear { weight: weight.shallow_clone(), bias: None, fp8: true };
        let leaves = || [&x, &norm, &first, &up].map(|x| x.detach().set_requires_grad(true));
        for keep in [true, false] {
            let [x, norm, first, up] = leaves();
            let ([y, _], _) = norm_linear(&x, None, &norm, 1e-5, [&layer(&first), &layer(&second)], keep);
            let z = swiglu_linear(&x, &up, &layer(&first), keep);
            let joined = learned(&[y, z], &[x, norm, first, up]);
            let [x, norm, first, up] = leaves();
            let y = layer(&first).forward(&rms_norm(&x, &norm, 1e-5));
            let z = layer(&first).forward(&swiglu(&x, &up));
            for (a, b) in joined.iter().zip(learned(&[y, z], &[x, norm, first, up])) {
                assert!(a.equal(&b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn fp8_keeps_the_size_of_every_product_and_what_has_no_16_is_left_as_it_is() {
        tch::manual_seed(5);
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let (x, weight) = (draw(&[32, 48]) * 1e-4, draw(&[16, 48]) * 1e3);
        let off = |x: &Tensor, weight: &Tensor| {
            difference(&ffi::linear(x, weight, None, true).unwrap(), &x.matmul(&weight.tr()))
        };
        let apart = off(&x, &weight);
        assert!(apart > 1e-3 && apart < 5e-2, "{apart}");
        let (odd, few) = (draw(&[31, 48]), draw(&[32, 7]));
        assert!(off(&odd, &weight) < 1e-5);
        assert!(off(&few, &draw(&[16, 7])) < 1e-5);
    }
}
