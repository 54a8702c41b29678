//! SwiGLU (Shazeer 2020, arXiv 2002.05202).

use tch::Tensor;

use super::twins::{Size, Twin};
use crate::ffi;

/// `silu(gate) * up`; all `[N, F]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Tensor {
    if ffi::takes(gate)
        && let Some(y) = ffi::fused("swiglu", ffi::swiglu(gate, up))
    {
        return y;
    }
    plain(gate, up)
}

/// What the fused function computes, by libtorch's operations.
pub(super) fn plain(gate: &Tensor, up: &Tensor) -> Tensor {
    gate.silu() * up
}

/// The function above beside its twin.
pub(super) fn twins(size: &Size) -> Vec<Twin> {
    let shape = [size.tokens(), size.inner];
    let fused = |x: &[Tensor]| Ok(vec![ffi::swiglu(&x[0], &x[1])?]);
    let twin = Twin::new("swiglu", &[&shape, &shape], fused, |x| vec![plain(&x[0], &x[1])]);
    vec![twin.moving(8 * shape[0] * shape[1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_far_from_zero_neither_overflow_nor_lose_their_sign() {
        let gate = Tensor::from_slice(&[-1e4_f32, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, f32::NAN]);
        let up = gate.ones_like();
        let (found, expected) = (ffi::swiglu(&gate, &up).unwrap(), plain(&gate, &up));
        assert!(found.allclose(&expected, 1e-5, 1e-7, true), "{found:?} {expected:?}");
    }
}
