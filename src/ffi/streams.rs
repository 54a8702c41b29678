//! What is asked of a GPU besides computing.

use std::ffi::{c_char, c_int};
use std::ptr;

use tch::{Device, TchError, Tensor};

use super::{Raw, checked, made};

/// `hephaestus_graph`, which only C++ looks into.
#[repr(C)]
struct RawGraph {
    opaque: [u8; 0],
}

#[expect(unsafe_code, reason = "the declarations of native/streams.h")]
unsafe extern "C" {
    fn hephaestus_send(x: *const Raw, device: c_int, sent: *mut *mut Raw) -> *const c_char;
    fn hephaestus_graph_begin(device: c_int, graph: *mut *mut RawGraph) -> *const c_char;
    fn hephaestus_graph_end(graph: *mut RawGraph) -> *const c_char;
    fn hephaestus_graph_replay(graph: *mut RawGraph) -> *const c_char;
    fn hephaestus_graph_drop(graph: *mut RawGraph);
    fn hephaestus_forbid_waiting(forbid: bool) -> *const c_char;
}

/// A copy on `device` of a tensor on the CPU; to a CUDA device through pinned memory and beside whatever it computes,
/// without waiting for the copy.
///
/// # Errors
/// Whatever libtorch refuses, such as more memory than there is.
pub fn send(x: &Tensor, device: Device) -> Result<Tensor, TchError> {
    let Device::Cuda(index) = device else { return x.f_to_device(device) };
    // SAFETY: the tensor lives through the call, which writes a tensor where it returns no error.
    #[expect(unsafe_code, reason = "calls into native/streams.cpp")]
    made(|sent| unsafe { hephaestus_send(x.as_ptr(), index as c_int, sent) })
}

/// Work on a GPU that was recorded once and can be done again: on the same memory, and so with whatever then lies there,
/// by one launch.
#[derive(Debug)]
pub struct Graph(*mut RawGraph);

impl Graph {
    /// Records what `work` has this thread compute on CUDA device `index`; it is not computed yet.
    ///
    /// # Errors
    /// What CUDA cannot record, such as waiting for a result.
    pub fn record<T>(index: usize, work: impl FnOnce() -> T) -> Result<(Self, T), TchError> {
        let mut graph = ptr::null_mut();
        // SAFETY: it is written where no error is returned.
        #[expect(unsafe_code, reason = "calls into native/streams.cpp")]
        unsafe {
            checked(hephaestus_graph_begin(index as c_int, &raw mut graph))?;
        }
        // Dropped, and with it the recording ended, where the work panics.
        let graph = Self(graph);
        let made = work();
        // SAFETY: it was begun above and is ended once.
        #[expect(unsafe_code, reason = "calls into native/streams.cpp")]
        unsafe {
            checked(hephaestus_graph_end(graph.0))?;
        }
        Ok((graph, made))
    }

    /// Does it again, after what the device has been given so far, without waiting for it.
    ///
    /// # Errors
    /// Whatever CUDA refuses.
    pub fn replay(&self) -> Result<(), TchError> {
        // SAFETY: it was recorded to the end, and lives.
        #[expect(unsafe_code, reason = "calls into native/streams.cpp")]
        unsafe {
            checked(hephaestus_graph_replay(self.0))
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: it was made by `record` and is dropped once.
        #[expect(unsafe_code, reason = "calls into native/streams.cpp")]
        unsafe {
            hephaestus_graph_drop(self.0);
        }
    }
}

/// Makes libtorch refuse, with an error, to wait for a GPU, or not any more: for tests.
///
/// # Errors
/// A build without kernels.
pub fn forbid_waiting(forbid: bool) -> Result<(), TchError> {
    // SAFETY: it sets a number that libtorch reads.
    #[expect(unsafe_code, reason = "calls into native/streams.cpp")]
    unsafe {
        checked(hephaestus_forbid_waiting(forbid))
    }
}
