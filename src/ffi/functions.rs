//! Parts of a model in one pass over memory, differentiable. fp32 or bf16, all operands alike, on a device that
//! [`takes`] knows; anything else is an error, and [`fused`] then leaves it to libtorch's own operations.

use std::ffi::c_char;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, TchError, Tensor};

use super::{Raw, checked, has_kernels, made, optional, raw, same_length};

#[expect(unsafe_code, reason = "the declarations of native/{attention,functions,linear}.h")]
unsafe extern "C" {
    fn hephaestus_linear(
        x: *const Raw,
        weight: *const Raw,
        bias: *const Raw,
        fp8: bool,
        y: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_norm_linear(
        x: *const Raw,
        delta: *const Raw,
        norm: *const Raw,
        eps: f64,
        weights: *const *const Raw,
        biases: *const *const Raw,
        count: usize,
        keep: bool,
        fp8: bool,
        sum: *mut *mut Raw,
        ys: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_swiglu_linear(
        gate: *const Raw,
        up: *const Raw,
        weight: *const Raw,
        bias: *const Raw,
        keep: bool,
        fp8: bool,
        y: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_add_product(sum: *const Raw, a: *const Raw, b: *const Raw) -> *const c_char;
    fn hephaestus_backward(outputs: *const *mut Raw, gradients: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_rms_norm(
        x: *const Raw,
        delta: *const Raw,
        weight: *const Raw,
        eps: f64,
        sum: *mut *mut Raw,
        y: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_rotate(
        q: *const Raw,
        k: *const Raw,
        cos: *const Raw,
        sin: *const Raw,
        turned_q: *mut *mut Raw,
        turned_k: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_swiglu(gate: *const Raw, up: *const Raw, y: *mut *mut Raw) -> *const c_char;
    fn hephaestus_attend(
        q: *const Raw,
        k: *const Raw,
        v: *const Raw,
        lengths: *const i64,
        count: usize,
        y: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_attend_on_gpu(
        q: *const Raw,
        k: *const Raw,
        v: *const Raw,
        ends: *const Raw,
        longest: i64,
        window: i64,
        y: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_cross_entropy(
        logits: *const Raw,
        targets: *const Raw,
        weights: *const Raw,
        z_loss: f64,
        gradient: bool,
        log_z: *mut *mut Raw,
        nll: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_with_gradient(
        value: *const Raw,
        input: *const Raw,
        gradient: *const Raw,
        y: *mut *mut Raw,
    ) -> *const c_char;
}

/// What a fused function computed; `None` where it refused, for libtorch's own operations to compute it.
pub fn fused<T>(function: &'static str, result: Result<T, TchError>) -> Option<T> {
    result
        .inspect_err(|error| {
            static TOLD: Once = Once::new();
            TOLD.call_once(
                || tracing::warn!(function, %error, "computed by libtorch's operations instead, which is slower"),
            );
        })
        .ok()
}

static FUSES: AtomicBool = AtomicBool::new(true);

/// From now on a model leaves every function to libtorch's own operations, as if none here took its operands. For the whole
/// process, and for measurements alone: it shows what fusing changes.
pub fn fuse_nothing() {
    FUSES.store(false, Ordering::Relaxed);
}

/// Whether a model asks the functions below at all.
#[must_use]
pub fn fuses() -> bool {
    FUSES.load(Ordering::Relaxed)
}

/// Whether the functions below take tensors such as this: fp32 or bf16, on the CPU or, where kernels were compiled, on a
/// GPU.
#[must_use]
pub fn takes(x: &Tensor) -> bool {
    let is_there = match x.device() {
        Device::Cpu => true,
        Device::Cuda(_) => has_kernels(),
        _ => false,
    };
    fuses() && is_there && matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// `x` `[N, in]` times `weight` `[out, in]`, plus `bias` `[out]`; differentiable. With `fp8` the product and those of the
/// backward pass multiply in e4m3, as native/products.h says.
///
/// # Errors
/// Operands that are not taken, or shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, fp8: bool) -> Result<Tensor, TchError> {
    // SAFETY: every tensor lives through the call, which writes a tensor where it returns no error; null is no bias.
    #[expect(unsafe_code, reason = "calls into native/linear.cpp")]
    made(|y| unsafe { hephaestus_linear(x.as_ptr(), weight.as_ptr(), optional(bias), fp8, y) })
}

/// RMSNorm of `x` `[N, in]`, or of `x + delta`, times each of one to three `weights` `[out, in]`, perhaps with a bias; and
/// `x + delta`, where there is a delta. Differentiable. Without `keep` the backward pass computes the norm again; with `fp8`
/// products are as [`linear`]'s.
///
/// # Errors
/// Operands that are not taken, or shapes that do not fit.
pub fn norm_linear<const W: usize>(
    x: &Tensor,
    delta: Option<&Tensor>,
    norm: &Tensor,
    eps: f64,
    weights: [(&Tensor, Option<&Tensor>); W],
    keep: bool,
    fp8: bool,
) -> Result<([Tensor; W], Option<Tensor>), TchError> {
    let biases = weights.map(|(_, bias)| optional(bias));
    let weights = weights.map(|(weight, _)| weight.as_ptr());
    let (mut sum, mut ys) = (ptr::null_mut(), [ptr::null_mut(); W]);
    let (x, plus, norm) = (x.as_ptr(), optional(delta), norm.as_ptr());
    let (weights, biases) = (weights.as_ptr(), biases.as_ptr());
    // SAFETY: every tensor and both lists, of the length given, live through the call, which writes every result, and the
    // sum where there is a delta, where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/linear.cpp")]
    unsafe {
        let (sum, ys) = (&raw mut sum, ys.as_mut_ptr());
        checked(hephaestus_norm_linear(x, plus, norm, eps, weights, biases, W, keep, fp8, sum, ys))?;
    }
    // SAFETY: the call has written them.
    #[expect(unsafe_code, reason = "takes what native/linear.cpp made")]
    unsafe {
        Ok((ys.map(|y| Tensor::from_ptr(y)), delta.map(|_| Tensor::from_ptr(sum))))
    }
}

/// `silu(gate) * up` `[N, in]` times `weight` `[out, in]`, plus `bias` `[out]`; differentiable. Without `keep` the backward
/// pass computes `silu(gate) * up` again; with `fp8` products are as [`linear`]'s.
///
/// # Errors
/// Operands that are not taken, or shapes that do not fit.
pub fn swiglu_linear(
    gate: &Tensor,
    up: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    keep: bool,
    fp8: bool,
) -> Result<Tensor, TchError> {
    let (gate, up, weight) = (gate.as_ptr(), up.as_ptr(), weight.as_ptr());
    // SAFETY: every tensor lives through the call, which writes a tensor where it returns no error; null is no bias.
    #[expect(unsafe_code, reason = "calls into native/linear.cpp")]
    made(|y| unsafe { hephaestus_swiglu_linear(gate, up, weight, optional(bias), keep, fp8, y) })
}

/// Adds `a` `[n, k]` times `b` `[k, m]` to `sum` `[n, m]`, which is fp32; on a GPU nothing is rounded before it is added.
///
/// # Errors
/// Shapes that do not fit, or another type of sum.
pub fn add_product(sum: &mut Tensor, a: &Tensor, b: &Tensor) -> Result<(), TchError> {
    // SAFETY: every tensor lives through the call.
    #[expect(unsafe_code, reason = "calls into native/linear.cpp")]
    unsafe {
        checked(hephaestus_add_product(sum.as_ptr(), a.as_ptr(), b.as_ptr()))
    }
}

/// The backward pass from `outputs`, whose gradients are `gradients`.
///
/// # Errors
/// Lists or shapes that differ, or whatever libtorch refuses in it.
pub fn backward(outputs: &[Tensor], gradients: &[Tensor]) -> Result<(), TchError> {
    same_length(&[outputs.len(), gradients.len()])?;
    let (outputs, gradients) = (raw(outputs), raw(gradients));
    // SAFETY: both lists live through the call and have the length given.
    #[expect(unsafe_code, reason = "calls into native/linear.cpp")]
    unsafe {
        checked(hephaestus_backward(outputs.as_ptr(), gradients.as_ptr(), outputs.len()))
    }
}

/// RMSNorm of `x` over its last dimension; differentiable.
///
/// # Errors
/// Operands that are not taken, or shapes that do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    // SAFETY: every tensor lives through the call, which writes `y` where it returns no error; without a delta it writes
    // no sum.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_rms_norm(x.as_ptr(), ptr::null(), weight.as_ptr(), eps, ptr::null_mut(), y) })
}

/// `x + delta`, and RMSNorm of that over its last dimension; differentiable.
///
/// # Errors
/// Operands that are not taken, or shapes that do not fit.
pub fn add_rms_norm(x: &Tensor, delta: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor), TchError> {
    let mut sum = ptr::null_mut();
    // SAFETY: every tensor lives through the call, which writes `y` and `sum` where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    unsafe {
        let y = made(|y| hephaestus_rms_norm(x.as_ptr(), delta.as_ptr(), weight.as_ptr(), eps, &raw mut sum, y))?;
        Ok((Tensor::from_ptr(sum), y))
    }
}

/// `q` `[N, H, D]` and `k` `[N, K, D]`, the first half of each head turned with the second by angles of cosines and sines
/// `[N, 1, D]`; differentiable.
///
/// # Errors
/// Operands that are not taken, or shapes that do not fit.
pub fn rotate(q: &Tensor, k: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<(Tensor, Tensor), TchError> {
    let mut turned_q = ptr::null_mut();
    let (q, k, cos, sin) = (q.as_ptr(), k.as_ptr(), cos.as_ptr(), sin.as_ptr());
    // SAFETY: every tensor lives through the call, which writes both results where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    unsafe {
        let turned_k = made(|turned_k| hephaestus_rotate(q, k, cos, sin, &raw mut turned_q, turned_k))?;
        Ok((Tensor::from_ptr(turned_q), turned_k))
    }
}

/// `silu(gate) * up`; differentiable.
///
/// # Errors
/// Operands that are not taken, or shapes that differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: both tensors live through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_swiglu(gate.as_ptr(), up.as_ptr(), y) })
}

/// Causal attention inside segments of `lengths` tokens; `q`, `k`, `v` and the result are `[N, H, D]`. Differentiable.
/// On the CPU.
///
/// # Errors
/// Operands that are not taken, shapes that differ, or lengths that do not sum to N.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, lengths: &[i64]) -> Result<Tensor, TchError> {
    // SAFETY: every tensor and the list live through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_attend(q.as_ptr(), k.as_ptr(), v.as_ptr(), lengths.as_ptr(), lengths.len(), y) })
}

/// The same on a GPU, where heads may share keys and values: `q` and the result `[N, H, D]`, `k` and `v` `[N, K, D]`, bf16.
/// `ends` `[S + 1]` i32 is 0 and where each segment ends, `longest` the most tokens of one; `window` bounds how many tokens
/// a query sees, itself included.
///
/// # Errors
/// Operands elsewhere or of another type, or shapes that do not fit.
pub fn attend_on_gpu(
    [q, k, v]: [&Tensor; 3],
    ends: &Tensor,
    longest: i64,
    window: Option<i64>,
) -> Result<Tensor, TchError> {
    let (q, k, v, ends) = (q.as_ptr(), k.as_ptr(), v.as_ptr(), ends.as_ptr());
    // SAFETY: every tensor lives through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/attention.cpp")]
    made(|y| unsafe { hephaestus_attend_on_gpu(q, k, v, ends, longest, window.unwrap_or(0), y) })
}

/// Of each row of `logits` `[R, V]`: the logarithm of the partition function Z, and the negative log-likelihood of its
/// target (0 where that is negative), both `[R]` fp32. With `gradient` the logits become the gradient of
/// `weights * (nll + z_loss * log(Z)^2)`. `targets` `[R]` i64, `weights` `[R]` fp32.
///
/// # Errors
/// Operands that are not taken, shapes that do not fit, or a target that is no row of the head; on a GPU such a target
/// makes its loss no number instead.
pub fn cross_entropy(
    logits: &mut Tensor,
    targets: &Tensor,
    weights: &Tensor,
    z_loss: f64,
    gradient: bool,
) -> Result<(Tensor, Tensor), TchError> {
    let mut log_z = ptr::null_mut();
    let (logits, targets, weights) = (logits.as_ptr(), targets.as_ptr(), weights.as_ptr());
    // SAFETY: every tensor lives through the call, which writes `log_z` and `nll` where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    unsafe {
        let nll =
            made(|nll| hephaestus_cross_entropy(logits, targets, weights, z_loss, gradient, &raw mut log_z, nll))?;
        Ok((Tensor::from_ptr(log_z), nll))
    }
}

/// `value`, whose gradient with respect to `input` is `gradient`, which backward scales in place. For one backward.
///
/// # Errors
/// A gradient of another shape than the input.
pub fn with_gradient(value: &Tensor, input: &Tensor, gradient: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: every tensor lives through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_with_gradient(value.as_ptr(), input.as_ptr(), gradient.as_ptr(), y) })
}
