//! What all ranks agree on where a step begins. It goes between CPUs, so that no GPU is waited for, and takes as long as a
//! message goes round.

use tch::{Device, Tensor};

use super::World;
use crate::ffi::{CollectiveError, Group, Membership, Reduce};

/// What a rank says, and what all of them have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Whether to stop with a checkpoint: where any rank was asked to, all do.
    pub stop: bool,
    /// Whether a checkpoint is due: as rank 0 says, whose clock is the one that counts.
    pub save: bool,
    /// Sum of the loss weights of a rank's rows, and so of the global batch, in the loader's
    /// [`UNIT`](crate::corpus::loader::UNIT)s.
    pub weight: u64,
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

    /// What all have said, the same on all ranks, once each has said its own. Every rank asks as often as the others.
    ///
    /// # Errors
    /// Others that are gone, or do not come within the group's timeout.
    pub fn agree(&self, own: Word) -> Result<Word, CollectiveError> {
        let Some(group) = &self.group else { return Ok(own) };
        let save = own.save && group.rank() == 0;
        let said = Tensor::from_slice(&[i64::from(own.stop), i64::from(save), own.weight.cast_signed()]); // [3]
        group.all_reduce(&said, Reduce::Sum)?.wait()?;
        let sum = |at: i64| said.int64_value(&[at]);
        Ok(Word { stop: sum(0) > 0, save: sum(1) > 0, weight: sum(2).cast_unsigned() })
    }

    /// The group, to be closed.
    #[must_use]
    pub fn into_groups(self) -> Vec<Group> {
        self.group.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_alone_gets_what_it_says() {
        for word in [Word::default(), Word { stop: true, weight: 7, ..Word::default() }] {
            assert_eq!(Agreement::alone().agree(word).unwrap(), word);
        }
    }
}
