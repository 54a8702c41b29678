//! A plan's corpora, opened, and the place in them where a run goes on.

use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::checkpoint::State;
use crate::checkpoint::state::Drawn;
use crate::corpus::loader::{self, Loader, LoaderSettings, Position};
use crate::corpus::source::{Settings, Source};
use crate::plan::Plan;

/// Optimizer steps that are read ahead.
const PREFETCH: usize = 2;

/// The corpora of a run.
#[derive(Debug)]
pub struct Data {
    /// In the plan's order.
    pub sources: Arc<Vec<Source>>,
    fingerprints: Vec<String>,
}

impl Data {
    /// Opens every corpus of `plan`.
    ///
    /// # Errors
    /// One that is missing or malformed.
    pub fn open(plan: &Plan) -> anyhow::Result<Self> {
        let (mut sources, mut fingerprints) = (Vec::new(), Vec::new());
        for source in &plan.data.sources {
            let settings = Settings {
                held_out: source.held_out,
                packing: plan.data.packing,
                length: plan.data.sequence_length,
                end: plan.data.end_of_document,
                document_mask: plan.data.document_mask,
            };
            let opened = Source::open(&source.prefix, &settings).with_context(|| format!("source {}", source.name))?;
            fingerprints.push(opened.corpus().fingerprint()?);
            sources.push(opened);
        }
        Ok(Self { sources: Arc::new(sources), fingerprints })
    }

    /// A loader of a rank's part of the run's batches, from `position` on.
    ///
    /// # Errors
    /// A source that has a share and no rows.
    pub fn loader(&self, plan: &Plan, rank: usize, position: Position) -> anyhow::Result<Loader> {
        let settings = LoaderSettings {
            sources: Arc::clone(&self.sources),
            keys: plan.data.sources.iter().map(|source| loader::key(plan.seed, &source.name)).collect(),
            stages: plan
                .stages
                .iter()
                .map(|stage| loader::Stage { steps: stage.steps, shares: stage.mixture.clone() })
                .collect(),
            rows: plan.batch.rows,
            micro_rows: plan.batch.micro_rows,
            rank: rank as u64,
            world: plan.distributed.world as u64,
            prefetch: PREFETCH,
        };
        Ok(Loader::start(settings, position)?)
    }

    /// What each corpus is known by, in the plan's order.
    #[must_use]
    pub fn fingerprints(&self) -> &[String] {
        &self.fingerprints
    }

    /// What `position` is called in a checkpoint.
    #[must_use]
    pub fn drawn(&self, plan: &Plan, position: &Position) -> std::collections::BTreeMap<String, Drawn> {
        let named = plan.data.sources.iter().zip(&self.fingerprints).enumerate();
        named
            .map(|(at, (source, fingerprint))| {
                let drawn = Drawn {
                    rows: position.drawn[at],
                    rows_in_stage: position.drawn_in_stage[at],
                    rows_an_epoch: self.sources[at].rows(),
                    fingerprint: fingerprint.clone(),
                };
                (source.name.clone(), drawn)
            })
            .collect()
    }

    /// The position that `state` describes, in terms of `plan`. With `accept_changes` a corpus may be another than the one
    /// the run has read from so far, or make other rows: it then goes on after as many rows.
    ///
    /// # Errors
    /// A plan that reads its corpora in another way than the run did so far, or other corpora under the same names.
    pub fn position(&self, plan: &Plan, state: &State, accept_changes: bool) -> anyhow::Result<Position> {
        if state.seed != plan.seed {
            bail!(
                "the run was begun with run.seed {}, the recipe says {}: the order of the data would change; set it back",
                state.seed,
                plan.seed
            );
        }
        if state.sequence_length != plan.data.sequence_length as u64 {
            bail!(
                "the run was begun with data.sequence_length {}, the recipe says {}: rows could not be found again; set it \
                 back, or start a new run from its weights (model.from)",
                state.sequence_length,
                plan.data.sequence_length
            );
        }
        let Some(stage) = plan.stages.iter().position(|stage| stage.name == state.stage) else {
            let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
            bail!("the run stopped in stage {}, and the recipe has only {}", state.stage, names.join(", "));
        };
        let mut position = Position::start(plan.data.sources.len());
        (position.step, position.stage, position.stage_step) = (state.step, stage, state.stage_step);
        for (at, (source, fingerprint)) in plan.data.sources.iter().zip(&self.fingerprints).enumerate() {
            let Some(drawn) = state.sources.get(&source.name) else { continue };
            if !accept_changes && drawn.fingerprint != *fingerprint {
                bail!(
                    "{}: source {} is not the corpus the run has read from so far: put that one back, give this one another \
                     name in data.sources, or accept it with --accept-changed-data",
                    source.prefix.display(),
                    source.name
                );
            }
            if !accept_changes && drawn.rows_an_epoch != self.sources[at].rows() {
                bail!(
                    "source {} now makes {} rows an epoch, and made {} in the run so far, so rows could not be found again: put \
                     data.packing, data.end_of_document and its held_out back, or accept it with --accept-changed-data",
                    source.name,
                    self.sources[at].rows(),
                    drawn.rows_an_epoch
                );
            }
            (position.drawn[at], position.drawn_in_stage[at]) = (drawn.rows, drawn.rows_in_stage);
        }
        Ok(position)
    }
}
