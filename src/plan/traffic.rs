//! What ranks send each other in a step: bytes from the shapes alone.
//!
//! P parameters, each of the [`Units`] filled up to a multiple of S; w bytes of an element of the weights that compute, r of
//! one in which gradients are summed; W ranks in R = W / S copies of S shards; M micro-batches of a rank.
//!
//! A collective goes round a ring of n ranks, each of which sends as much as it receives (Patarasuk & Yuan 2009, "Bandwidth
//! optimal all-reduce algorithms for clusters of workstations"; NCCL's own account, `nccl-tests/doc/PERFORMANCE.md`): of b
//! bytes (n - 1) / n b in a reduce-scatter or an all-gather, twice that in an all-reduce, which is one after the other.
//! In these terms plain data parallelism and ZeRO-1 move as much, and full sharding half as much again (ZeRO, arXiv
//! 1910.02054, section 7), as long as w = r and M = 1.

use super::memory::{reduced, width};
use super::units::Units;
use super::{DistributedPlan, Plan};

/// Bytes that one rank sends in a step, by collective; it receives as many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Weights, among shards: (S - 1) / S w P after the update. Where weights are sharded, for every micro-batch before they
    /// are computed, forward and backward, the last unit and a tied embedding once.
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
        let units = Units::of(&plan.model.config);
        Self::new(units, plan.distributed, width(plan.device.arithmetic), plan.micro_batches())
    }

    /// That of so many micro-batches a rank over a model of `units`, whose elements are of `w` bytes.
    #[must_use]
    pub fn new(units: Units, distributed: DistributedPlan, w: u64, micro_batches: u64) -> Self {
        let DistributedPlan { world, shard, fully, reduce, .. } = distributed;
        let (units, r, shards) = (units.padded(shard), reduced(reduce), (shard as u64).max(1));
        let replicas = (world as u64 / shards).max(1);
        let (whole, part) = (units.total(), units.total() / shards);
        let sent = |bytes: u64| bytes / shards * (shards - 1);
        let (gathered, scattered) = match fully {
            false => (whole, whole),
            true => {
                // Still there when its backward pass begins; so is what is in use from the first to the last.
                let once = units.head.unwrap_or(units.embedding + if units.layers > 0 { units.layer } else { 0 });
                (micro_batches.saturating_mul(2 * whole - once), micro_batches.saturating_mul(whole))
            }
        };
        Self {
            all_gather: sent(gathered.saturating_mul(w)),
            reduce_scatter: sent(scattered.saturating_mul(r)),
            all_reduce: 2 * r * part * (replicas - 1) / replicas,
        }
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

    /// 1,000 elements.
    const UNITS: Units = Units { embedding: 200, layer: 160, layers: 3, head: Some(320) };

    fn traffic(world: usize, shard: usize, fully: bool, reduce: Reduction, micro_batches: u64) -> Traffic {
        let distributed = DistributedPlan { world, shard, fully, reduce, ..DistributedPlan::ALONE };
        Traffic::new(UNITS, distributed, 2, micro_batches)
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
    fn sharded_weights_are_gathered_twice_a_micro_batch_and_the_last_unit_once() {
        let gathered = 2 * (2 * 1000 - 320);
        let fsdp = traffic(8, 8, true, Reduction::Fp32, 3);
        let expected = Traffic { all_gather: 3 * gathered * 7 / 8, reduce_scatter: 3 * 4000 * 7 / 8, all_reduce: 0 };
        assert_eq!(fsdp, expected);
        // Of a tied model the embedding stays, and of the others the last layer.
        let tied = Units { head: None, ..UNITS };
        let distributed = DistributedPlan { world: 8, shard: 8, fully: true, ..DistributedPlan::ALONE };
        let expected = 2 * (2 * 680 - 200 - 160) * 7 / 8;
        assert_eq!(Traffic::new(tied, distributed, 2, 1).all_gather, expected);
    }

    #[test]
    fn copies_sum_their_shards_once_in_a_step() {
        for (fully, micro_batches) in [(false, 1), (true, 1), (true, 5)] {
            let hybrid = traffic(32, 8, fully, Reduction::Fp32, micro_batches);
            assert_eq!(hybrid.all_reduce, 2 * 3 * (4000 / 8) / 4);
        }
    }
}
