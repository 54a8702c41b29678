//! The gradients of a step: summed over its micro-batches, and over ranks, unit by unit while the backward pass goes on.

use tch::{Kind, TchError, Tensor};

use super::link::{Link, of_kind, wait};
use super::{StepError, Turn};
use crate::distributed::flat::{Arrangement, Flat, Piece};
use crate::distributed::mesh::Mesh;
use crate::ffi::{self, Work};

/// The gradients of one unit's parameters.
#[derive(Debug, Default)]
pub(super) struct Gradients {
    /// Of each parameter, as computed or summed over micro-batches: where nobody else is asked.
    each: Vec<Tensor>,
    /// The same in one buffer in fp32, on its way to other ranks.
    whole: Option<Flat>,
    /// This rank's part of the sum over ranks.
    own: Option<Tensor>,
    pending: Option<Pending>,
}

/// What is under way.
#[derive(Debug)]
struct Pending {
    work: Option<Work>,
    to: Tensor,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The sum over shards, of which each gets a part.
    OverShards(Turn),
    /// The sum over copies, with which all is summed.
    OverCopies,
}

/// How gradients are summed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// What the sum over ranks is made in.
    pub(super) reduce: Kind,
    /// Whether each micro-batch is summed over ranks, so that no rank holds all gradients at once.
    pub(super) fully: bool,
    /// What gradients are computed in.
    pub(super) computed: Kind,
}

impl Gradients {
    /// Adds what a micro-batch has found for each parameter, for this rank alone.
    pub(super) fn add(&mut self, found: Vec<Tensor>, turn: Turn, way: Way) -> Result<(), TchError> {
        match turn {
            Turn { first: true, last: true } => self.each = found,
            Turn { first: true, .. } if way.computed == Kind::Float => self.each = found,
            Turn { first: true, .. } if self.each.is_empty() => {
                self.each = found.iter().map(|gradient| gradient.f_to_kind(Kind::Float)).collect::<Result<_, _>>()?;
            }
            Turn { first: true, .. } => ffi::copy_all(&self.each, &found)?,
            Turn { first: false, .. } => ffi::accumulate(&self.each, &found)?,
        }
        Ok(())
    }

    /// Adds what a micro-batch has found for each parameter, and begins to sum over ranks where it is time for that.
    pub(super) fn send(
        &mut self,
        found: Vec<Tensor>,
        turn: Turn,
        way: Way,
        arrangement: &Arrangement,
        link: &Link,
    ) -> Result<(), StepError> {
        let Some(first) = found.first() else { return Ok(()) };
        let device = first.device();
        // One rank reduces nothing: its gradients stay in what they are computed in, sums of them in fp32.
        let alone = link.mesh() == Mesh { replicate: 1, shard: 1 };
        let (once, summed) = if alone { (way.computed, Kind::Float) } else { (way.reduce, way.reduce) };
        let (source, place) = if way.fully || (turn.first && turn.last) {
            let flat = Flat::unfilled(arrangement, once, device)?;
            ffi::copy_all(&flat.views, &found)?;
            (flat.buffer, None)
        } else {
            let whole = match self.whole.take() {
                Some(whole) => whole,
                None => Flat::unfilled(arrangement, Kind::Float, device)?,
            };
            if turn.first {
                ffi::copy_all(&whole.views, &found)?
            } else {
                ffi::accumulate(&whole.views, &found)?
            }
            let whole = self.whole.insert(whole);
            if !turn.last {
                return Ok(());
            }
            // Sums are reduced where they are, unless that is done in another type.
            let place = (summed == Kind::Float).then(|| whole.part(link.shard())).transpose()?;
            (of_kind(&whole.buffer, summed)?, place)
        };
        drop(found);
        let shards = link.mesh().shard as i64;
        let (work, to) = if shards == 1 {
            (None, source)
        } else {
            let part = match place {
                Some(part) => part,
                None => Tensor::f_empty([arrangement.length / shards], (way.reduce, device))?,
            };
            (link.scatter(&part, &source)?, part)
        };
        self.pending = Some(Pending { work, to, stage: Stage::OverShards(turn) });
        // Nothing to wait for: it goes on at once.
        if shards == 1 { self.advance(link) } else { Ok(()) }
    }

    /// Goes on with what is under way, by one stage.
    pub(super) fn advance(&mut self, link: &Link) -> Result<(), StepError> {
        let Some(Pending { work, to, stage }) = self.pending.take() else { return Ok(()) };
        wait(work)?;
        let kind = to.kind();
        let Stage::OverShards(turn) = stage else {
            self.own = Some(to);
            return Ok(());
        };
        let summed = match self.own.take() {
            Some(own) if !turn.first => {
                ffi::accumulate(std::slice::from_ref(&own), std::slice::from_ref(&to))?;
                own
            }
            _ if turn.last => to,
            _ => of_kind(&to, Kind::Float)?,
        };
        if !turn.last || link.mesh().replicate == 1 {
            self.own = Some(summed);
            return Ok(());
        }
        let to = of_kind(&summed, kind)?;
        let work = link.sum(&to)?;
        self.pending = Some(Pending { work, to, stage: Stage::OverCopies });
        Ok(())
    }

    /// Of each parameter, where nobody else was asked.
    pub(super) fn each(&self) -> impl Iterator<Item = Tensor> {
        self.each.iter().map(Tensor::shallow_clone)
    }

    /// Of a piece of this rank's part.
    pub(super) fn piece(&self, piece: &Piece, shape: &[i64]) -> Result<Tensor, TchError> {
        let Some(own) = &self.own else {
            return Err(TchError::Shape("the gradients of a part that no backward pass went through".to_owned()));
        };
        view(own, piece, shape)
    }

    /// Ends what is under way.
    pub(super) fn finish(&mut self, link: &Link) -> Result<(), StepError> {
        while self.pending.is_some() {
            self.advance(link)?;
        }
        Ok(())
    }

    /// Forgets them, but for the memory of sums in fp32, which the next step makes use of.
    pub(super) fn forget(&mut self, way: Way) {
        (self.own, self.pending) = (None, None);
        if way.computed == Kind::Float || self.each.first().is_some_and(|sum| sum.kind() != Kind::Float) {
            self.each.clear();
        }
    }
}

/// A piece as it lies in a rank's part: of its tensor's shape where it is all of that.
pub(super) fn view(part: &Tensor, piece: &Piece, shape: &[i64]) -> Result<Tensor, TchError> {
    let elements = &piece.elements;
    let view = part.f_narrow(0, piece.at, elements.end - elements.start)?;
    if piece.whole { view.f_view(shape) } else { Ok(view) }
}
