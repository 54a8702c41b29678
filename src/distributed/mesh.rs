//! Ranks as a mesh of replicas by shards.
//!
//! Ranks are numbered along the shards first, so that those that shard among themselves lie side by side, which is inside a
//! node: of 8 ranks in shards of 4, `[0 1 2 3]` and `[4 5 6 7]` shard, `[0 4]`, `[1 5]`, `[2 6]` and `[3 7]` replicate.

use tch::Device;

use super::World;
use crate::ffi::{CollectiveError, Group, Health};

/// How many ranks hold one copy together, and how many copies there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Copies.
    pub replicate: usize,
    /// Ranks that hold one copy together, a shard each.
    pub shard: usize,
}

impl Mesh {
    /// The mesh of `world` ranks in which `shard` of them hold a copy; `None` where that does not come out even.
    #[must_use]
    pub fn new(world: usize, shard: usize) -> Option<Self> {
        let even = shard > 0 && world > 0 && world.is_multiple_of(shard);
        even.then(|| Self { replicate: world / shard, shard })
    }

    /// The ranks that hold a copy together with `rank`, in the order of their shards.
    #[must_use]
    pub fn shards(self, rank: usize) -> Vec<usize> {
        let first = rank / self.shard * self.shard;
        (first..first + self.shard).collect()
    }

    /// The ranks that hold the same shard as `rank`, in the order of their copies.
    #[must_use]
    pub fn replicas(self, rank: usize) -> Vec<usize> {
        (0..self.replicate).map(|copy| copy * self.shard + rank % self.shard).collect()
    }

    /// Opens the two groups that this process is in, as all processes of `world` do.
    ///
    /// # Errors
    /// As [`World::group`].
    pub fn open(self, world: &World, device: Device) -> Result<MeshGroups, CollectiveError> {
        let rank = world.launch().rank;
        let open = |name, members: Vec<usize>| {
            let tells = members.len() > 1 || world.launch().world == 1;
            if device.is_cuda() {
                // NCCL waits for a member that does not come without a limit: they meet first where there is one.
                world.all().barrier()?.wait()?;
            }
            tells.then(|| world.group(name, members, device)).transpose()
        };
        Ok(MeshGroups {
            shard: open("shard group", self.shards(rank))?,
            replicate: open("replicate group", self.replicas(rank))?,
        })
    }
}

/// The groups of a mesh that this process is in. One of this process alone is none, but where there is no other process: then
/// all goes the way that it goes with others.
#[derive(Debug)]
pub struct MeshGroups {
    /// Those who hold one copy together.
    pub shard: Option<Group>,
    /// Those who hold the same shard.
    pub replicate: Option<Group>,
}

impl MeshGroups {
    /// How they are, for a thread that looks after them.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        [&self.shard, &self.replicate].into_iter().flatten().map(Group::health).collect()
    }

    /// The groups, to be closed.
    #[must_use]
    pub fn into_groups(self) -> Vec<Group> {
        [self.shard, self.replicate].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_lie_side_by_side_and_replicas_a_node_apart() {
        let mesh = Mesh::new(8, 4).unwrap();
        assert_eq!(mesh, Mesh { replicate: 2, shard: 4 });
        assert_eq!((mesh.shards(5), mesh.replicas(5)), (vec![4, 5, 6, 7], vec![1, 5]));
    }

    #[test]
    fn every_rank_is_where_its_groups_say_and_they_meet_in_it_alone() {
        for (world, shard) in [(1, 1), (6, 1), (6, 2), (6, 3), (6, 6)] {
            let mesh = Mesh::new(world, shard).unwrap();
            for rank in 0..world {
                let (shards, replicas) = (mesh.shards(rank), mesh.replicas(rank));
                assert_eq!((shards.len(), replicas.len()), (shard, world / shard));
                assert_eq!((shards[rank % shard], replicas[rank / shard]), (rank, rank));
                assert_eq!(shards.iter().filter(|other| replicas.contains(other)).count(), 1);
                assert!(shards.iter().all(|&other| mesh.shards(other) == shards));
            }
        }
    }

    #[test]
    fn shards_that_do_not_come_out_even_are_none() {
        for (world, shard) in [(8, 3), (4, 8), (4, 0), (0, 1)] {
            assert_eq!(Mesh::new(world, shard), None);
        }
    }
}
