//! How a process ends that can wait for nothing.

use std::ffi::c_int;

#[expect(unsafe_code, reason = "a declaration of the C library")]
unsafe extern "C" {
    // POSIX.
    safe fn _exit(status: c_int) -> !;
}

/// Ends this process at once, whatever its threads are in: nothing is dropped, and no library's own endings run, which may
/// wait for other processes or for a GPU.
pub fn end_process(code: u8) -> ! {
    _exit(c_int::from(code))
}
