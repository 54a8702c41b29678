//! SwiGLU (Shazeer 2020, arXiv 2002.05202).

use tch::Tensor;

use crate::ffi;

/// `silu(gate) * up`; all `[N, F]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Tensor {
    if ffi::takes(gate)
        && let Ok(y) = ffi::swiglu(gate, up)
    {
        return y;
    }
    plain(gate, up)
}

/// What the fused function computes, by libtorch's operations.
fn plain(gate: &Tensor, up: &Tensor) -> Tensor {
    gate.silu() * up
}
