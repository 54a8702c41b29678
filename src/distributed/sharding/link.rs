//! The groups that a rank shares the work with, and how many bytes went over them.

use std::cell::Cell;

use tch::{Device, Kind, TchError, Tensor};

use super::StepError;
use crate::distributed::World;
use crate::distributed::mesh::{Mesh, MeshGroups};
use crate::ffi::{CollectiveError, Group, Health, Reduce, Work};

/// The groups of a rank. A group of one, which has nothing to tell, is none.
#[derive(Debug)]
pub struct Link {
    mesh: Mesh,
    rank: usize,
    groups: MeshGroups,
    /// Where memory is tried, nothing is sent.
    silent: Cell<bool>,
    sent: Cell<u64>,
}

impl Link {
    /// Opens the groups of `mesh`, as every rank of `world` does.
    ///
    /// # Errors
    /// Ranks that do not come.
    pub fn open(world: &World, mesh: Mesh, device: Device) -> Result<Self, CollectiveError> {
        let rank = world.launch().rank;
        let groups = mesh.open(world, device)?;
        Ok(Self { mesh, rank, groups, silent: Cell::new(false), sent: Cell::new(0) })
    }

    /// Which ranks shard and which replicate.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        self.mesh
    }

    /// Which shard this rank holds.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.rank % self.mesh.shard
    }

    /// Which copy this rank has a shard of.
    #[must_use]
    pub fn replica(&self) -> usize {
        self.rank / self.mesh.shard
    }

    /// How the groups are, for a thread that looks after them.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        self.groups.health()
    }

    /// The groups, to be closed.
    #[must_use]
    pub fn into_groups(self) -> Vec<Group> {
        self.groups.into_groups()
    }

    /// Sends nothing while `silent`: what is gathered is then whatever lies in memory.
    pub(super) fn set_silent(&self, silent: bool) {
        self.silent.set(silent);
    }

    /// Bytes that this rank has sent since this was last asked: once [`around`] in a gather or a scatter, twice in an
    /// all-reduce.
    pub(super) fn take_sent(&self) -> u64 {
        self.sent.take()
    }

    /// Fills `whole` with the parts of all shards; `part` is this rank's, and may lie in it.
    pub(super) fn gather(&self, whole: &Tensor, part: &Tensor) -> Result<Option<Work>, CollectiveError> {
        self.begun(whole, self.mesh.shard, 1, self.groups.shard.as_ref(), |group| group.all_gather(whole, part))
    }

    /// Leaves in `part` this rank's part of the sum of `whole` over all shards.
    pub(super) fn scatter(&self, part: &Tensor, whole: &Tensor) -> Result<Option<Work>, CollectiveError> {
        self.begun(whole, self.mesh.shard, 1, self.groups.shard.as_ref(), |group| {
            group.reduce_scatter(part, whole, Reduce::Sum)
        })
    }

    /// Sums `x` over all copies.
    pub(super) fn sum(&self, x: &Tensor) -> Result<Option<Work>, CollectiveError> {
        self.begun(x, self.mesh.replicate, 2, self.groups.replicate.as_ref(), |group| group.all_reduce(x, Reduce::Sum))
    }

    /// Sums `x` over all ranks: over the shards, then over the copies. All copies of a shard get the same to the last bit.
    pub(super) fn sum_over_all(&self, x: &Tensor) -> Result<(), StepError> {
        for group in [&self.groups.shard, &self.groups.replicate].into_iter().flatten() {
            if !self.silent.get() {
                group.all_reduce(x, Reduce::Sum)?.wait()?;
            }
        }
        Ok(())
    }

    fn begun<G>(
        &self,
        whole: &Tensor,
        ranks: usize,
        times: u64,
        group: Option<G>,
        begin: impl FnOnce(G) -> Result<Work, CollectiveError>,
    ) -> Result<Option<Work>, CollectiveError> {
        let Some(group) = group.filter(|_| !self.silent.get()) else { return Ok(None) };
        let bytes = (whole.numel() * whole.kind().elt_size_in_bytes()) as u64;
        self.sent.set(self.sent.get() + times * around(bytes, ranks));
        begin(group).map(Some)
    }
}

/// Bytes that each of so many ranks sends while so many `bytes` go once around a ring of them (Patarasuk & Yuan 2009,
/// doi.org/10.1016/j.jpdc.2008.09.002).
#[must_use]
pub fn around(bytes: u64, ranks: usize) -> u64 {
    let ranks = (ranks as u64).max(1);
    bytes / ranks * (ranks - 1) + bytes % ranks * (ranks - 1) / ranks
}

/// Waits for what was begun, if anything was.
pub(super) fn wait(work: Option<Work>) -> Result<(), CollectiveError> {
    work.map_or(Ok(()), Work::wait)
}

/// A tensor of another element type, or the same.
pub(super) fn of_kind(x: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    if x.kind() == kind { Ok(x.shallow_clone()) } else { x.f_to_kind(kind) }
}
