//! Several processes that train together.
//!
//! [`rendezvous`] is what a launcher says about them, [`slurm`] what Slurm's own notations mean, [`join`] how they find each
//! other, [`mesh`] which of them shard and which replicate, [`flat`] many tensors as one, [`sharding`] what ranks share of a
//! model. A [`World`] is what comes of it: every process, and the groups made of them.
//!
//! [`agree`] is what they agree on once a step, [`watch`] how one that fails takes all down, [`end`] how they end then,
//! `beat` what ranks say of themselves meanwhile, `report` what is said of it.

pub mod agree;
mod beat;
pub mod end;
pub mod flat;
pub mod join;
pub mod mesh;
pub mod rendezvous;
mod report;
pub mod sharding;
pub mod slurm;
pub mod watch;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tch::{Device, TchError};

use self::join::JoinError;
use self::rendezvous::Launch;
use crate::ffi::{CollectiveError, Group, Membership, Store};

/// All processes of a job, which have found each other.
///
/// Dropped without [`close`](Self::close), it is left as by a crash, without waiting for anything.
#[derive(Debug)]
pub struct World {
    launch: Launch,
    timeout: Duration,
    store: Store,
    /// What keys of this round begin with.
    round: String,
    /// Groups that were opened.
    opened: Mutex<HashSet<String>>,
    all: Group,
}

impl World {
    /// Finds the others, within `timeout`; that is also how long any of them is waited for in a collective. `device` is
    /// where the tensors of the group of all lie.
    ///
    /// # Errors
    /// Processes that do not come, or a network that refuses; the text says which.
    pub fn join(launch: Launch, device: Device, timeout: Duration) -> Result<Self, JoinError> {
        allow_sockets();
        let store = join::store(&launch, timeout)?;
        let round = join::round(&store, &launch, timeout)?;
        let opened = Mutex::default();
        let everyone = membership(&launch, "all ranks", (0..launch.world).collect(), device, timeout);
        let all = open(&store, &round, &opened, everyone)?;
        Ok(Self { launch, timeout, store, round, opened, all })
    }

    /// What the launcher said.
    #[must_use]
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// How long others are waited for.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The group of all.
    #[must_use]
    pub fn all(&self) -> &Group {
        &self.all
    }

    /// The store, for what is not worth a collective. Keys are [`key`](Self::key)s.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A key of the store that is this round's: after a restart there is nothing under it.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.round)
    }

    /// A group of some of the processes, this one among them, for tensors on `device`: each of `members` opens it, under the
    /// same name. Besides one on GPUs there may be one on CPUs, whose collectives do not wait for GPUs.
    ///
    /// # Errors
    /// Members that do not come, or a group opened twice.
    pub fn group(&self, name: &str, members: Vec<usize>, device: Device) -> Result<Group, CollectiveError> {
        open(&self.store, &self.round, &self.opened, membership(&self.launch, name, members, device, self.timeout))
    }

    /// Leaves together: waits until all are here, ends `groups`, the group of all, and the store last.
    ///
    /// # Errors
    /// Others that do not come.
    pub fn close(self, groups: Vec<Group>) -> Result<(), CollectiveError> {
        self.all.barrier()?.wait()?;
        for group in groups {
            group.close()?;
        }
        let left = |rank: usize| format!("{}/left/{rank}", self.round);
        self.all.close()?;
        if !self.launch.serves {
            // Who keeps the store may be gone already, if it has waited for long.
            let _ = self.store.set(&left(self.launch.rank), "");
            return Ok(());
        }
        let deadline = Instant::now() + self.timeout;
        for rank in 1..self.launch.world {
            let _ = self.store.get(&left(rank), deadline.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

/// Lets this process open as many files as it may allow itself: a group of all ranks over Gloo is a socket to each of the
/// others, there are two of them, and 1024 files is a usual limit.
fn allow_sockets() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, few ranks need no more.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn membership(launch: &Launch, name: &str, members: Vec<usize>, device: Device, timeout: Duration) -> Membership {
    Membership { name: name.to_owned(), rank: launch.rank, world: launch.world, members, device, timeout }
}

fn open(
    store: &Store,
    round: &str,
    opened: &Mutex<HashSet<String>>,
    membership: Membership,
) -> Result<Group, CollectiveError> {
    let on = if membership.device == Device::Cpu { "cpu" } else { "cuda" };
    let first = membership.members.first().copied().unwrap_or_default();
    let prefix = format!("{round}/{}/{on}/{first}", membership.name);
    if !opened.lock().unwrap_or_else(PoisonError::into_inner).insert(prefix.clone()) {
        let again = TchError::Torch("opened a second time: give each group a name of its own".to_owned());
        return Err(membership.failed("open", &again));
    }
    Group::open(store, &prefix, membership)
}
