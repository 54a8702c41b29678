//! Checkpoints: `OUTPUT/step-N/`, written whole or not at all, and verified before they are believed.
//!
//! | inside | what it is |
//! |---|---|
//! | `model/` | a Hugging Face folder in the precision that computes: configuration, tokenizer, safetensors |
//! | `optimizer.safetensors` | fp32: `NAME.exp_avg`, `NAME.exp_avg_sq`, `NAME.master` where the model is not fp32, `step` |
//! | `optimizer-00001-of-00008.safetensors` … | the same where 8 ranks wrote it: each its share, tensors cut into pieces |
//! | `state.json` | how far the run is: steps, tokens, rows drawn from each source ([`state`]) |
//! | `recipe.yaml` | the recipe with every default filled in |
//! | `manifest.json` | size and SHA-256 of every other file, written last ([`manifest`]) |
//!
//! [`save`] writes one under a hidden name, syncs and renames it; [`find`] lists and verifies; [`load`] reads one back;
//! [`retention`] removes old ones, [`back`] sets aside those of a run that is taken up further back. [`optimizer`] is how its
//! state lies in files, [`together`] how ranks agree, [`shared`] that they see the same folder.

pub mod back;
pub mod find;
pub mod load;
pub mod manifest;
pub mod optimizer;
pub mod retention;
pub mod save;
pub mod shared;
pub mod state;
pub mod together;

use std::path::PathBuf;

pub use state::State;
pub use together::Together;

/// Name of the folder that holds the model.
pub const MODEL: &str = "model";
/// Name of the file that holds the optimizer.
pub const OPTIMIZER: &str = "optimizer.safetensors";
/// Name of the file that says how far the run is.
pub const STATE: &str = "state.json";
/// Name of the file that holds the resolved recipe.
pub const RECIPE: &str = "recipe.yaml";
/// Name of the file that vouches for the others.
pub const MANIFEST: &str = "manifest.json";

/// Why a checkpoint cannot be written, or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused; the inner error names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The model folder in it.
    #[error(transparent)]
    Model(#[from] crate::hf::HfError),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A file is not what the manifest says, or not what this program writes.
    #[error("{}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found, what was expected.
        reason: String,
    },
    /// A folder without a manifest.
    #[error("{}: no checkpoint: it has no manifest.json; give a `step-N` folder, or the folder of a run that holds some", .0.display())]
    NotOne(PathBuf),
    /// One that does not verify, and why.
    #[error("{0}")]
    Unsound(String),
    /// A file of it could not be read just now: that says nothing of what is in it.
    #[error("{} could not be read, several times in a row: {reason}; it may be sound, so it is not passed over: try again, or name another checkpoint by --resume", .folder.display())]
    Unreadable {
        /// Its folder.
        folder: PathBuf,
        /// The system's words, with the path.
        reason: String,
    },
    /// Weights that nothing can be trained from.
    #[error("{first}{} NaN or infinity: the checkpoints before it stay; lower schedule.peak, or look for damaged data", if *others > 0 { format!(" and {others} other tensors hold") } else { " holds".to_owned() })]
    NotFinite {
        /// The first tensor with such a value.
        first: String,
        /// How many others have some.
        others: usize,
    },
    /// A rank that does not find what rank 0 has written.
    #[error("{}: not to be seen here: run.output, and what a run goes on from, must be on a file system that all nodes share", .0.display())]
    NotShared(PathBuf),
    /// Another rank failed, or did not come.
    #[error(transparent)]
    Together(#[from] together::TogetherError),
}
