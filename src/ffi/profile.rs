//! libtorch's profiler.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;

use tch::TchError;

use super::checked;

/// An operation that was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name; of what ran on a GPU, the kernel's.
    pub name: String,
    /// When it began, in nanoseconds.
    pub begin: u64,
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// The thread that called it.
    pub thread: u64,
    /// Whether it ran on a GPU.
    pub on_gpu: bool,
}

type See = extern "C" fn(*mut c_void, *const c_char, u64, u64, u64, bool);

#[expect(unsafe_code, reason = "the declarations of native/native.h")]
unsafe extern "C" {
    fn hephaestus_ranges_begin() -> *const c_char;
    fn hephaestus_ranges_end();
    fn hephaestus_profile_begin(gpu: bool) -> *const c_char;
    fn hephaestus_profile_end(path: *const c_char, see: See, to: *mut c_void) -> *const c_char;
}

/// While it lives, every operation that this thread calls is named for Nsight by an NVTX range.
#[derive(Debug)]
pub struct Ranges(());

impl Ranges {
    /// Begins.
    ///
    /// # Errors
    /// A libtorch without CUDA, or one that already records.
    pub fn begin() -> Result<Self, TchError> {
        // SAFETY: it takes nothing.
        #[expect(unsafe_code, reason = "calls into native/profile.cpp")]
        unsafe {
            checked(hephaestus_ranges_begin())?;
        }
        Ok(Self(()))
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        // SAFETY: it takes nothing, and was begun.
        #[expect(unsafe_code, reason = "calls into native/profile.cpp")]
        unsafe {
            hephaestus_ranges_end();
        }
    }
}

/// Begins to record the operations that this thread calls and, with `gpu`, the kernels they launch.
///
/// # Errors
/// A profiler that runs already, or none in this libtorch.
pub fn profile_begin(gpu: bool) -> Result<(), TchError> {
    // SAFETY: it takes a boolean and catches what it throws.
    #[expect(unsafe_code, reason = "calls into native/profile.cpp")]
    unsafe {
        checked(hephaestus_profile_begin(gpu))
    }
}

/// Ends it, writes a trace that Chrome and Perfetto show, and returns every operation.
///
/// # Errors
/// None begun, or a file that cannot be written.
pub fn profile_end(trace: &Path) -> Result<Vec<Operation>, TchError> {
    let path = CString::new(trace.as_os_str().as_encoded_bytes())
        .map_err(|_| TchError::Torch("a path with a zero byte".to_owned()))?;
    let mut operations: Vec<Operation> = Vec::new();
    // SAFETY: the path lives through the call, as does the list that only `push` looks at, through the pointer given.
    #[expect(unsafe_code, reason = "calls into native/profile.cpp")]
    unsafe {
        checked(hephaestus_profile_end(path.as_ptr(), push, (&raw mut operations).cast()))?;
    }
    Ok(operations)
}

extern "C" fn push(to: *mut c_void, name: *const c_char, begin: u64, duration: u64, thread: u64, on_gpu: bool) {
    // SAFETY: `to` is the list that `profile_end` gave, which nothing else uses meanwhile, and the name a C string.
    #[expect(unsafe_code, reason = "called from native/profile.cpp")]
    let (operations, name) = unsafe { (&mut *to.cast::<Vec<Operation>>(), CStr::from_ptr(name)) };
    operations.push(Operation { name: name.to_string_lossy().into_owned(), begin, duration, thread, on_gpu });
}
