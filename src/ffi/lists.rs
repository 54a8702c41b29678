//! Operations over every parameter at once.

use std::ffi::c_char;
use std::ptr;

use tch::{TchError, Tensor};

use super::{Raw, checked, optional, raw, same_length};

/// `hephaestus_adamw` of native.h: the numbers of an AdamW update that stay the same.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct AdamWNumbers {
    /// The first moment's decay.
    pub beta1: f64,
    /// The second moment's decay.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// `hephaestus_parameter` of native.h.
#[repr(C)]
struct RawParameter {
    gradient: *const Raw,
    master: *const Raw,
    exp_avg: *const Raw,
    exp_avg_sq: *const Raw,
    weight: *const Raw,
    decays: bool,
}

#[expect(unsafe_code, reason = "the declarations of native/native.h")]
unsafe extern "C" {
    fn hephaestus_global_norm(tensors: *const *mut Raw, count: usize, norm: *mut *mut Raw) -> *const c_char;
    fn hephaestus_copy(to: *const *mut Raw, from: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_accumulate(to: *const *mut Raw, from: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_forget_gradients(tensors: *const *mut Raw, count: usize) -> *const c_char;
    fn hephaestus_adamw_step(
        parameters: *const RawParameter,
        count: usize,
        numbers: *const AdamWNumbers,
        lr: *const Raw,
        step: *const Raw,
        divisor: *const Raw,
        skipped: *const Raw,
    ) -> *const c_char;
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

/// What AdamW goes over of one parameter. The master is fp32, gradient and moments are fp32 or bf16; moments in bf16 are
/// rounded at random.
#[derive(Clone, Copy, Debug)]
pub struct AdamWParameter<'a> {
    /// The gradient.
    pub gradient: &'a Tensor,
    /// What is updated.
    pub master: &'a Tensor,
    /// First moment.
    pub exp_avg: &'a Tensor,
    /// Second moment.
    pub exp_avg_sq: &'a Tensor,
    /// The weight that follows its master in bf16; none where the master is the weight.
    pub weight: Option<&'a Tensor>,
    /// Whether the weight decays.
    pub decays: bool,
}

/// What an AdamW update reads: fp32 scalars that lie beside the parameters.
#[derive(Clone, Copy, Debug)]
pub struct AdamWScalars<'a> {
    /// Learning rate.
    pub lr: &'a Tensor,
    /// The number of this update, from 1 on.
    pub step: &'a Tensor,
    /// Gradients are divided by it.
    pub divisor: &'a Tensor,
    /// Where it is not 0 nothing is changed.
    pub skipped: &'a Tensor,
}

/// One AdamW update of all parameters in one pass over their memory; in one launch on a GPU.
///
/// # Errors
/// Shapes that do not match, or other element types.
pub fn adamw_step(
    parameters: &[AdamWParameter<'_>],
    numbers: AdamWNumbers,
    scalars: AdamWScalars<'_>,
) -> Result<(), TchError> {
    let parameters: Vec<_> = parameters
        .iter()
        .map(|parameter| RawParameter {
            gradient: parameter.gradient.as_ptr(),
            master: parameter.master.as_ptr(),
            exp_avg: parameter.exp_avg.as_ptr(),
            exp_avg_sq: parameter.exp_avg_sq.as_ptr(),
            weight: optional(parameter.weight),
            decays: parameter.decays,
        })
        .collect();
    let AdamWScalars { lr, step, divisor, skipped } = scalars;
    let (lr, step, divisor, skipped) = (lr.as_ptr(), step.as_ptr(), divisor.as_ptr(), skipped.as_ptr());
    let (list, count) = (parameters.as_ptr(), parameters.len());
    // SAFETY: the list lives through the call and has the length given, as do its tensors, the scalars and the numbers.
    #[expect(unsafe_code, reason = "calls into native/optim.cpp")]
    unsafe {
        checked(hephaestus_adamw_step(list, count, &raw const numbers, lr, step, divisor, skipped))
    }
}
