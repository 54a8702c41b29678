//! What all ranks agree on once a step, at no cost: it is asked where a step begins and answered by its end.

use tch::{Device, Tensor};

use super::World;
use crate::ffi::{CollectiveError, Group, Membership, Reduce, Work};

/// What there is to agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Whether to stop with a checkpoint: where any rank was asked to, all do.
    pub stop: bool,
    /// Whether a checkpoint is due: as rank 0 says, whose clock is the one that counts.
    pub save: bool,
}

/// A group of all ranks for that alone, between CPUs, so that no GPU is waited for.
#[derive(Debug)]
pub struct Agreement {
    /// None where a process is alone.
    group: Option<Group>,
}

impl Agreement {
    /// Of a process that is alone: what it says is agreed on.
    #[must_use]
    pub fn alone() -> Self {
        Self { group: None }
    }

    /// Among all ranks, as all of them open it.
    ///
    /// Its timeout is three quarters of the others': a rank that does not come is noticed here, where an error can be
    /// told, before NCCL's backend ends the process.
    ///
    /// # Errors
    /// As [`World::group`].
    pub fn open(world: &World) -> Result<Self, CollectiveError> {
        let launch = world.launch();
        let membership = Membership {
            name: "agreement of all ranks".to_owned(),
            rank: launch.rank,
            world: launch.world,
            members: (0..launch.world).collect(),
            device: Device::Cpu,
            timeout: world.timeout * 3 / 4,
        };
        Ok(Self { group: Some(super::open(&world.store, &world.round, &world.opened, membership)?) })
    }

    /// Says what this rank wants. Every rank begins as often as the others.
    ///
    /// # Errors
    /// Others that are gone.
    pub fn begin(&self, flags: Flags) -> Result<Pending, CollectiveError> {
        let Some(group) = &self.group else { return Ok(Pending { flags, asked: None }) };
        let save = flags.save && group.rank() == 0;
        let asked = Tensor::from_slice(&[i64::from(flags.stop), i64::from(save)]); // [2]
        let work = group.all_reduce(&asked, Reduce::Max)?;
        Ok(Pending { flags, asked: Some((asked, work)) })
    }

    /// The group, to be closed.
    #[must_use]
    pub fn into_groups(self) -> Vec<Group> {
        self.group.into_iter().collect()
    }
}

/// What is being agreed on.
#[derive(Debug)]
#[must_use = "all ranks are to wait for what they have begun"]
pub struct Pending {
    flags: Flags,
    asked: Option<(Tensor, Work)>,
}

impl Pending {
    /// What all have agreed on: the same on all ranks.
    ///
    /// # Errors
    /// Others that are gone, or do not come within the group's timeout.
    pub fn wait(self) -> Result<Flags, CollectiveError> {
        let Some((asked, work)) = self.asked else { return Ok(self.flags) };
        work.wait()?;
        let flag = |at: i64| asked.int64_value(&[at]) != 0;
        Ok(Flags { stop: flag(0), save: flag(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_alone_gets_what_it_says() {
        for flags in [Flags::default(), Flags { stop: true, save: false }, Flags { stop: false, save: true }] {
            assert_eq!(Agreement::alone().begin(flags).unwrap().wait().unwrap(), flags);
        }
    }
}
