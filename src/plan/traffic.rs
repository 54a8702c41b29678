//! What ranks send each other in a step: bytes from the shapes alone.
//!
//! P parameters, each of the [`UnitSizes`] filled up for those who share it; w bytes of an element of the weights that compute, r
//! of one in which gradients are summed; W ranks in R = W / S copies of S shards; M micro-batches of a rank. The bytes are
//! those that a run counts (`communicated_bytes`).
//!
//! A collective goes round a ring of n ranks, each of which sends as much as it receives ([`around`]; NCCL's own account,
//! `nccl-tests/doc/PERFORMANCE.md`): of b bytes (n - 1) / n b in a reduce-scatter or an all-gather, twice that in an
//! all-reduce, which is one after the other.
//! In these terms plain data parallelism and ZeRO-1 move as much, and full sharding half as much again (ZeRO, arXiv
//! 1910.02054, section 7), as long as w = r and M = 1.

use super::memory::{reduced, width};
use super::units::UnitSizes;
use super::{DistributedPlan, Plan};
use crate::distributed::sharding::link::around;

/// Bytes that one rank sends in a step, by collective; it receives as many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Weights, among shards: (S - 1) / S w P after the update. Where weights are sharded, for every micro-batch before they
    /// are computed: layers forward and backward, but the last one, the embedding and the head once.
    pub all_gather: u64,
    /// Gradients, among shards: (S - 1) / S r P; where weights are sharded, for every micro-batch.
    pub reduce_scatter: u64,
    /// What comes of them, among copies: 2 (R - 1) / R r P / S, once.
    pub all_reduce: u64,
}

impl Traffic {
    /// That of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let units = UnitSizes::of(&plan.model.config, plan.distributed);
        Self::new(&units, plan.distributed, width(plan.device.arithmetic), plan.micro_batches())
    }

    /// That of so many micro-batches a rank over a model of `units`, whose elements are of `w` bytes.
    #[must_use]
    pub fn new(units: &UnitSizes, distributed: DistributedPlan, w: u64, micro_batches: u64) -> Self {
        let DistributedPlan { world, shard, fully, reduce, .. } = distributed;
        let (r, shard) = (reduced(reduce), shard.max(1));
        let (times, gathers) =
            if fully { (micro_batches, units.gathers()) } else { (1, vec![1; units.lengths().len()]) };
        let mut traffic = Self::default();
        for (length, gathers) in units.lengths().iter().zip(gathers) {
            traffic.all_gather += gathers * around(length * w, shard);
            traffic.reduce_scatter += around(length * r, shard);
            traffic.all_reduce += 2 * around(length / shard as u64 * r, world / shard);
        }
        traffic.all_gather = traffic.all_gather.saturating_mul(times);
        traffic.reduce_scatter = traffic.reduce_scatter.saturating_mul(times);
        traffic
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.all_gather.saturating_add(self.reduce_scatter).saturating_add(self.all_reduce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::sections::Reduction;

    fn traffic(world: usize, shard: usize, fully: bool, reduce: Reduction, micro_batches: u64) -> Traffic {
        let distributed = DistributedPlan { world, shard, fully, reduce, ..DistributedPlan::ALONE };
        // 1,000 elements.
        Traffic::new(&UnitSizes::example(false), distributed, 2, micro_batches)
    }

    #[test]
    fn one_rank_sends_nothing() {
        assert_eq!(traffic(1, 1, false, Reduction::Fp32, 3), Traffic::default());
    }

    #[test]
    fn data_parallel_ranks_reduce_once_in_a_step() {
        let ddp = Traffic { all_reduce: 2 * 7 * 4000 / 8, ..Traffic::default() };
        assert_eq!(traffic(8, 1, false, Reduction::Fp32, 1), ddp);
        assert_eq!(traffic(8, 1, false, Reduction::Fp32, 4), ddp);
        assert_eq!(traffic(8, 1, false, Reduction::Bf16, 4).all_reduce, ddp.all_reduce / 2);
    }

    #[test]
    fn a_sharded_optimizer_moves_as_much_where_weights_and_sums_are_of_one_type() {
        let zero1 = traffic(8, 8, false, Reduction::Bf16, 4);
        assert_eq!(zero1, Traffic { all_gather: 7 * 2000 / 8, reduce_scatter: 7 * 2000 / 8, all_reduce: 0 });
        assert_eq!(zero1.total(), traffic(8, 1, false, Reduction::Bf16, 4).total());
    }

    #[test]
    fn sharded_weights_are_gathered_twice_a_micro_batch_and_what_is_used_once_once() {
        let gathered = 2 * (2 * 1000 - 200 - 160 - 320);
        let fsdp = traffic(8, 8, true, Reduction::Fp32, 3);
        let expected = Traffic { all_gather: 3 * gathered * 7 / 8, reduce_scatter: 3 * 4000 * 7 / 8, all_reduce: 0 };
        assert_eq!(fsdp, expected);
        // Of a tied model the embedding stays, and of the others the last layer.
        let tied = UnitSizes::example(true);
        let distributed = DistributedPlan { world: 8, shard: 8, fully: true, ..DistributedPlan::ALONE };
        let expected = 2 * (2 * 680 - 200 - 160) * 7 / 8;
        assert_eq!(Traffic::new(&tied, distributed, 2, 1).all_gather, expected);
    }

    #[test]
    fn copies_sum_their_shards_once_in_a_step() {
        for (fully, micro_batches) in [(false, 1), (true, 1), (true, 5)] {
            let hybrid = traffic(32, 8, fully, Reduction::Fp32, micro_batches);
            assert_eq!(hybrid.all_reduce, 2 * 3 * (4000 / 8) / 4);
        }
    }
}
