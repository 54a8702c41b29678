//! Writes a checkpoint, whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::manifest::Manifest;
use super::state::State;
use super::{CheckpointError, MANIFEST, MODEL, OPTIMIZER, RECIPE, STATE, find};
use crate::hf;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::optim::adamw::AdamW;

/// What goes into a checkpoint.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// Its weights.
    pub parameters: &'a Parameters,
    /// Moments and master weights.
    pub optimizer: &'a AdamW,
    /// How far the run is.
    pub state: &'a State,
    /// Folder whose tokenizer files are copied beside the model.
    pub tokenizer: &'a Path,
    /// The resolved recipe.
    pub recipe: &'a str,
}

/// Writes `OUTPUT/step-N`, replacing one of the same step, and returns its path.
///
/// Everything is written into a hidden folder beside it and synced, the manifest last; then the folder gets its name.
///
/// # Errors
/// Whatever the disk or libtorch refuses; nothing is left under the checkpoint's name then, and older ones stay.
pub fn save(output: &Path, contents: &Contents<'_>) -> Result<PathBuf, CheckpointError> {
    let folder = find::folder(output, contents.state.step);
    let hidden = output.join(format!(".step-{}.writing", contents.state.step));
    clear(&hidden)?;
    let written = fs_err::create_dir_all(&hidden)
        .map_err(CheckpointError::from)
        .and_then(|()| write_all(&hidden, contents))
        .and_then(|()| publish(&hidden, &folder));
    if let Err(error) = written {
        // The first error is the one to tell; a leftover hidden folder is cleared by the next attempt.
        let _ = clear(&hidden);
        return Err(error);
    }
    tracing::debug!(folder = %folder.display(), step = contents.state.step, "a checkpoint is whole");
    Ok(folder)
}

fn write_all(into: &Path, contents: &Contents<'_>) -> Result<(), CheckpointError> {
    let tensors: Vec<_> = contents.parameters.iter().collect();
    let kind = contents.parameters.kind();
    let model = into.join(MODEL);
    hf::export::save(&model, contents.config, &tensors, kind, Some(contents.tokenizer), hf::export::DEFAULT_SHARD)?;
    let optimizer = contents.optimizer.slices(contents.parameters.specs());
    let optimizer: Vec<(String, &Tensor)> = optimizer.iter().map(|slice| (slice.name.clone(), &slice.tensor)).collect();
    hf::tensors::write(&into.join(OPTIMIZER), &optimizer, Kind::Float)?;
    write(&into.join(STATE), &json(contents.state)?)?;
    write(&into.join(RECIPE), contents.recipe.as_bytes())?;
    let manifest = Manifest::of(into)?;
    write(&into.join(MANIFEST), &json(&manifest)?)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, CheckpointError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    Ok(text)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

/// Gives the finished folder its name.
fn publish(hidden: &Path, folder: &Path) -> Result<(), CheckpointError> {
    fs_err::File::open(hidden)?.sync_all()?;
    // One of the same step, from a run that was taken up again further back, steps aside first.
    let aside = hidden.with_extension("replaced");
    clear(&aside)?;
    if folder.exists() {
        fs_err::rename(folder, &aside)?;
    }
    fs_err::rename(hidden, folder)?;
    if let Some(output) = folder.parent() {
        fs_err::File::open(output)?.sync_all()?;
    }
    clear(&aside)
}

fn clear(folder: &Path) -> Result<(), CheckpointError> {
    if folder.exists() {
        fs_err::remove_dir_all(folder)?;
    }
    Ok(())
}
