//! The one global order of rows: which rows the steps of a run consist of, whatever machines compute them.
//!
//! It is a function of the stages, the seed and a few counts. The mixture says which source a row comes from; the n-th row
//! drawn from a source since the run began is a place in that source's own shuffled epoch. So a new stage or another
//! source moves no other source's rows, and a run goes on from its counts alone.

use sha2::{Digest, Sha256};

use super::CorpusError;
use super::mixture::Mixture;
use super::permutation::{Permutation, mix};

/// How far a run has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Finished steps over all stages.
    pub step: u64,
    /// The stage of the last finished step.
    pub stage: usize,
    /// Finished steps of that stage.
    pub stage_step: u64,
    /// Rows drawn from each source since the run began.
    pub drawn: Vec<u64>,
    /// Of these, the rows drawn in this stage.
    pub drawn_in_stage: Vec<u64>,
}

impl Position {
    /// The position of a run that has not begun.
    #[must_use]
    pub fn start(sources: usize) -> Self {
        Self { step: 0, stage: 0, stage_step: 0, drawn: vec![0; sources], drawn_in_stage: vec![0; sources] }
    }
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Optimizer steps in it.
    pub steps: u64,
    /// Share of the rows that comes from each source.
    pub shares: Vec<f64>,
}

/// The key of a source's order: it depends on the run's seed and the source's name, and on no other source.
#[must_use]
pub fn key(seed: u64, name: &str) -> u64 {
    let hash: [u8; 32] = Sha256::digest(name).into();
    mix(&[seed, u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])])
}

/// The row that is drawn from a source of `rows` rows (at least 1) after `drawn` others: each row comes once an epoch, in
/// an order of its own every epoch.
pub(super) fn place(rows: u64, key: u64, drawn: u64) -> u64 {
    let (epoch, index) = (drawn / rows, drawn % rows);
    Permutation::new(rows, mix(&[key, epoch])).get(index).unwrap_or(index)
}

/// Draws the rows of one step after another.
#[derive(Clone, Debug)]
pub(super) struct Steps {
    stages: Vec<(u64, Mixture)>,
    rows: u64,
    position: Position,
}

impl Steps {
    /// The steps that follow `position`, of `rows` rows each.
    pub(super) fn new(stages: &[Stage], rows: u64, position: Position) -> Result<Self, CorpusError> {
        let refuse = |reason: String| Err(CorpusError::Order { reason });
        let sources = position.drawn.len();
        if position.drawn_in_stage.len() != sources {
            return refuse(format!("a position with {sources} and {} counts", position.drawn_in_stage.len()));
        }
        let mut mixtures = Vec::new();
        for (number, stage) in stages.iter().enumerate() {
            if stage.shares.len() != sources {
                let shares = stage.shares.len();
                return refuse(format!("stage {number} has {shares} shares: expected one a source, {sources}"));
            }
            mixtures.push((stage.steps, Mixture::new(&stage.shares)?));
        }
        Ok(Self { stages: mixtures, rows, position })
    }

    /// The position after the last step drawn.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// Steps that are left.
    pub(super) fn left(&self) -> u64 {
        let rest: u64 = self.stages.iter().skip(self.position.stage).map(|(steps, _)| steps).sum();
        let done = self.stages.get(self.position.stage).map_or(0, |(steps, _)| self.position.stage_step.min(*steps));
        rest - done
    }

    /// Draws the next step: calls `each` with source and number of each of its rows, in order. Returns whether there was one.
    pub(super) fn draw(&mut self, mut each: impl FnMut(usize, u64)) -> bool {
        let at = &mut self.position;
        let done = |stage: usize| if stage == at.stage { at.stage_step } else { 0 };
        let Some(stage) = (at.stage..self.stages.len()).find(|stage| self.stages[*stage].0 > done(*stage)) else {
            return false;
        };
        if stage != at.stage {
            (at.stage, at.stage_step) = (stage, 0);
            at.drawn_in_stage.fill(0);
        }
        let (_, mixture) = &self.stages[stage];
        for _ in 0..self.rows {
            let source = mixture.draw(&mut at.drawn_in_stage);
            each(source, at.drawn[source]);
            at.drawn[source] += 1;
        }
        (at.step, at.stage_step) = (at.step + 1, at.stage_step + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_source_gives_every_row_once_an_epoch_and_every_epoch_in_another_order() {
        let key = key(1, "code");
        let epoch = |epoch: u64| (epoch * 50..epoch * 50 + 50).map(|drawn| place(50, key, drawn)).collect::<Vec<_>>();
        for number in 0..3 {
            assert!(epoch(number).into_iter().collect::<BTreeSet<_>>().into_iter().eq(0..50));
        }
        assert!(epoch(0) != epoch(1) && epoch(1) != epoch(2) && epoch(0) != epoch(2));
    }

    #[test]
    fn a_key_depends_on_seed_and_name_and_stays_what_it_is() {
        assert!(key(1, "code") != key(2, "code") && key(1, "code") != key(1, "text"));
        // Runs go on from their counts only as long as these values stay.
        assert_eq!((key(0, ""), key(17, "code")), (8_834_742_041_929_159_201, 7_521_049_227_504_945_949));
    }

    #[test]
    fn stages_follow_one_another_and_count_anew() {
        let stage = |steps, shares: &[f64]| Stage { steps, shares: shares.to_vec() };
        let stages = [stage(2, &[1.0, 0.0]), stage(0, &[1.0, 0.0]), stage(3, &[0.0, 1.0])];
        let mut steps = Steps::new(&stages, 4, Position::start(2)).unwrap();
        let mut seen = Vec::new();
        for left in (0..5).rev() {
            assert!(steps.draw(|source, drawn| seen.push((source, drawn))));
            assert_eq!(steps.left(), left);
        }
        assert!(!steps.draw(|_, _| unreachable!()));
        assert!(seen.into_iter().eq((0..8).map(|row| (0, row)).chain((0..12).map(|row| (1, row)))));
        let end = Position { step: 5, stage: 2, stage_step: 3, drawn: vec![8, 12], drawn_in_stage: vec![0, 12] };
        assert_eq!(steps.position(), &end);
    }

    proptest! {
        /// As a run that resumes under other shares has it: counts of the stage begin anew, those of the run go on.
        #[test]
        fn shares_hold_within_one_row_for_every_prefix_after_every_change(
            changes in proptest::collection::vec((proptest::collection::vec(0_u32..20, 4), 1_u64..30, 1_u64..9), 1..6),
        ) {
            let mut position = Position::start(4);
            for (weights, steps, rows) in changes {
                let all: f64 = weights.iter().copied().map(f64::from).sum();
                if all == 0.0 {
                    continue;
                }
                let shares: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / all).collect();
                position.drawn_in_stage.fill(0);
                let before = position.drawn.clone();
                // The stage goes on, whatever has changed.
                let stage = Stage { steps: position.stage_step + steps, shares: shares.clone() };
                let mut order = Steps::new(&[stage], rows, position.clone()).unwrap();
                let mut drawn = vec![0_u64; 4];
                let mut seen = Vec::new();
                while order.draw(|source, number| seen.push((source, number))) {}
                prop_assert_eq!(seen.len() as u64, steps * rows);
                for (at, (source, number)) in seen.into_iter().enumerate() {
                    // No row of a source is drawn twice or left out.
                    prop_assert_eq!(number, before[source] + drawn[source]);
                    drawn[source] += 1;
                    for (share, drawn) in shares.iter().zip(&drawn) {
                        prop_assert!((share * (at + 1) as f64 - *drawn as f64).abs() <= 1.0 + 1e-9);
                    }
                }
                position = order.position().clone();
            }
        }
    }

    #[test]
    fn shares_and_counts_that_do_not_match_are_refused() {
        let stages = [Stage { steps: 1, shares: vec![1.0] }];
        let error = Steps::new(&stages, 1, Position::start(2)).unwrap_err().to_string();
        assert_eq!(error, "stage 0 has 1 shares: expected one a source, 2");
        let position = Position { drawn_in_stage: vec![], ..Position::start(1) };
        let error = Steps::new(&stages, 1, position).unwrap_err().to_string();
        assert_eq!(error, "a position with 1 and 0 counts");
    }
}
