//! What the program runs on.

use std::ffi::{CStr, c_char, c_int, c_long};

use tch::TchError;

use super::checked;
use crate::plan::Gpu;

#[expect(unsafe_code, reason = "the declarations of native/native.h")]
unsafe extern "C" {
    fn hephaestus_libtorch_version() -> *const c_char;
    fn hephaestus_cuda_version() -> c_long;
    fn hephaestus_has_kernels() -> bool;
    fn hephaestus_cuda_device(
        index: c_int,
        name: *mut c_char,
        length: usize,
        bytes: *mut usize,
        capability: *mut c_int,
    ) -> bool;
    fn hephaestus_driver_version() -> c_long;
    fn hephaestus_nccl_version() -> c_long;
    fn hephaestus_use_device(index: c_int) -> *const c_char;
    fn hephaestus_cuda_peak_memory(index: c_int) -> usize;
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

/// The newest CUDA that the driver runs, `(major, minor)`; `None` without a driver.
#[must_use]
pub fn driver_version() -> Option<(u32, u32)> {
    // SAFETY: it takes nothing and returns a number.
    #[expect(unsafe_code, reason = "calls into native/device.cpp")]
    let version = unsafe { hephaestus_driver_version() };
    u32::try_from(version).ok().filter(|version| *version > 0).map(|version| (version / 1000, version % 1000 / 10))
}

/// The version of NCCL that libtorch brings, `(major, minor, patch)`; `None` where it comes without.
#[must_use]
pub fn nccl_version() -> Option<(u32, u32, u32)> {
    // SAFETY: it takes nothing and returns a number.
    #[expect(unsafe_code, reason = "calls into native/device.cpp")]
    let version = unsafe { hephaestus_nccl_version() };
    let version = u32::try_from(version).ok().filter(|version| *version > 0)?;
    Some((version / 10_000, version / 100 % 100, version % 100))
}

/// Makes CUDA device `index` this thread's: what names no device goes there, and no other one is touched, as each of many ranks
/// has its own.
///
/// # Errors
/// No such device, or whatever CUDA refuses.
pub fn use_device(index: usize) -> Result<(), TchError> {
    let index = c_int::try_from(index).unwrap_or(c_int::MAX);
    // SAFETY: it takes a number.
    #[expect(unsafe_code, reason = "calls into native/device.cpp")]
    unsafe {
        checked(hephaestus_use_device(index))
    }
}

/// Whether the kernels for GPUs were compiled.
#[must_use]
pub fn has_kernels() -> bool {
    // SAFETY: it returns a constant.
    #[expect(unsafe_code, reason = "calls into native/versions.cpp")]
    unsafe {
        hephaestus_has_kernels()
    }
}

/// A CUDA device, as its driver reports it; `None` where there is no such device.
#[must_use]
pub fn cuda_device(index: usize) -> Option<Gpu> {
    let mut name: [c_char; 256] = [0; 256];
    let (mut bytes, mut capability) = (0, [0; 2]);
    let (length, to) = (name.len(), capability.as_mut_ptr());
    // SAFETY: the name is written within the length given and ended with 0, the numbers where they point.
    #[expect(unsafe_code, reason = "calls into native/device.cpp")]
    unsafe {
        let found = hephaestus_cuda_device(index.try_into().ok()?, name.as_mut_ptr(), length, &raw mut bytes, to);
        found.then(|| Gpu {
            name: CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned(),
            memory: bytes as u64,
            capability: (capability[0].cast_unsigned(), capability[1].cast_unsigned()),
        })
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

/// Keeps freed memory for the next step instead of handing it back to the kernel, which would clear each page anew.
/// For the whole process; a program that trains calls it once, first.
pub fn keep_freed_memory() {
    // SAFETY: it sets two numbers of the allocator, which is as thread-safe as allocating.
    #[expect(unsafe_code, reason = "calls into native/functions.cpp")]
    unsafe {
        hephaestus_keep_freed_memory();
    }
}
