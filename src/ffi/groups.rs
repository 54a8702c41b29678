//! Groups of processes, and what they do together: libtorch's c10d, Gloo between CPUs and NCCL between GPUs.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::Arc;

use tch::{Device, TchError, Tensor};

use super::store::{RawStore, milliseconds, text};
use super::{CollectiveError, Membership, Raw, Store, checked, raw, same_length};

/// `hephaestus_group`, which only C++ looks into.
#[repr(C)]
struct RawGroup {
    opaque: [u8; 0],
}

/// `hephaestus_health`, which only C++ looks into.
#[repr(C)]
struct RawHealth {
    opaque: [u8; 0],
}

/// `hephaestus_work`, which only C++ looks into.
#[repr(C)]
struct RawWork {
    opaque: [u8; 0],
}

/// `hephaestus_membership` of groups.h.
#[repr(C)]
struct RawMembership {
    prefix: *const c_char,
    name: *const c_char,
    rank: c_int,
    members: *const u64,
    size: c_int,
    device: c_int,
    timeout_ms: i64,
}

type List = *const *mut Raw;
type Begun = *mut *mut RawWork;

#[expect(unsafe_code, reason = "the declarations of native/groups.h")]
unsafe extern "C" {
    fn hephaestus_has_nccl() -> bool;
    fn hephaestus_group_open(
        store: *mut RawStore,
        membership: *const RawMembership,
        group: *mut *mut RawGroup,
    ) -> *const c_char;
    fn hephaestus_group_close(group: *mut RawGroup) -> *const c_char;
    fn hephaestus_group_abandon(group: *mut RawGroup);
    fn hephaestus_group_health(group: *const RawGroup) -> *mut RawHealth;
    fn hephaestus_health_error(health: *const RawHealth) -> c_int;
    fn hephaestus_health_drop(health: *mut RawHealth);
    fn hephaestus_all_reduce(
        group: *mut RawGroup,
        tensors: List,
        count: usize,
        op: c_int,
        work: Begun,
    ) -> *const c_char;
    fn hephaestus_reduce_scatter(
        group: *mut RawGroup,
        outputs: List,
        inputs: List,
        count: usize,
        op: c_int,
        work: Begun,
    ) -> *const c_char;
    fn hephaestus_all_gather(
        group: *mut RawGroup,
        outputs: List,
        inputs: List,
        count: usize,
        work: Begun,
    ) -> *const c_char;
    fn hephaestus_broadcast(
        group: *mut RawGroup,
        tensors: List,
        count: usize,
        root: c_int,
        work: Begun,
    ) -> *const c_char;
    fn hephaestus_barrier(group: *mut RawGroup, work: Begun) -> *const c_char;
    fn hephaestus_work_wait(work: *mut RawWork) -> *const c_char;
    fn hephaestus_work_drop(work: *mut RawWork);
}

/// Whether groups of GPUs were compiled.
#[must_use]
pub fn has_nccl() -> bool {
    // SAFETY: it returns a constant.
    #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
    unsafe {
        hephaestus_has_nccl()
    }
}

/// How elements of several ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Reduce {
    /// Their sum.
    Sum = 0,
    /// Their mean; NCCL's only, Gloo refuses it.
    Mean = 1,
    /// The least.
    Min = 2,
    /// The greatest.
    Max = 3,
}

/// A group that this process is a member of. Every member calls the same collectives in the same order, with tensors of the
/// same shapes, on its device and contiguous.
///
/// Dropped without [`close`](Self::close), it is given up with whatever is under way in it, without waiting: that is for
/// a process about to end, whose others then learn of it at once.
#[derive(Debug)]
pub struct Group {
    /// Null once it is closed.
    raw: *mut RawGroup,
    membership: Arc<Membership>,
    /// In the group.
    rank: usize,
}

// SAFETY: native code locks the group while a collective is begun; the rest of it does not change.
#[expect(unsafe_code, reason = "a pointer to what is thread-safe")]
unsafe impl Send for Group {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "a pointer to what is thread-safe")]
unsafe impl Sync for Group {}

impl Group {
    /// Opens a group, as all its members do; returns when they have. `prefix` is what its keys in the store begin with:
    /// the same for all members, and no other group's.
    ///
    /// # Errors
    /// Members who do not come within the timeout, or a network that refuses.
    pub fn open(store: &Store, prefix: &str, membership: Membership) -> Result<Self, CollectiveError> {
        let opened = Self::try_open(store, prefix, &membership);
        let (raw, rank) = opened.map_err(|error| membership.failed("open", &error))?;
        Ok(Self { raw, membership: Arc::new(membership), rank })
    }

    fn try_open(store: &Store, prefix: &str, membership: &Membership) -> Result<(*mut RawGroup, usize), TchError> {
        let refused = |what: &str| TchError::Torch(format!("{membership:?}: {what}"));
        let rank = membership.members.iter().position(|&member| member == membership.rank);
        let rank = rank.ok_or_else(|| refused("this process is no member"))?;
        let number = |n: usize| c_int::try_from(n).map_err(|_| refused("too large a number"));
        let members: Vec<_> = membership.members.iter().map(|&member| member as u64).collect();
        let device = match membership.device {
            Device::Cpu => -1,
            Device::Cuda(index) => number(index)?,
            _ => return Err(refused("groups are of CPUs or of CUDA devices")),
        };
        let (prefix, name) = (text(prefix)?, text(&membership.name)?);
        let described = RawMembership {
            prefix: prefix.as_ptr(),
            name: name.as_ptr(),
            rank: number(rank)?,
            members: members.as_ptr(),
            size: number(members.len())?,
            device,
            timeout_ms: milliseconds(membership.timeout),
        };
        let mut group = ptr::null_mut();
        // SAFETY: all that is pointed to lives through the call, which writes a group where it returns no error.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        unsafe {
            checked(hephaestus_group_open(store.as_ptr(), &raw const described, &raw mut group))?;
        }
        Ok((group, rank))
    }

    /// The rank of this process in the group.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many members it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.membership.members.len()
    }

    /// Who it is.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Its health, for a thread that looks after it.
    #[must_use]
    pub fn health(&self) -> Health {
        // SAFETY: the group lives through the call, which makes a health of it.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        let raw = unsafe { hephaestus_group_health(self.raw) };
        Health { raw, membership: Arc::clone(&self.membership) }
    }

    /// Ends it when everything begun in it has ended, as its members do once all their work is waited for.
    ///
    /// # Errors
    /// A backend that does not end.
    pub fn close(mut self) -> Result<(), CollectiveError> {
        let group = std::mem::replace(&mut self.raw, ptr::null_mut());
        // SAFETY: it was opened, and nothing is left to be dropped.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        let closed = unsafe { checked(hephaestus_group_close(group)) };
        closed.map_err(|error| self.membership.failed("close", &error))
    }

    /// Reduces a tensor over all ranks, in place.
    ///
    /// # Errors
    /// What c10d refuses; what goes wrong meanwhile is told where the work is waited for.
    pub fn all_reduce(&self, tensor: &Tensor, op: Reduce) -> Result<Work, CollectiveError> {
        self.all_reduce_all(std::slice::from_ref(tensor), op)
    }

    /// The same for several tensors of one type, as one piece of work. Many small ones go faster as views of one.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn all_reduce_all(&self, tensors: &[Tensor], op: Reduce) -> Result<Work, CollectiveError> {
        let list = raw(tensors);
        // SAFETY: group and list live through the call, the list has the length given; work is written without an error.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        self.begin("all_reduce", |work| unsafe {
            hephaestus_all_reduce(self.raw, list.as_ptr(), list.len(), op as c_int, work)
        })
    }

    /// Reduces `input` over all ranks and leaves in `output` this rank's part: with R ranks the `rank`-th R-th.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn reduce_scatter(&self, output: &Tensor, input: &Tensor, op: Reduce) -> Result<Work, CollectiveError> {
        self.reduce_scatter_all(std::slice::from_ref(output), std::slice::from_ref(input), op)
    }

    /// The same for several pairs of tensors of one type, as one piece of work.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn reduce_scatter_all(
        &self,
        outputs: &[Tensor],
        inputs: &[Tensor],
        op: Reduce,
    ) -> Result<Work, CollectiveError> {
        self.paired("reduce_scatter", outputs, inputs)?;
        let (outputs, inputs) = (raw(outputs), raw(inputs));
        // SAFETY: as in `all_reduce_all`; both lists have the length given.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        self.begin("reduce_scatter", |work| unsafe {
            hephaestus_reduce_scatter(self.raw, outputs.as_ptr(), inputs.as_ptr(), inputs.len(), op as c_int, work)
        })
    }

    /// Leaves in `output` the `input` of every rank, one after another. `input` may be this rank's part of `output`.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn all_gather(&self, output: &Tensor, input: &Tensor) -> Result<Work, CollectiveError> {
        self.all_gather_all(std::slice::from_ref(output), std::slice::from_ref(input))
    }

    /// The same for several pairs of tensors of one type, as one piece of work.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn all_gather_all(&self, outputs: &[Tensor], inputs: &[Tensor]) -> Result<Work, CollectiveError> {
        self.paired("all_gather", outputs, inputs)?;
        let (outputs, inputs) = (raw(outputs), raw(inputs));
        // SAFETY: as in `all_reduce_all`; both lists have the length given.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        self.begin("all_gather", |work| unsafe {
            hephaestus_all_gather(self.raw, outputs.as_ptr(), inputs.as_ptr(), inputs.len(), work)
        })
    }

    /// Overwrites a tensor by that of `root`, a rank in the group.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Work, CollectiveError> {
        self.broadcast_all(std::slice::from_ref(tensor), root)
    }

    /// The same for several tensors of one type, as one piece of work.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn broadcast_all(&self, tensors: &[Tensor], root: usize) -> Result<Work, CollectiveError> {
        let list = raw(tensors);
        let root = c_int::try_from(root).unwrap_or(c_int::MAX);
        // SAFETY: as in `all_reduce_all`.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        self.begin("broadcast", |work| unsafe { hephaestus_broadcast(self.raw, list.as_ptr(), list.len(), root, work) })
    }

    /// Done where every rank has begun it. Waiting for it keeps the host, on a GPU as well.
    ///
    /// # Errors
    /// As [`all_reduce`](Self::all_reduce).
    pub fn barrier(&self) -> Result<Work, CollectiveError> {
        // SAFETY: the group lives through the call, which writes work where it returns no error.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        self.begin("barrier", |work| unsafe { hephaestus_barrier(self.raw, work) })
    }

    fn paired(&self, name: &'static str, outputs: &[Tensor], inputs: &[Tensor]) -> Result<(), CollectiveError> {
        same_length(&[outputs.len(), inputs.len()]).map_err(|error| self.membership.failed(name, &error))
    }

    fn begin(&self, name: &'static str, call: impl FnOnce(Begun) -> *const c_char) -> Result<Work, CollectiveError> {
        let mut work = ptr::null_mut();
        checked(call(&raw mut work)).map_err(|error| self.membership.failed(name, &error))?;
        Ok(Work { raw: work, collective: name, membership: Arc::clone(&self.membership) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.raw.is_null() {
            return;
        }
        // SAFETY: it was opened and is dropped once; work that is under way keeps what it needs.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        unsafe {
            hephaestus_group_abandon(self.raw);
        }
    }
}

/// What is known of a group without waiting for it. A group that was closed is in good health.
#[derive(Debug)]
pub struct Health {
    raw: *mut RawHealth,
    membership: Arc<Membership>,
}

// SAFETY: any thread may ask; c10d locks what it answers from.
#[expect(unsafe_code, reason = "a pointer to what may change threads")]
unsafe impl Send for Health {}

impl Health {
    /// What NCCL's backend has found out by itself, as by a thread of its own it does: a collective that failed, or never
    /// ended. The thread that waits for a GPU may never come to tell of it. Gloo tells whoever waits, and nothing here.
    #[must_use]
    pub fn failed(&self) -> Option<CollectiveError> {
        // SAFETY: it was made of a group and is not dropped yet.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        let error = unsafe { hephaestus_health_error(self.raw) };
        let text = match error {
            0 => return None,
            1 => "timeout, as NCCL's backend found",
            _ => "an error of NCCL's, which its backend has logged above",
        };
        Some(self.membership.failed("collective", &TchError::Torch(text.to_owned())))
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        // SAFETY: it was made of a group and is dropped once.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        unsafe {
            hephaestus_health_drop(self.raw);
        }
    }
}

/// A collective under way. Until it has been waited for, its tensors are neither to be read nor written.
///
/// Dropped instead, it goes on by itself: its tensors stay alive until it has ended, but what is in them is anybody's guess,
/// and errors are not told. That is for leaving where something else has failed.
#[derive(Debug)]
#[must_use = "its tensors are not to be used before it has been waited for"]
pub struct Work {
    raw: *mut RawWork,
    collective: &'static str,
    membership: Arc<Membership>,
}

// SAFETY: any thread may wait for it; it is one thread's at a time.
#[expect(unsafe_code, reason = "a pointer to what may change threads")]
unsafe impl Send for Work {}

impl Work {
    /// Makes whatever is computed from now on see its result: on the CPU by waiting for it, on a GPU by making the current
    /// stream wait, but not the host. There a collective that fails ends the process, as NCCL's backend watches it.
    ///
    /// # Errors
    /// What went wrong, here or on another rank; no answer from others within the group's timeout.
    pub fn wait(self) -> Result<(), CollectiveError> {
        // SAFETY: it was begun, and lives through the call.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        let ended = unsafe { checked(hephaestus_work_wait(self.raw)) };
        ended.map_err(|error| self.membership.failed(self.collective, &error))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: it was begun and is dropped once; c10d keeps what is still in use.
        #[expect(unsafe_code, reason = "calls into native/groups.cpp")]
        unsafe {
            hephaestus_work_drop(self.raw);
        }
    }
}
