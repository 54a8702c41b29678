//! How far a run is: `state.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CheckpointError, STATE, find};

/// How far a run is. Sources and the stage are kept by name, so that a recipe may gain others; sources that it has lost stay
/// here, so that one that is put back goes on where it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this format.
    pub version: u32,
    /// Optimizer steps finished.
    pub step: u64,
    /// Tokens trained on, padding and unlearned ones included.
    pub tokens: u64,
    /// Updates skipped because a loss or gradient was not finite.
    pub skipped: u64,
    /// The stage of the next step, or the last one.
    pub stage: String,
    /// Steps of that stage finished.
    pub stage_step: u64,
    /// Tokens of that stage trained on: where the batch changes, steps are no measure of a stage any more. Version 1 has
    /// none, and no change of the batch.
    #[serde(default)]
    pub stage_tokens: Option<u64>,
    /// Shares of the rows by stage and source, of that stage and those after it, as they were when the stage began or the
    /// recipe last changed them. Version 1 has none: they are those of the recipe.
    #[serde(default)]
    pub shares: BTreeMap<String, BTreeMap<String, f64>>,
    /// What the folder of the first weights is known by: [`crate::hf::folder::fingerprint`].
    #[serde(default)]
    pub base: Option<String>,
    /// Seed of the data's order, the only randomness of a run after its first weights.
    pub seed: u64,
    /// Tokens a row; rows are counted in this length.
    pub sequence_length: u64,
    /// What was drawn from each source.
    pub sources: BTreeMap<String, Drawn>,
}

/// What was drawn from a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    /// Rows since the run began.
    pub rows: u64,
    /// Rows since the stage began, or since the recipe last changed its shares.
    pub rows_in_stage: u64,
    /// Rows of one epoch: another number means that documents become rows in another way.
    pub rows_an_epoch: u64,
    /// The corpus they came from: [`crate::corpus::Corpus::fingerprint`].
    pub fingerprint: String,
}

/// More of anything is damage: 2^60 still adds up.
const MOST: u64 = 1 << 60;

impl State {
    /// Version of the state written here.
    pub const VERSION: u32 = 2;

    /// Reads the state of the checkpoint in `folder`.
    ///
    /// # Errors
    /// A file that is missing, no state, or of another version.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let file = folder.join(STATE);
        let state: Self = serde_json::from_slice(&fs_err::read(&file)?)
            .map_err(|error| CheckpointError::Damaged { file: file.clone(), reason: error.to_string() })?;
        if !(1..=Self::VERSION).contains(&state.version) {
            let reason = format!("version {}, this program reads versions 1 to {}", state.version, Self::VERSION);
            return Err(CheckpointError::Damaged { file, reason });
        }
        match state.contradiction(folder) {
            Some(reason) => Err(CheckpointError::Damaged { file, reason }),
            None => Ok(state),
        }
    }

    /// What in it cannot be so.
    fn contradiction(&self, folder: &Path) -> Option<String> {
        let Self { step, stage_step, tokens, .. } = self;
        if let Some(named) = find::step_of(folder).filter(|named| named != step) {
            return Some(format!("says step {step}, and the folder is named for step {named}"));
        }
        if *step > MOST || *tokens > MOST || stage_step > step && self.stage_tokens.is_none() {
            return Some(format!(
                "says step {step}, {stage_step} of them in stage {}, and {tokens} tokens",
                self.stage
            ));
        }
        if self.stage_tokens.is_some_and(|stage_tokens| stage_tokens > *tokens) {
            return Some(format!("says more tokens in stage {} than in the run, {tokens}", self.stage));
        }
        let (name, drawn) =
            self.sources.iter().find(|(_, drawn)| drawn.rows_in_stage > drawn.rows || drawn.rows > MOST)?;
        Some(format!("says {} rows of {name}, {} of them in this stage", drawn.rows, drawn.rows_in_stage))
    }
}
