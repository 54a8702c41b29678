//! How long a step should take: a model of few terms, for choosing among settings and sizes before machines are rented.
//!
//! Computing takes the step's FLOPs ([`throughput::flops_a_token`]) of one rank, divided by the share of the GPU's peak that
//! is assumed to be reached (MFU); layers recomputed fully add their forward pass. A third of it is forward, two thirds are
//! backward, and micro-batches are alike.
//!
//! Communication takes the bytes of [`Traffic`] divided by the bandwidth of what they go over. Ranks of one node are joined by
//! its own links. A ring over several nodes leaves each of them once for every network card that its members there have, so
//! with k members a node it is k times as fast as one card, as far as the node's links keep up: a group of one rank a node has
//! one card's bandwidth, a group of all ranks of all nodes a node's (NCCL builds as many rings as there are cards).
//!
//! It is hidden behind computing, but for:
//!
//! - what takes longer than the computing it goes beside: gathering for forward beside a forward pass, gathering for backward
//!   and reducing beside a backward pass, which in `ddp` and `zero1` is that of the last micro-batch; `zero1` gathers beside
//!   the first forward pass after the update;
//! - the embedding's gradients, whose reduction begins when nothing is left to compute, and its weights, which are gathered
//!   before anything is computed;
//! - all of it beside CUDA graphs, which are recorded without.
//!
//! Not in it: latency, which counts for small models on many ranks; the update; the loader; validation and checkpoints.

use super::memory::width;
use super::traffic::Traffic;
use super::units::UnitSizes;
use super::{DistributedPlan, Plan};
use crate::metrics::throughput;
use crate::model::config::Recompute;

/// What is assumed of the machines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assumed {
    /// FLOP/s of one GPU at most.
    pub peak: f64,
    /// The share of it that the model's arithmetic reaches where it does not wait for others, 0 to 1.
    pub mfu: f64,
    /// GPUs of a node, a rank each.
    pub node_gpus: usize,
    /// Bytes a second from one GPU to others of its node, each way.
    pub node_link: f64,
    /// Bytes a second from one GPU's network card to other nodes, each way.
    pub network: f64,
}

/// Seconds of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Computing.
    pub compute: f64,
    /// Communication beside it.
    pub hidden: f64,
    /// Communication that is waited for.
    pub exposed: f64,
}

impl Speed {
    /// That of a plan on such machines.
    #[must_use]
    pub fn of(plan: &Plan, assumed: &Assumed) -> Self {
        let tokens = plan.rows_a_rank() as f64 * plan.data.sequence_length as f64;
        let compute = tokens * flops_a_token(plan) / (assumed.mfu * assumed.peak);
        let (traffic, micro) = (Traffic::of(plan), plan.micro_batches().max(1) as f64);
        let (shards, copies) = assumed.bandwidths(plan.distributed);
        let units = UnitSizes::of(&plan.model.config, plan.distributed);
        let embedding = units.length(0) as f64 / (units.total() as f64).max(1.0);
        let [gather, scatter] = [traffic.all_gather, traffic.reduce_scatter].map(|bytes| bytes as f64 / shards);
        let sum = traffic.all_reduce as f64 / copies;
        let (forward, backward) = (compute / micro / 3.0, compute / micro * 2.0 / 3.0);
        let beyond = |communication: f64, computing: f64| (communication - computing).max(0.0);
        let exposed = if plan.distributed.fully {
            // Of one micro-batch: forward gathers all, backward what is not there any more.
            let [gather, scatter] = [gather, scatter].map(|seconds| seconds / micro);
            let first = gathered_once(plan, &units, shards);
            let again = (gather - first).max(0.0);
            let ends = first * embedding + (scatter + sum) * embedding;
            let last = (1.0 - embedding) * (scatter + sum) + again;
            let others = (micro - 1.0) * (beyond(first, forward) + beyond(again + scatter, backward));
            others + beyond(first * (1.0 - embedding), forward) + beyond(last, backward) + ends
        } else {
            let reduced = scatter + sum;
            let (forward, backward) = if plan.device.graphs { (0.0, 0.0) } else { (forward, backward) };
            let others = 1.0 - embedding;
            (gather + reduced) * embedding + beyond(gather * others, forward) + beyond(reduced * others, backward)
        };
        Self { compute, hidden: (gather + scatter + sum - exposed).max(0.0), exposed }
    }

    /// The whole step.
    #[must_use]
    pub fn step(&self) -> f64 {
        self.compute + self.exposed
    }
}

/// Seconds to gather all weights once.
fn gathered_once(plan: &Plan, units: &UnitSizes, bandwidth: f64) -> f64 {
    let zero1 = DistributedPlan { fully: false, ..plan.distributed };
    let once = Traffic::new(units, zero1, width(plan.device.arithmetic), 1);
    once.all_gather as f64 / bandwidth
}

impl Assumed {
    /// Bytes a second that a rank sends in a collective among shards, and among copies.
    fn bandwidths(&self, distributed: DistributedPlan) -> (f64, f64) {
        let DistributedPlan { world, shard, .. } = distributed;
        let node = self.node_gpus.max(1);
        // Shards lie side by side, copies a shard group apart.
        let shards = self.ring(shard, shard.min(node));
        let copies = self.ring(world / shard.max(1), (node.min(world) / shard.max(1)).max(1));
        (shards, copies)
    }

    /// The same of a ring of so many ranks, of which so many are in one node.
    fn ring(&self, ranks: usize, in_node: usize) -> f64 {
        if ranks <= in_node { self.node_link } else { (self.network * in_node as f64).min(self.node_link) }
    }
}

/// FLOPs of a token, forward and backward, with the forward pass of what is computed again.
fn flops_a_token(plan: &Plan) -> f64 {
    let config = &plan.model.config;
    let once = throughput::flops_a_token(config, plan.data.sequence_length);
    let again = plan.model.recompute.iter().filter(|layer| **layer == Recompute::Full).count();
    // The head is multiplied once for each token, and no layer computes it again.
    let head = 6.0 * (config.vocab_size * config.hidden_size) as f64;
    once + (once - head) / 3.0 * again as f64 / config.layers.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSUMED: Assumed = Assumed { peak: 1e15, mfu: 0.4, node_gpus: 8, node_link: 450e9, network: 50e9 };

    fn bandwidths(world: usize, shard: usize) -> (f64, f64) {
        ASSUMED.bandwidths(DistributedPlan { world, shard, ..DistributedPlan::ALONE })
    }

    #[test]
    fn a_ring_is_as_fast_as_what_its_members_in_a_node_have_together() {
        // All in one node, and copies nowhere.
        assert_eq!(bandwidths(8, 8).0, 450e9);
        // Shards of a node, copies one a node: a network card each.
        assert_eq!(bandwidths(128, 8), (450e9, 50e9));
        // Shards over all nodes use all cards of each; so do copies of everything.
        assert_eq!(bandwidths(128, 128).0, 400e9);
        assert_eq!(bandwidths(128, 1).1, 400e9);
        // Two shard groups in a node, and so two copies.
        assert_eq!(bandwidths(8, 4), (450e9, 450e9));
        assert_eq!(bandwidths(128, 4), (450e9, 100e9));
        // Links slower than the cards.
        let slow = Assumed { node_link: 32e9, ..ASSUMED };
        assert_eq!(slow.bandwidths(DistributedPlan { world: 128, shard: 128, ..DistributedPlan::ALONE }).0, 32e9);
    }
}
