//! The store: keys and values that all processes of a job reach.

use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::time::Duration;

use tch::TchError;

use super::checked;

/// `hephaestus_store`, which only C++ looks into.
#[repr(C)]
pub(super) struct RawStore {
    opaque: [u8; 0],
}

type See = extern "C" fn(*mut c_void, *const c_char, usize);

#[expect(unsafe_code, reason = "the declarations of native/groups.h")]
unsafe extern "C" {
    fn hephaestus_store_open(
        host: *const c_char,
        port: u16,
        serves: bool,
        timeout_ms: i64,
        store: *mut *mut RawStore,
    ) -> *const c_char;
    fn hephaestus_store_share(store: *mut RawStore, shared: *mut *mut RawStore) -> *const c_char;
    fn hephaestus_store_drop(store: *mut RawStore);
    fn hephaestus_store_set(store: *mut RawStore, key: *const c_char, value: *const c_char) -> *const c_char;
    fn hephaestus_store_get(
        store: *mut RawStore,
        key: *const c_char,
        timeout_ms: i64,
        see: See,
        to: *mut c_void,
    ) -> *const c_char;
    fn hephaestus_store_has(store: *mut RawStore, key: *const c_char, has: *mut bool) -> *const c_char;
    fn hephaestus_store_delete(store: *mut RawStore, key: *const c_char) -> *const c_char;
    fn hephaestus_store_add(store: *mut RawStore, key: *const c_char, number: i64, sum: *mut i64) -> *const c_char;
}

/// A store over TCP, as c10d has it. It is gone for all when the process that serves it ends.
///
/// One connection: who waits in [`get`](Self::get) keeps all others who use the same from it.
#[derive(Debug)]
pub struct Store(*mut RawStore);

// SAFETY: c10d's store locks whatever it does.
#[expect(unsafe_code, reason = "a pointer to what is thread-safe")]
unsafe impl Send for Store {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer to what is thread-safe")]
unsafe impl Sync for Store {}

impl Store {
    /// Reaches the store at `host:port`, within `timeout`; with `serves`, this process is to keep it there.
    ///
    /// # Errors
    /// Nothing there, or something else.
    pub fn open(host: &str, port: u16, serves: bool, timeout: Duration) -> Result<Self, TchError> {
        let host = text(host)?;
        let mut store = ptr::null_mut();
        // SAFETY: the host lives through the call, which writes a store where it returns no error.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            checked(hephaestus_store_open(host.as_ptr(), port, serves, milliseconds(timeout), &raw mut store))?;
        }
        Ok(Self(store))
    }

    /// The same store and connection once more: where this process keeps the store, it does so until the last is dropped.
    ///
    /// # Errors
    /// Memory that is spent.
    pub fn share(&self) -> Result<Self, TchError> {
        let mut shared = ptr::null_mut();
        // SAFETY: the store lives through the call, which writes another where it returns no error.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            checked(hephaestus_store_share(self.0, &raw mut shared))?;
        }
        Ok(Self(shared))
    }

    /// Writes a value for all to see.
    ///
    /// # Errors
    /// A store that is gone.
    pub fn set(&self, key: &str, value: &str) -> Result<(), TchError> {
        let (key, value) = (text(key)?, text(value)?);
        // SAFETY: all three live through the call.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            checked(hephaestus_store_set(self.0, key.as_ptr(), value.as_ptr()))
        }
    }

    /// The value of a key, which is waited for.
    ///
    /// # Errors
    /// No such key within `timeout`, or a store that is gone.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<String, TchError> {
        let key = text(key)?;
        let mut value: Vec<u8> = Vec::new();
        // SAFETY: store and key live through the call, as does the list that only `keep` looks at, through the pointer.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            let to = (&raw mut value).cast();
            checked(hephaestus_store_get(self.0, key.as_ptr(), milliseconds(timeout), keep, to))?;
        }
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// A store that is gone.
    pub fn has(&self, key: &str) -> Result<bool, TchError> {
        let key = text(key)?;
        let mut has = false;
        // SAFETY: store and key live through the call, which writes a boolean.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            checked(hephaestus_store_has(self.0, key.as_ptr(), &raw mut has))?;
        }
        Ok(has)
    }

    /// Deletes a key, if there is one.
    ///
    /// # Errors
    /// A store that is gone.
    pub fn delete(&self, key: &str) -> Result<(), TchError> {
        let key = text(key)?;
        // SAFETY: store and key live through the call.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            checked(hephaestus_store_delete(self.0, key.as_ptr()))
        }
    }

    /// Adds `number` to that of a key, none being 0, and returns the sum: of those who add 1, one alone sees 1.
    ///
    /// # Errors
    /// A store that is gone, or a key that holds no number.
    pub fn add(&self, key: &str, number: i64) -> Result<i64, TchError> {
        let key = text(key)?;
        let mut sum = 0;
        // SAFETY: store and key live through the call, which writes a number.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            checked(hephaestus_store_add(self.0, key.as_ptr(), number, &raw mut sum))?;
        }
        Ok(sum)
    }

    pub(super) fn as_ptr(&self) -> *mut RawStore {
        self.0
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: it was opened and is dropped once; groups that use it share it.
        #[expect(unsafe_code, reason = "calls into native/store.cpp")]
        unsafe {
            hephaestus_store_drop(self.0);
        }
    }
}

pub(super) fn text(text: &str) -> Result<CString, TchError> {
    CString::new(text).map_err(|_| TchError::Torch(format!("{text:?}: a text with a zero byte")))
}

/// At least one, as c10d takes none for no limit, and not so many that a clock overflows.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::from(i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1))
}

extern "C" fn keep(to: *mut c_void, value: *const c_char, length: usize) {
    if length == 0 {
        return;
    }
    // SAFETY: `to` is the list that `get` gave, which nothing else uses meanwhile, and the value has the length given.
    #[expect(unsafe_code, reason = "called from native/store.cpp")]
    let (list, value) = unsafe { (&mut *to.cast::<Vec<u8>>(), std::slice::from_raw_parts(value.cast::<u8>(), length)) };
    list.extend_from_slice(value);
}
