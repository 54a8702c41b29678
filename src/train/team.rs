//! The ranks that carry out a plan together, as one of them sees them; or one process alone, which does the same.

use anyhow::Context as _;
use tch::Tensor;

use super::refusal;
use super::stop::Stop;
use crate::checkpoint::Together;
use crate::distributed::World;
use crate::distributed::agree::{Agreement, Word};
use crate::distributed::watch::{Settings, Watch};
use crate::ffi::{CollectiveError, Group, Health, Reduce};
use crate::plan::Machine;

/// This process among those that train together.
#[derive(Debug)]
pub struct Team<'a> {
    world: Option<&'a World>,
    together: Together<'a>,
    agreement: Agreement,
    watch: Option<Watch>,
}

impl<'a> Team<'a> {
    /// One process alone.
    #[must_use]
    pub fn alone() -> Self {
        Self { world: None, together: Together::alone(), agreement: Agreement::alone(), watch: None }
    }

    /// All ranks of a world, which from now on watch over each other: one that fails or panics ends all. `stop` is what asks this
    /// one to stop.
    ///
    /// # Errors
    /// Ranks that do not come, or a store that is gone.
    pub fn of(world: &'a World, stop: &Stop) -> anyhow::Result<Self> {
        let stop = stop.clone();
        let watch = Watch::begin(world, Settings::default(), move || stop.asked())?;
        watch.on_panic(refusal::is_thrown);
        let agreement = Agreement::open(world).unwrap_or_else(|error| watch.failed(&error));
        Ok(Self { world: Some(world), together: Together::of(world), agreement, watch: Some(watch) })
    }

    /// The ranks; `None` for a process alone.
    #[must_use]
    pub fn world(&self) -> Option<&'a World> {
        self.world
    }

    /// Whether there is no other rank.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.world.is_none()
    }

    /// This process among the ranks.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.together.rank()
    }

    /// What all ranks bring about or none.
    #[must_use]
    pub fn together(&self) -> &Together<'a> {
        &self.together
    }

    /// A machine of which every rank plans alike: with the least memory that any of them has for itself.
    ///
    /// # Errors
    /// Other ranks that are gone.
    pub fn alike(&self, mut machine: Machine) -> anyhow::Result<Machine> {
        let Some(world) = self.world else { return Ok(machine) };
        // The ranks of a machine share its memory.
        let sharing = machine.ranks.local_world.max(1) as u64;
        machine.memory /= sharing;
        let own = machine.cuda.get_mut(machine.ranks.local_rank).map(|gpu| &mut gpu.memory);
        let memories = [Some(&mut machine.memory), own];
        let least = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let all: Vec<_> =
            memories.iter().map(|memory| memory.as_ref().map_or(i64::MAX, |bytes| least(**bytes))).collect();
        let all = Tensor::from_slice(&all); // [2]
        world.all().all_reduce(&all, Reduce::Min)?.wait()?;
        for (at, memory) in memories.into_iter().enumerate() {
            if let Some(memory) = memory {
                *memory = all.f_int64_value(&[at as i64])?.cast_unsigned();
            }
        }
        machine.memory *= sharing;
        Ok(machine)
    }

    /// Looks after groups whose failure the thread that waits for a GPU may never come to tell.
    ///
    /// # Errors
    /// No thread.
    pub fn look_after(&self, groups: Vec<Health>) -> std::io::Result<()> {
        let Some(watch) = self.watch.as_ref().filter(|_| !groups.is_empty()) else { return Ok(()) };
        watch.over(move || groups.iter().find_map(Health::failed))
    }

    /// Says where this rank is: the step, and what it does there, in a word or two.
    pub fn at(&self, step: u64, doing: &'static str) {
        if let Some(watch) = &self.watch {
            watch.at(step, doing);
        }
    }

    /// What all say; see [`Agreement::agree`].
    ///
    /// # Errors
    /// Other ranks that are gone.
    pub fn agree(&self, own: Word) -> Result<Word, CollectiveError> {
        self.agreement.agree(own)
    }

    /// Whether it is so on any rank; all wait for that.
    ///
    /// # Errors
    /// Other ranks that are gone.
    pub fn any(&self, here: bool) -> Result<bool, CollectiveError> {
        Ok(self.agree(Word { stop: here, ..Word::default() })?.stop)
    }

    /// What a run came to. Where it failed on one of many ranks, that ends all of them, with one report.
    ///
    /// # Errors
    /// Of a process alone, the run's own.
    pub fn judged<T>(&self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        match (&outcome, &self.watch) {
            (Err(error), Some(watch)) => watch.failed(error.as_ref()),
            _ => outcome,
        }
    }

    /// Waits until every rank is here, and ends groups that none of them uses any more.
    ///
    /// # Errors
    /// Ranks that do not come.
    pub fn close(&self, groups: Vec<Group>) -> anyhow::Result<()> {
        let Some(world) = self.world else { return Ok(()) };
        world.all().barrier()?.wait()?;
        groups.into_iter().try_for_each(Group::close).context("ending a group of ranks")
    }

    /// Leaves together: no rank watches any more. Returns the groups that are to be closed with the world. Ranks that do not
    /// come end the job.
    #[must_use]
    pub fn leave(mut self) -> Vec<Group> {
        if let (Some(world), Some(watch)) = (self.world, &mut self.watch)
            && let Err(error) = watch.leave(world)
        {
            watch.failed(&error);
        }
        self.agreement.into_groups()
    }
}
