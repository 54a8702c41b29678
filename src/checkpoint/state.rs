//! How far a run is: `state.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CheckpointError, STATE};

/// How far a run is. Sources and the stage are kept by name, so that a recipe may gain others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Rows since the stage began.
    pub rows_in_stage: u64,
    /// Rows of one epoch: another number means that documents become rows in another way.
    pub rows_an_epoch: u64,
    /// The corpus they came from: [`crate::corpus::Corpus::fingerprint`].
    pub fingerprint: String,
}

impl State {
    /// Version of the state written here.
    pub const VERSION: u32 = 1;

    /// Reads the state of the checkpoint in `folder`.
    ///
    /// # Errors
    /// A file that is missing, no state, or of another version.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let file = folder.join(STATE);
        let state: Self = serde_json::from_slice(&fs_err::read(&file)?)
            .map_err(|error| CheckpointError::Damaged { file: file.clone(), reason: error.to_string() })?;
        if state.version != Self::VERSION {
            let reason = format!("version {}, this program reads version {}", state.version, Self::VERSION);
            return Err(CheckpointError::Damaged { file, reason });
        }
        Ok(state)
    }
}
