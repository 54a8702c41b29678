//! What ranks share of a model, and how it goes over the network: one design for data parallelism (DDP), a sharded optimizer
//! (ZeRO-1, Rajbhandari et al. 2020, arXiv 1910.02054), fully sharded weights (ZeRO-3; FSDP, Zhao et al. 2023,
//! arXiv 2304.11277) and hybrids of them.
//!
//! R x S ranks are a mesh of R copies in S shards. A copy's weights lie in flat buffers, one a unit ([`units`]). Of each unit a
//! rank owns the S-th part: its gradients are summed over the shards, each of which gets its own part of the sum, then over
//! the copies (`gradients`); its optimizer updates that part alone; then all parts are gathered ([`weights`]). With S = 1
//! that is DDP, with S > 1 ZeRO-1. Where weights are `fully` sharded, the gathered ones are freed after use and gathered again.
//!
//! All of it is begun as the passes go on ([`Moment`]) and waited for when it is needed: gradients of a unit are summed while
//! those of the units before it are computed, updated weights are gathered while the next forward pass goes on, and weights
//! that come and go are gathered one unit ahead.

mod gradients;
pub mod link;
pub mod units;
pub mod weights;

use tch::{Device, Kind, TchError, Tensor};

use self::gradients::{Gradients, Way, view};
use self::link::Link;
use self::units::Units;
use self::weights::Weights;
use super::flat::{Arrangement, Piece};
use crate::ffi::{self, CollectiveError, Group, Health};
use crate::hf::names::{self, ParameterSpec};
use crate::model::config::ModelConfig;
use crate::model::decoder::{Moment, Part};
use crate::model::parameters::Parameters;
use crate::optim::slice::Held;

/// Why a step ended early.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// libtorch refused.
    #[error(transparent)]
    Torch(#[from] TchError),
    /// Another rank failed, or the network.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}

/// Which micro-batch of a step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The first.
    pub first: bool,
    /// The last.
    pub last: bool,
}

/// What this rank holds of a model's weights and gradients, and what it shares.
#[derive(Debug)]
pub struct Sharding {
    units: Units,
    layers: usize,
    /// Of the model, in canonical order.
    parameters: Vec<Tensor>,
    gradients: Vec<Gradients>,
    way: Way,
    together: Option<Together>,
}

/// What there is besides where several ranks share.
#[derive(Debug)]
struct Together {
    link: Link,
    weights: Weights,
    arrangements: Vec<Arrangement>,
    /// Of this rank's part, by unit.
    pieces: Vec<Vec<Piece>>,
    specs: Vec<ParameterSpec>,
}

impl Sharding {
    /// A process that shares nothing with anyone, over parameters in canonical order.
    #[must_use]
    pub fn alone(config: &ModelConfig, parameters: &Parameters) -> Self {
        let units = Units::of(config, true);
        let gradients = units.parameters.iter().map(|_| Gradients::default()).collect();
        let way = Way { reduce: Kind::Float, fully: false, computed: parameters.kind() };
        let parameters = parameters.tensors().iter().map(Tensor::shallow_clone).collect();
        Self { units, layers: config.layers, parameters, gradients, way, together: None }
    }

    /// One rank of a mesh, with its parameters: zeros as yet. With `fully`, those are only there while they are used.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn zeros(
        config: &ModelConfig,
        link: Link,
        fully: bool,
        reduce: Kind,
        kind: Kind,
        device: Device,
    ) -> Result<(Self, Parameters), TchError> {
        let specs = names::parameters(config);
        let units = Units::of(config, fully);
        let (shards, shard) = (link.mesh().shard, link.shard());
        let count = units.parameters.len();
        let arrangements = units.arrangements(&specs, shards);
        let weights = Weights::zeros(&arrangements, shard, fully, kind, device)?;
        let parameters = Parameters::new(specs.clone(), weights.parameters(&units, &specs))?;
        let sharding = Self {
            layers: config.layers,
            parameters: parameters.tensors().iter().map(Tensor::shallow_clone).collect(),
            gradients: (0..count).map(|_| Gradients::default()).collect(),
            way: Way { reduce, fully, computed: kind },
            together: Some(Together {
                link,
                weights,
                pieces: arrangements.iter().map(|unit| unit.pieces(shard)).collect(),
                arrangements,
                specs,
            }),
            units,
        };
        Ok((sharding, parameters))
    }

    /// What this rank updates, in canonical order.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn held(&self) -> Result<Vec<Held>, TchError> {
        let Some(Together { weights, pieces, specs, .. }) = &self.together else {
            let all = self.parameters.iter().enumerate();
            return Ok(all.map(|(at, x)| Held { parameter: at, from: 0, weight: x.shallow_clone() }).collect());
        };
        let mut all = Vec::new();
        for (unit, pieces) in pieces.iter().enumerate() {
            for piece in pieces {
                let parameter = self.units.parameters[unit][piece.member];
                let weight = view(weights.own(unit), piece, &specs[parameter].shape)?;
                all.push(Held { parameter, from: piece.elements.start, weight });
            }
        }
        all.sort_by_key(|held| held.parameter);
        Ok(all)
    }

    /// Does what is due at a moment of a training pass, or without a `turn` of one that learns nothing.
    ///
    /// # Errors
    /// Another rank that failed, or whatever libtorch refuses.
    pub fn at(&mut self, moment: Moment, turn: Option<Turn>) -> Result<(), StepError> {
        self.bring(moment, turn.is_some())?;
        // What the micro-batch before has left under way has had a forward pass to arrive, and takes memory.
        if let (Moment::Forward(Part::Head), Some(_)) = (moment, turn) {
            self.advance()?;
        }
        if let (Moment::Done(part), Some(turn)) = (moment, turn)
            && let Some(unit) = self.units.done(part)
        {
            let members = &self.units.parameters[unit];
            let members: Vec<_> = members.iter().map(|at| self.parameters[*at].shallow_clone()).collect();
            let found = members.iter().map(Tensor::grad).collect();
            ffi::forget_gradients(&members)?;
            self.done(unit, found, turn)?;
        }
        Ok(())
    }

    /// Takes the gradients of all parameters at once.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn take(&mut self, gradients: &[Tensor], turn: Turn) -> Result<(), StepError> {
        for unit in (0..self.gradients.len()).rev() {
            let found = self.units.parameters[unit].iter().map(|at| gradients[*at].shallow_clone());
            self.done(unit, found.collect(), turn)?;
        }
        Ok(())
    }

    /// Brings the weights that `moment` is about, and those that come next; lets go of those that it has done with.
    fn bring(&mut self, moment: Moment, learns: bool) -> Result<(), StepError> {
        let Some(Together { link, weights, .. }) = &mut self.together else { return Ok(()) };
        let (units, layers) = (&self.units, self.layers);
        match moment {
            Moment::Forward(part) | Moment::Backward(part) => {
                weights.need(units.of_part(part), link)?;
                if let Some(next) = next(moment, layers, learns) {
                    weights.begin(units.of_part(next), link)?;
                }
            }
            Moment::Computed(part) => {
                let unit = units.of_part(part);
                let needed = match part {
                    Part::Embedding => unit == units.of_part(Part::Head),
                    // The backward pass begins with it.
                    Part::Layer(layer) => learns && layer + 1 == layers,
                    Part::Head => false,
                };
                if !needed {
                    weights.release(unit);
                }
            }
            Moment::Done(part) => {
                if let Some(unit) = units.done(part) {
                    weights.release(unit);
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, unit: usize, found: Vec<Tensor>, turn: Turn) -> Result<(), StepError> {
        // First what was begun before: it may go on while this goes out.
        self.advance()?;
        let Some(Together { link, arrangements, .. }) = &self.together else {
            return Ok(self.gradients[unit].add(found, turn, self.way)?);
        };
        self.gradients[unit].send(found, turn, self.way, &arrangements[unit], link)
    }

    /// Goes on with sums that are under way, by one stage.
    fn advance(&mut self) -> Result<(), StepError> {
        let Some(Together { link, .. }) = &self.together else { return Ok(()) };
        self.gradients.iter_mut().try_for_each(|unit| unit.advance(link))
    }

    /// The gradients of what this rank updates, in the order of [`held`](Self::held), when all are summed.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn gradients(&mut self) -> Result<Vec<Tensor>, StepError> {
        let mut all = Vec::new();
        for (unit, gradients) in self.gradients.iter_mut().enumerate() {
            let members = &self.units.parameters[unit];
            match &self.together {
                None => all.extend(members.iter().copied().zip(gradients.each())),
                Some(Together { link, pieces, specs, .. }) => {
                    gradients.finish(link)?;
                    for piece in &pieces[unit] {
                        let parameter = members[piece.member];
                        all.push((parameter, gradients.piece(piece, &specs[parameter].shape)?));
                    }
                }
            }
        }
        all.sort_by_key(|(parameter, _)| *parameter);
        Ok(all.into_iter().map(|(_, gradient)| gradient).collect())
    }

    /// `norm`, the norm of this rank's [`gradients`](Self::gradients), and `others`, sums of its own rows: over all ranks.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn over_all<const N: usize>(
        &self,
        norm: Tensor,
        others: [Tensor; N],
    ) -> Result<(Tensor, [Tensor; N]), StepError> {
        let Some(Together { link, .. }) = &self.together else { return Ok((norm, others)) };
        // Every copy has the same gradients, of which one counts.
        let square = if link.replica() == 0 { norm.f_square()? } else { norm.f_zeros_like()? };
        let mut all = vec![square.f_view([-1])?];
        for other in &others {
            all.push(other.f_view([-1])?);
        }
        let all = Tensor::f_cat(&all, 0)?;
        link.sum_over_all(&all)?;
        let mut at = 1;
        let sums = others.map(|other| {
            let from = at;
            at += other.numel() as i64;
            all.narrow(0, from, at - from).view_as(&other)
        });
        Ok((all.f_select(0, 0)?.f_sqrt()?, sums))
    }

    /// `x` summed over all ranks.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn sum(&self, x: Tensor) -> Result<Tensor, StepError> {
        if let Some(Together { link, .. }) = &self.together {
            link.sum_over_all(&x)?;
        }
        Ok(x)
    }

    /// Waits for weights on their way; those that come and go are left as they are.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn settle(&mut self) -> Result<(), StepError> {
        if let Some(Together { link, weights, .. }) = &mut self.together
            && !self.way.fully
        {
            for unit in 0..self.gradients.len() {
                weights.need(unit, link)?;
            }
        }
        Ok(())
    }

    /// What this rank holds has been updated, and its gradients are spent.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn updated(&mut self) -> Result<(), StepError> {
        self.gradients.iter_mut().for_each(|unit| unit.forget(self.way));
        if let Some(Together { link, weights, .. }) = &mut self.together {
            weights.updated(link)?;
        }
        Ok(())
    }

    /// Forgets gradients with the memory of their sums, and weights that a pass which was broken off has gathered.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn forget(&mut self) -> Result<(), TchError> {
        self.gradients.iter_mut().for_each(|unit| *unit = Gradients::default());
        if let Some(Together { weights, .. }) = &mut self.together {
            weights.let_go();
        }
        ffi::forget_gradients(&self.parameters)
    }

    /// Makes all weights there, unit by unit, and shows each parameter with its index.
    ///
    /// # Errors
    /// As [`at`](Self::at), and those of `see`.
    pub fn visit(&mut self, mut see: impl FnMut(usize, &Tensor) -> Result<(), StepError>) -> Result<(), StepError> {
        for (unit, members) in self.units.parameters.iter().enumerate() {
            if let Some(Together { link, weights, .. }) = &mut self.together {
                weights.need(unit, link)?;
            }
            members.iter().try_for_each(|at| see(*at, &self.parameters[*at]))?;
            if let Some(Together { weights, .. }) = &mut self.together {
                weights.release(unit);
            }
        }
        Ok(())
    }

    /// Sends nothing while `silent`, to try how much memory a step takes. Weights of other ranks, where they come and go,
    /// and sums are then whatever lies in memory.
    pub fn set_silent(&self, silent: bool) {
        if let Some(Together { link, .. }) = &self.together {
            link.set_silent(silent);
        }
    }

    /// Bytes that this rank has sent since this was last asked; see [`Link`].
    pub fn take_sent(&self) -> Option<u64> {
        self.together.as_ref().map(|together| together.link.take_sent())
    }

    /// Whether weights stay where they are, or come and go.
    #[must_use]
    pub fn weights_stay(&self) -> bool {
        !self.way.fully
    }

    /// Which of how many ranks that hold the same this one is.
    #[must_use]
    pub fn replica(&self) -> (usize, usize) {
        self.together.as_ref().map_or((0, 1), |together| (together.link.replica(), together.link.mesh().replicate))
    }

    /// How the groups are, for a thread that looks after them.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        self.together.as_ref().map_or_else(Vec::new, |together| together.link.health())
    }

    /// The link to other ranks, for another model.
    #[must_use]
    pub fn into_link(self) -> Option<Link> {
        self.together.map(|together| together.link)
    }

    /// The groups, to be closed.
    #[must_use]
    pub fn into_groups(self) -> Vec<Group> {
        self.into_link().map_or_else(Vec::new, Link::into_groups)
    }
}

/// What weights are used after those of a moment.
fn next(moment: Moment, layers: usize, learns: bool) -> Option<Part> {
    let from_end = |layer: usize| layer.checked_sub(1).map(Part::Layer);
    match moment {
        Moment::Forward(Part::Embedding) => Some(if layers > 0 { Part::Layer(0) } else { Part::Head }),
        Moment::Forward(Part::Layer(layer)) if layer + 1 < layers => Some(Part::Layer(layer + 1)),
        Moment::Forward(Part::Layer(_)) => Some(Part::Head),
        Moment::Forward(Part::Head) if learns => from_end(layers),
        Moment::Backward(Part::Layer(layer)) => from_end(layer),
        _ => None,
    }
}
