//! The boundary to `native/`: safe functions over its C ones. The only `unsafe` besides memory maps.

use std::ffi::{CStr, c_char, c_int, c_long};
use std::ptr;

use tch::{Device, Kind, TchError, Tensor};

/// `at::Tensor`, which only C++ looks into.
type Raw = torch_sys::C_tensor;

/// `hephaestus_adamw` of native.h: the numbers of one AdamW update.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AdamWNumbers {
    /// Learning rate.
    pub lr: f64,
    /// The first moment's decay.
    pub beta1: f64,
    /// The second moment's decay.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

#[expect(unsafe_code, reason = "the declarations of native/native.h and native/functions.h")]
unsafe extern "C" {
    fn hephaestus_libtorch_version() -> *const c_char;
    fn hephaestus_cuda_version() -> c_long;
    fn hephaestus_cuda_device(index: c_int, name: *mut c_char, length: usize, bytes: *mut usize) -> bool;
    fn hephaestus_cuda_peak_memory(index: c_int) -> usize;
    fn hephaestus_global_norm(tensors: *const *mut Raw, count: usize, norm: *mut *mut Raw) -> *const c_char;
    fn hephaestus_copy(to: *const *mut Raw, from: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_accumulate(to: *const *mut Raw, from: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_forget_gradients(tensors: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_adamw_step(
        weights: *const *mut Raw,
        gradients: *const *mut Raw,
        exp_avgs: *const *mut Raw,
        exp_avg_sqs: *const *mut Raw,
        count: usize,
        step: *const Raw,
        gradient_divisor: *const Raw,
        found_inf: *const Raw,
        numbers: *const AdamWNumbers,
    ) -> *const c_char;
    fn hephaestus_linear(x: *const Raw, weight: *const Raw, bias: *const Raw, y: *mut *mut Raw) -> *const c_char;
    fn hephaestus_rms_norm(
        x: *const Raw,
        delta: *const Raw,
        weight: *const Raw,
        eps: f64,
        sum: *mut *mut Raw,
        y: *mut *mut Raw,
    ) -> *const c_char;
    fn hephaestus_rotate(x: *const Raw, cos: *const Raw, sin: *const Raw, y: *mut *mut Raw) -> *const c_char;
    fn hephaestus_swiglu(gate: *const Raw, up: *const Raw, y: *mut *mut Raw) -> *const c_char;
    fn hephaestus_attend(
        q: *const Raw,
        k: *const Raw,
        v: *const Raw,
        lengths: *const i64,
        count: usize,
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
    fn hephaestus_keep_freed_memory();
}

/// What the program runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// libtorch's version.
    pub libtorch: String,
    /// The CUDA runtime's `(major, minor)`; `None` for a libtorch without CUDA.
    pub cuda: Option<(u32, u32)>,
}

/// The versions of libtorch and of its CUDA runtime. Needs no device.
#[must_use]
pub fn versions() -> Versions {
    // SAFETY: the first returns a string literal; the second takes nothing, catches what it throws and returns a number.
    #[expect(unsafe_code, reason = "calls into native/versions.cpp")]
    let (libtorch, cuda) = unsafe { (CStr::from_ptr(hephaestus_libtorch_version()), hephaestus_cuda_version()) };
    let cuda = u32::try_from(cuda).ok().filter(|version| *version > 0);
    Versions {
        libtorch: libtorch.to_string_lossy().into_owned(),
        cuda: cuda.map(|version| (version / 1000, version % 1000 / 10)),
    }
}

/// Name and memory in bytes of a CUDA device, as its driver reports them; `None` where there is no such device.
#[must_use]
pub fn cuda_device(index: usize) -> Option<(String, u64)> {
    let mut name: [c_char; 256] = [0; 256];
    let mut bytes = 0;
    // SAFETY: the name is written within the length given and ended with 0, the number where it points.
    #[expect(unsafe_code, reason = "calls into native/device.cpp")]
    unsafe {
        let found = hephaestus_cuda_device(index.try_into().ok()?, name.as_mut_ptr(), name.len(), &raw mut bytes);
        found.then(|| (CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(), bytes as u64))
    }
}

/// The most bytes libtorch has had allocated on a CUDA device; 0 where it has used none.
#[must_use]
pub fn cuda_peak_memory(index: usize) -> u64 {
    // SAFETY: it takes a number, catches what it throws and returns a number.
    #[expect(unsafe_code, reason = "calls into native/device.cpp")]
    unsafe {
        c_int::try_from(index).map_or(0, |index| hephaestus_cuda_peak_memory(index) as u64)
    }
}

/// The Euclidean norm of all tensors together: an fp32 scalar on their device, without waiting for it.
///
/// # Errors
/// Whatever libtorch refuses, such as an empty list.
pub fn global_norm(tensors: &[Tensor]) -> Result<Tensor, TchError> {
    let tensors = raw(tensors);
    let mut norm = ptr::null_mut();
    // SAFETY: the list lives through the call and has the length given; `norm` is written where no error is returned.
    #[expect(unsafe_code, reason = "calls into native/optim.cpp")]
    unsafe {
        checked(hephaestus_global_norm(tensors.as_ptr(), tensors.len(), &raw mut norm))?;
        Ok(Tensor::from_ptr(norm))
    }
}

/// Copies each of `from` into its partner in `to`, converting where the types differ.
///
/// # Errors
/// Lists that do not match.
pub fn copy_all(to: &[Tensor], from: &[Tensor]) -> Result<(), TchError> {
    same_length(&[to.len(), from.len()])?;
    let (to, from) = (raw(to), raw(from));
    // SAFETY: both lists live through the call and have the length given.
    #[expect(unsafe_code, reason = "calls into native/optim.cpp")]
    unsafe {
        checked(hephaestus_copy(to.as_ptr(), from.as_ptr(), to.len()))
    }
}

/// Adds each of `from` to its partner in `to`, converting where the types differ.
///
/// # Errors
/// Lists that do not match.
pub fn accumulate(to: &[Tensor], from: &[Tensor]) -> Result<(), TchError> {
    same_length(&[to.len(), from.len()])?;
    let (to, from) = (raw(to), raw(from));
    // SAFETY: both lists live through the call and have the length given.
    #[expect(unsafe_code, reason = "calls into native/optim.cpp")]
    unsafe {
        checked(hephaestus_accumulate(to.as_ptr(), from.as_ptr(), to.len()))
    }
}

/// Drops the gradient of each tensor, so that the next backward pass stores its own instead of adding to zeros.
///
/// # Errors
/// Whatever libtorch refuses.
pub fn forget_gradients(tensors: &[Tensor]) -> Result<(), TchError> {
    let tensors = raw(tensors);
    // SAFETY: the list lives through the call and has the length given.
    #[expect(unsafe_code, reason = "calls into native/optim.cpp")]
    unsafe {
        checked(hephaestus_forget_gradients(tensors.as_ptr(), tensors.len()))
    }
}

/// Tensors that one update goes over, aligned with each other.
#[derive(Clone, Copy, Debug)]
pub struct AdamWLists<'a> {
    /// What is updated.
    pub weights: &'a [Tensor],
    /// Gradients; they are divided in place.
    pub gradients: &'a [Tensor],
    /// First moments.
    pub exp_avgs: &'a [Tensor],
    /// Second moments.
    pub exp_avg_sqs: &'a [Tensor],
}

/// One AdamW update of all weights by libtorch's fused kernel. `step` is an fp32 scalar that already counts this update;
/// gradients are divided by the scalar `gradient_divisor`; where the scalar `found_inf` is 1 nothing is changed.
///
/// # Errors
/// Lists that do not match, or element types the kernel does not take.
pub fn adamw_step(
    lists: AdamWLists<'_>,
    step: &Tensor,
    gradient_divisor: &Tensor,
    found_inf: &Tensor,
    numbers: AdamWNumbers,
) -> Result<(), TchError> {
    let lists = [lists.weights, lists.gradients, lists.exp_avgs, lists.exp_avg_sqs].map(raw);
    same_length(&lists.each_ref().map(Vec::len))?;
    let [weights, gradients, exp_avgs, exp_avg_sqs] = &lists;
    // SAFETY: the four lists live through the call and have the length given, as do the three scalars and the numbers.
    #[expect(unsafe_code, reason = "calls into native/optim.cpp")]
    unsafe {
        checked(hephaestus_adamw_step(
            weights.as_ptr(),
            gradients.as_ptr(),
            exp_avgs.as_ptr(),
            exp_avg_sqs.as_ptr(),
            weights.len(),
            step.as_ptr(),
            gradient_divisor.as_ptr(),
            found_inf.as_ptr(),
            &raw const numbers,
        ))
    }
}

/// Whether the differentiable functions below take tensors such as this: fp32 or bf16 on the CPU.
#[must_use]
pub fn takes(x: &Tensor) -> bool {
    x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// `x` `[N, in]` times `weight` `[out, in]`, plus `bias` `[out]`; differentiable. fp32 on the CPU alone, by oneDNN.
///
/// # Errors
/// Anything else, or shapes that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
    // SAFETY: every tensor lives through the call, which writes a tensor where it returns no error; null is no bias.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_linear(x.as_ptr(), weight.as_ptr(), optional(bias), y) })
}

/// RMSNorm of `x` over its last dimension; differentiable. fp32 or bf16 on the CPU alone.
///
/// # Errors
/// Anything else, or shapes that do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    // SAFETY: every tensor lives through the call, which writes `y` where it returns no error; without a delta it writes
    // no sum.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_rms_norm(x.as_ptr(), ptr::null(), weight.as_ptr(), eps, ptr::null_mut(), y) })
}

/// `x + delta`, and RMSNorm of that over its last dimension; differentiable. fp32 or bf16 on the CPU alone.
///
/// # Errors
/// Anything else, or shapes that do not fit.
pub fn add_rms_norm(x: &Tensor, delta: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor), TchError> {
    let mut sum = ptr::null_mut();
    // SAFETY: every tensor lives through the call, which writes `y` and `sum` where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    unsafe {
        let y = made(|y| hephaestus_rms_norm(x.as_ptr(), delta.as_ptr(), weight.as_ptr(), eps, &raw mut sum, y))?;
        Ok((Tensor::from_ptr(sum), y))
    }
}

/// `x` `[N, H, D]`, the first half of each head turned with the second by angles of cosines and sines `[N, 1, D]`;
/// differentiable. fp32 or bf16 on the CPU alone.
///
/// # Errors
/// Anything else, or shapes that do not fit.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: every tensor lives through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_rotate(x.as_ptr(), cos.as_ptr(), sin.as_ptr(), y) })
}

/// `silu(gate) * up`; differentiable. fp32 or bf16 on the CPU alone.
///
/// # Errors
/// Anything else, or shapes that differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor, TchError> {
    // SAFETY: both tensors live through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_swiglu(gate.as_ptr(), up.as_ptr(), y) })
}

/// Causal attention inside segments of `lengths` tokens; `q`, `k`, `v` and the result are `[N, H, D]`. Differentiable.
/// fp32 or bf16 on the CPU alone.
///
/// # Errors
/// Anything else, shapes that differ, or lengths that do not sum to N.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, lengths: &[i64]) -> Result<Tensor, TchError> {
    // SAFETY: every tensor and the list live through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    made(|y| unsafe { hephaestus_attend(q.as_ptr(), k.as_ptr(), v.as_ptr(), lengths.as_ptr(), lengths.len(), y) })
}

/// Of each row of `logits` `[R, V]`: the logarithm of the partition function Z, and the negative log-likelihood of its
/// target (0 where that is negative), both `[R]` fp32. With `gradient` the logits become the gradient of
/// `weights * (nll + z_loss * log(Z)^2)`. `targets` `[R]` i64, `weights` `[R]` fp32. fp32 or bf16 on the CPU alone.
///
/// # Errors
/// Anything else, shapes that do not fit, or a target that is no row of the head.
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

/// Keeps freed memory for the next step instead of handing it back to the kernel, which would clear each page anew.
/// For the whole process; a program that trains calls it once, first.
pub fn keep_freed_memory() {
    // SAFETY: it sets two numbers of the allocator, which is as thread-safe as allocating.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    unsafe {
        hephaestus_keep_freed_memory();
    }
}

/// What a fused function computed; `None` where it refused, for libtorch's own operations to compute it.
pub fn fused<T>(function: &'static str, result: Result<T, TchError>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(function, %error, "computed by libtorch's operations instead")).ok()
}

/// The tensor that `call` writes.
fn made(call: impl FnOnce(*mut *mut Raw) -> *const c_char) -> Result<Tensor, TchError> {
    let mut tensor = ptr::null_mut();
    checked(call(&raw mut tensor))?;
    // SAFETY: without an error the call has written a tensor, which belongs to the caller.
    #[expect(unsafe_code, reason = "takes over what native code made")]
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

fn optional(tensor: Option<&Tensor>) -> *const Raw {
    tensor.map_or(ptr::null(), Tensor::as_ptr)
}

fn raw(tensors: &[Tensor]) -> Vec<*mut Raw> {
    tensors.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

fn same_length(lengths: &[usize]) -> Result<(), TchError> {
    if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    Err(TchError::Shape(format!("lists of {lengths:?} tensors where all must have as many")))
}

/// Null, or the text of what C++ threw.
fn checked(message: *const c_char) -> Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so it is this thread's message, a C string that nothing changes before it is copied here.
    #[expect(unsafe_code, reason = "reads native's error text")]
    let message = unsafe { CStr::from_ptr(message) };
    Err(TchError::Torch(message.to_string_lossy().into_owned()))
}
