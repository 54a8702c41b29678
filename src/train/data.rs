//! A plan's corpora, opened, and the place in them where a run goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::checkpoint::state::Drawn;
use crate::corpus::loader::{self, Loader, LoaderSettings, Position};
use crate::corpus::source::{Settings, Source};
use crate::plan::Plan;
use crate::plan::resume::{self, Effect};

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
                vocab_size: plan.model.config.vocab_size as u32,
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

    /// Describes `position` for a checkpoint. Sources that the recipe has lost keep their rows, and none of the present stage.
    #[must_use]
    pub fn drawn(&self, plan: &Plan, position: &Position) -> BTreeMap<String, Drawn> {
        let mut drawn = plan.resumed.as_ref().map(|resumed| resumed.state.sources.clone()).unwrap_or_default();
        // Shares are counted without them; put back without a share, they must not count either.
        drawn.values_mut().for_each(|lost| lost.rows_in_stage = 0);
        let named = plan.data.sources.iter().zip(&self.fingerprints).enumerate();
        drawn.extend(named.map(|(at, (source, fingerprint))| {
            let drawn = Drawn {
                rows: position.drawn[at],
                rows_in_stage: position.drawn_in_stage[at],
                rows_an_epoch: self.sources[at].rows(),
                fingerprint: fingerprint.clone(),
            };
            (source.name.clone(), drawn)
        }));
        drawn
    }

    /// The position where `plan` begins or resumes. A corpus whose key is in `accept`, or below one in it, may be another than
    /// the one the run has read from so far, or make other rows: it then goes on after as many rows.
    ///
    /// # Errors
    /// Other corpora under the same names.
    pub fn position(&self, plan: &Plan, accept: &[String]) -> anyhow::Result<Position> {
        let Some(resumed) = &plan.resumed else { return Ok(Position::start(plan.data.sources.len())) };
        let rows_may_differ = resumed
            .changes
            .iter()
            .any(|change| change.key.starts_with("data.") && matches!(change.effect, Effect::Accepted(_)));
        for (at, (source, fingerprint)) in plan.data.sources.iter().zip(&self.fingerprints).enumerate() {
            let Some(drawn) = resumed.state.sources.get(&source.name) else { continue };
            let key = format!("data.sources.{}.path", source.name);
            if resume::is_accepted(&key, accept) {
                continue;
            }
            if drawn.fingerprint != *fingerprint {
                bail!(
                    "{}: source {} is not the corpus the run has read from so far: put that one back, give this one another \
                     name in data.sources, or accept it with --accept {key}",
                    source.prefix.display(),
                    source.name
                );
            }
            if drawn.rows_an_epoch != self.sources[at].rows() && !rows_may_differ {
                bail!(
                    "source {} now makes {} rows an epoch, and made {} in the run so far, so rows could not be found again: put \
                     data.packing, data.end_of_document and its held_out back, or accept it with --accept {key}",
                    source.name,
                    self.sources[at].rows(),
                    drawn.rows_an_epoch
                );
            }
        }
        Ok(resumed.position(plan.data.sources.iter().map(|source| source.name.as_str())))
    }
}
