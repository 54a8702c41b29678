//! The boundary to `native/`: safe functions over its C ones. The only `unsafe` besides memory maps.
//!
//! `machine` says what the program runs on, `memory` what tensors take there, `functions` are parts of a model,
//! differentiable, `lists` go over every parameter at once, `streams` copies and repeats on a GPU, `groups` what several
//! processes do together, `membership` which they are and `store` how they meet, `process` how one ends at once, `profile`
//! records what they do.

mod functions;
mod groups;
mod lists;
mod machine;
mod membership;
mod memory;
mod process;
mod profile;
mod store;
mod streams;

use std::ffi::{CStr, c_char};
use std::ptr;

use tch::{TchError, Tensor};

pub use functions::*;
pub use groups::*;
pub use lists::*;
pub use machine::*;
pub use membership::*;
pub use memory::*;
pub use process::*;
pub use profile::*;
pub use store::*;
pub use streams::*;

/// `at::Tensor`, which only C++ looks into.
type Raw = torch_sys::C_tensor;

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
