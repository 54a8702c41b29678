//! The boundary to `native/`: safe functions over its C ones. The only `unsafe` besides memory maps.

use std::ffi::{CStr, c_char, c_long};

#[expect(unsafe_code, reason = "the declarations of native/versions.cpp")]
unsafe extern "C" {
    fn hephaestus_libtorch_version() -> *const c_char;
    fn hephaestus_cuda_version() -> c_long;
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
