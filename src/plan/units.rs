//! How large the units are in which ranks share a model. Which they are, and how each lies in its buffer, is the engine's to
//! say ([`sharding::units`](crate::distributed::sharding::units)), so that what a plan counts is what there will be.

use super::DistributedPlan;
use crate::distributed::sharding::units::{self, of_parts};
use crate::hf::names::{self, ParameterSpec};
use crate::model::config::ModelConfig;
use crate::model::decoder::Part;

/// The units of a model, by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSizes {
    /// Elements of each one's buffer, filled up for the ranks that share it, in the order of the forward pass.
    lengths: Vec<u64>,
    /// The parts in the order of the forward pass: the embedding, the layers, the head.
    parts: Vec<Share>,
    /// Whether the head is the embedding, whose unit is then the first and the last in use.
    tied: bool,
}

/// A part of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Elements of its own parameters.
    pub elements: u64,
    /// Its unit.
    pub unit: usize,
    /// Whether all gradients of the unit are there when the part's are.
    pub completes: bool,
}

impl UnitSizes {
    /// Those of a model among such ranks. One process alone has no buffers to fill up.
    #[must_use]
    pub fn of(config: &ModelConfig, distributed: DistributedPlan) -> Self {
        let DistributedPlan { world, shard, fully, .. } = distributed;
        let specs = names::parameters(config);
        let units = units::Units::of(config, fully || world <= 1);
        let elements = |members: &Vec<usize>| members.iter().map(|at| specs[*at].elements()).sum();
        let lengths = match world {
            0 | 1 => units.parameters.iter().map(elements).collect(),
            _ => units.arrangements(&specs, shard).iter().map(|unit| unit.length as u64).collect(),
        };
        Self { lengths, parts: shares(&units, &specs, config.layers), tied: config.tied_embeddings }
    }

    /// Elements of all buffers.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lengths.iter().sum()
    }

    /// Elements of each one's buffer, in the order of the forward pass.
    #[must_use]
    pub fn lengths(&self) -> &[u64] {
        &self.lengths
    }

    /// The parts in the order of the forward pass: the embedding, the layers, the head.
    #[must_use]
    pub fn parts(&self) -> &[Share] {
        &self.parts
    }

    /// Elements of the buffer of a part's unit.
    #[must_use]
    pub fn length(&self, part: usize) -> u64 {
        self.lengths[self.parts[part].unit]
    }

    /// Elements that are gathered while the weights of a part are in use, and those of `next` come, where weights are sharded:
    /// a tied embedding is there all the while.
    #[must_use]
    pub fn gathered(&self, part: Option<usize>, next: Option<usize>) -> u64 {
        let mut units: Vec<_> = part.into_iter().chain(next).map(|part| self.parts[part].unit).collect();
        units.extend(self.tied.then_some(0));
        units.sort_unstable();
        units.dedup();
        units.iter().map(|unit| self.lengths[*unit]).sum()
    }

    /// How often each unit is gathered for one micro-batch, where weights are sharded: layers for the forward pass and for the
    /// backward pass, between which the last one stays; the others once, as an embedding is looked up in the forward pass
    /// alone, and the head's backward pass comes with its forward pass.
    #[must_use]
    pub fn gathers(&self) -> Vec<u64> {
        let layers = 1..self.parts.len() - 1;
        let mut times = vec![1; self.lengths.len()];
        layers.rev().skip(1).for_each(|layer| times[self.parts[layer].unit] = 2);
        times
    }
}

fn shares(units: &units::Units, specs: &[ParameterSpec], layers: usize) -> Vec<Share> {
    let names = [Part::Embedding].into_iter().chain((0..layers).map(Part::Layer)).chain([Part::Head]);
    let shares = names.zip(of_parts(specs, layers)).map(|(part, members)| Share {
        elements: members.iter().map(|at| specs[*at].elements()).sum(),
        unit: units.of_part(part),
        completes: units.done(part).is_some(),
    });
    shares.collect()
}

#[cfg(test)]
impl UnitSizes {
    /// An embedding of 200, three layers of 160 and a head of 320; with `tied`, none of its own.
    pub(super) fn example(tied: bool) -> Self {
        let share = |elements, unit, completes| Share { elements, unit, completes };
        let mut parts = vec![share(200, 0, true), share(160, 1, true), share(160, 2, true), share(160, 3, true)];
        parts.push(if tied { share(0, 0, false) } else { share(320, 4, true) });
        let lengths = if tied { vec![200, 160, 160, 160] } else { vec![200, 160, 160, 160, 320] };
        Self { lengths, parts, tied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_units_side_by_side_are_gathered_and_a_tied_embedding_besides() {
        let (tied, untied) = (UnitSizes::example(true), UnitSizes::example(false));
        assert_eq!(untied.gathered(Some(3), Some(4)), 160 + 320);
        assert_eq!(untied.gathered(None, Some(2)), 160);
        assert_eq!(tied.gathered(Some(2), Some(1)), 200 + 2 * 160);
        assert_eq!(tied.gathered(Some(4), Some(3)), 200 + 160);
        assert_eq!(tied.gathered(None, None), 200);
    }

    #[test]
    fn the_last_layer_and_what_is_no_layer_are_gathered_once() {
        assert_eq!(UnitSizes::example(false).gathers(), [1, 2, 2, 1, 1]);
        assert_eq!(UnitSizes::example(true).gathers(), [1, 2, 2, 1]);
    }
}
