//! Which parameters go over the network together. Free of tensors: plans count by them too.

use crate::distributed::flat::Arrangement;
use crate::hf::names::{self, ParameterSpec};
use crate::model::config::ModelConfig;
use crate::model::decoder::Part;

/// Elements that a unit has at least where layers may share one: 25 MB of gradients in fp32, which is what PyTorch's DDP takes
/// for its buckets (`bucket_cap_mb`; why buckets: Li et al. 2020, arXiv 2006.15704, section 3.2.2).
const LEAST: u64 = 25_000_000 / 4;

/// The parts of a model in units: what one collective goes over.
#[derive(Clone, Debug)]
pub struct Units {
    /// The parameters of each, by index, in canonical order; units in the order of the forward pass.
    pub parameters: Vec<Vec<usize>>,
    /// The unit of each part: embedding, layers, head.
    of_part: Vec<usize>,
    /// Of each unit the first part of the forward pass, and so the last of the backward pass.
    first: Vec<usize>,
}

impl Units {
    /// The units of a model: a layer each where its weights are `gathered` layer by layer, else as many layers as make a
    /// bucket. Tied, the head is the embedding, and so in its unit.
    #[must_use]
    pub fn of(config: &ModelConfig, gathered: bool) -> Self {
        let specs = names::parameters(config);
        let parts = config.layers + 2;
        let least = if gathered { 0 } else { LEAST };
        let tied = config.tied_embeddings;
        let sizes = of_parts(&specs, config.layers);
        // In the order of the backward pass, in which gradients come.
        let mut of_part = vec![0; parts];
        let (mut unit, mut size) = (0, 0);
        let last = if tied { parts - 2 } else { parts - 1 };
        for part in (1..=last).rev() {
            if size > 0 && size >= least.max(1) {
                (unit, size) = (unit + 1, 0);
            }
            of_part[part] = unit;
            size += sizes[part].iter().map(|at| specs[*at].elements()).sum::<u64>();
        }
        // The embedding's gradient is the last, and as large as a layer's: nothing is gained by waiting for it.
        of_part[0] = unit + 1;
        let count = unit + 2;
        of_part.iter_mut().for_each(|unit| *unit = count - 1 - *unit);
        if tied {
            of_part[parts - 1] = 0;
        }
        let mut parameters = vec![Vec::new(); count];
        sizes.iter().zip(&of_part).for_each(|(members, unit)| parameters[*unit].extend(members));
        let first = (0..count).filter_map(|unit| of_part.iter().position(|of| *of == unit)).collect();
        Self { parameters, of_part, first }
    }

    /// The unit of a part.
    #[must_use]
    pub fn of_part(&self, part: Part) -> usize {
        self.of_part[self.index(part)]
    }

    /// The unit whose gradients are all there when those of `part` are, if there is one.
    #[must_use]
    pub fn done(&self, part: Part) -> Option<usize> {
        let unit = self.of_part(part);
        (self.first[unit] == self.index(part)).then_some(unit)
    }

    /// Where the parameters of each unit lie in its buffer, which so many `shards` share.
    #[must_use]
    pub fn arrangements(&self, specs: &[ParameterSpec], shards: usize) -> Vec<Arrangement> {
        let shapes = |members: &Vec<usize>| members.iter().map(|at| specs[*at].shape.clone()).collect::<Vec<_>>();
        self.parameters.iter().map(|members| Arrangement::new(&shapes(members), shards)).collect()
    }

    fn index(&self, part: Part) -> usize {
        match part {
            Part::Embedding => 0,
            Part::Layer(layer) => layer + 1,
            Part::Head => self.of_part.len() - 1,
        }
    }
}

/// The parameters of each part, by index: the embedding, each layer, and the last norm with the head.
pub(crate) fn of_parts(specs: &[ParameterSpec], layers: usize) -> Vec<Vec<usize>> {
    let mut parts = vec![Vec::new(); layers + 2];
    for (at, spec) in specs.iter().enumerate() {
        let layer = spec.name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let part = match layer {
            Some(layer) => usize::min(layer, layers) + 1,
            None if spec.name == names::EMBEDDING => 0,
            None => layers + 1,
        };
        parts[part].push(at);
    }
    parts
}
