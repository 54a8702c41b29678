//! SwiGLU (Shazeer 2020, arXiv 2002.05202).

use tch::Tensor;

/// `silu(gate) * up`; all `[N, F]`.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Tensor {
    gate.silu() * up
}
