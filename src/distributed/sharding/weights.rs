//! The weights that compute, in flat buffers of which ranks may hold a part each.

use tch::{Device, Kind, TchError, Tensor};

use super::StepError;
use super::link::{Link, wait};
use super::units::Units;
use crate::distributed::flat::{Arrangement, Flat};
use crate::ffi::{self, Work};
use crate::hf::names::ParameterSpec;

/// The weights of a model, unit by unit.
#[derive(Debug)]
pub struct Weights {
    units: Vec<Unit>,
    /// Whether a rank keeps only its own part, and gathers the others while they are used.
    fully: bool,
}

#[derive(Debug)]
struct Unit {
    whole: Flat,
    /// This rank's: lies in `whole`, or by itself where that comes and goes.
    own: Tensor,
    state: State,
}

/// Whether all of a unit's weights are there and as they were last updated.
#[derive(Debug)]
enum State {
    Gone,
    Coming(Option<Work>),
    There,
}

impl Weights {
    /// Zeros, of which this rank's part is the `rank`-th of each unit.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn zeros(
        units: &[Arrangement],
        rank: usize,
        fully: bool,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TchError> {
        let unit = |arrangement: &Arrangement| {
            let whole = Flat::zeros(arrangement, kind, device)?;
            let own = whole.part(rank)?;
            if !fully {
                return Ok(Unit { whole, own, state: State::There });
            }
            let own = own.f_zeros_like()?;
            ffi::free_storage(&whole.buffer);
            Ok(Unit { whole, own, state: State::Gone })
        };
        Ok(Self { units: units.iter().map(unit).collect::<Result<_, TchError>>()?, fully })
    }

    /// Every parameter, in canonical order: views of the buffers, whether anything is in these or not.
    #[must_use]
    pub fn parameters(&self, units: &Units, specs: &[ParameterSpec]) -> Vec<Tensor> {
        let mut parameters: Vec<_> = specs.iter().map(|_| Tensor::new()).collect();
        for (unit, members) in self.units.iter().zip(&units.parameters) {
            members.iter().zip(&unit.whole.views).for_each(|(at, view)| parameters[*at] = view.shallow_clone());
        }
        parameters
    }

    /// This rank's part of a unit.
    pub fn own(&self, unit: usize) -> &Tensor {
        &self.units[unit].own
    }

    /// Begins to gather a unit that is not there.
    pub(super) fn begin(&mut self, unit: usize, link: &Link) -> Result<(), StepError> {
        let unit = &mut self.units[unit];
        if matches!(unit.state, State::Gone) {
            if self.fully {
                ffi::allocate_storage(&unit.whole.buffer)?;
            }
            unit.state = State::Coming(link.gather(&unit.whole.buffer, &unit.own)?);
        }
        Ok(())
    }

    /// Makes a unit's weights all there for what is computed from now on.
    pub(super) fn need(&mut self, unit: usize, link: &Link) -> Result<(), StepError> {
        self.begin(unit, link)?;
        if let State::Coming(work) = std::mem::replace(&mut self.units[unit].state, State::There) {
            wait(work)?;
        }
        Ok(())
    }

    /// Gives the memory of other ranks' parts back, where they come and go.
    pub(super) fn release(&mut self, unit: usize) {
        let unit = &mut self.units[unit];
        if self.fully && matches!(unit.state, State::There) {
            ffi::free_storage(&unit.whole.buffer);
            unit.state = State::Gone;
        }
    }

    /// Gives up whatever is gathered or on its way, where weights come and go.
    pub(super) fn let_go(&mut self) {
        for unit in self.units.iter_mut().filter(|_| self.fully) {
            ffi::free_storage(&unit.whole.buffer);
            unit.state = State::Gone;
        }
    }

    /// Each rank has updated its own part: those of others are to be gathered again, from the first unit on.
    pub(super) fn updated(&mut self, link: &Link) -> Result<(), StepError> {
        for unit in 0..self.units.len() {
            self.release(unit);
            if !self.fully && link.mesh().shard > 1 {
                self.units[unit].state = State::Gone;
                self.begin(unit, link)?;
            }
        }
        Ok(())
    }
}
