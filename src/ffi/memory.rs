//! What tensors take in memory.

use std::ffi::c_char;
use std::marker::PhantomData;

use tch::{TchError, Tensor};

use super::{Raw, checked};

#[expect(unsafe_code, reason = "the declarations of native/native.h")]
unsafe extern "C" {
    fn hephaestus_count_memory() -> *const c_char;
    fn hephaestus_counted_memory() -> usize;
    fn hephaestus_count_no_more();
    fn hephaestus_grow_segments() -> bool;
    fn hephaestus_empty_cache();
    fn hephaestus_free_storage(tensor: *mut Raw);
    fn hephaestus_allocate_storage(tensor: *mut Raw) -> *const c_char;
}

/// Counts the CPU memory of the tensors that this thread makes as long as it lives, those of its backward passes included.
#[derive(Debug)]
pub struct CountedMemory {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl CountedMemory {
    /// Begins to count.
    ///
    /// # Errors
    /// A thread that counts already, or is profiled.
    pub fn begin() -> Result<Self, TchError> {
        // SAFETY: it takes nothing and changes this thread's state of libtorch only.
        #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
        unsafe {
            checked(hephaestus_count_memory())?;
        }
        Ok(Self { _thread: PhantomData })
    }

    /// The most bytes that were there at once since the beginning or since this was last asked.
    pub fn most(&mut self) -> u64 {
        // SAFETY: it takes nothing and returns a number.
        #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
        unsafe {
            hephaestus_counted_memory() as u64
        }
    }
}

impl Drop for CountedMemory {
    fn drop(&mut self) {
        // SAFETY: it takes nothing and ends what this thread began.
        #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
        unsafe {
            hephaestus_count_no_more();
        }
    }
}

/// Has libtorch's CUDA allocator map memory into segments that grow, which leaves fewer gaps (its setting
/// `expandable_segments`), unless `PYTORCH_ALLOC_CONF` or `PYTORCH_CUDA_ALLOC_CONF` says otherwise. Returns whether they
/// grow. For the whole process; a program that trains calls it before the first tensor on a GPU.
pub fn grow_segments() -> bool {
    // SAFETY: it sets a setting that the allocator reads when it next asks the driver for memory.
    #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
    unsafe {
        hephaestus_grow_segments()
    }
}

/// Gives back freed memory that was kept for tensors to come, that of GPUs and of this process; what GPUs have in use at most
/// is counted anew.
pub fn empty_cache() {
    // SAFETY: it takes nothing; memory in use is left alone.
    #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
    unsafe {
        hephaestus_empty_cache();
    }
}

/// Gives back the memory behind a tensor and all its views. None of them is to be read or written before
/// [`allocate_storage`] has given it memory again, which begins with whatever lies there.
pub fn free_storage(tensor: &Tensor) {
    // SAFETY: the tensor lives through the call; what is freed is libtorch's own, which knows of no borrowed slices of it.
    #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
    unsafe {
        hephaestus_free_storage(tensor.as_ptr().cast_mut());
    }
}

/// Gives memory to a tensor and its views that [`free_storage`] took from them.
///
/// # Errors
/// More memory than there is.
pub fn allocate_storage(tensor: &Tensor) -> Result<(), TchError> {
    // SAFETY: as above.
    #[expect(unsafe_code, reason = "calls into native/memory.cpp")]
    unsafe {
        checked(hephaestus_allocate_storage(tensor.as_ptr().cast_mut()))
    }
}
