//! Writes a checkpoint, whole or not at all, alone or with other ranks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hephaestus_core::hashed::{self, Entry};
use tch::{Device, Kind, Tensor};

use super::manifest::Manifest;
use super::state::State;
use super::together::Together;
use super::{CheckpointError, MANIFEST, MODEL, RECIPE, STATE, find, optimizer, shared};
use crate::hf;
use crate::hf::companions::Carried;
use crate::hf::layout::Layout;
use crate::hf::stored::Stored;
use crate::hf::tensors::Unwritten;
use crate::model::config::ModelConfig;
use crate::optim::slice::Slice;

/// What goes into a checkpoint, as one of its ranks has it.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// Which weights each rank writes, and into which files.
    pub layout: &'a Layout,
    /// Those that this rank writes ([`Layout::parameters_of`]), by name, in any order.
    pub weights: Vec<(String, Tensor)>,
    /// What this rank holds of moments and master weights.
    pub optimizer: Vec<Slice>,
    /// Which of how many ranks that hold the same slices this one is: they divide the writing among themselves.
    pub replica: (usize, usize),
    /// How far the run is.
    pub state: &'a State,
    /// What goes with the model; the first rank writes it.
    pub carried: &'a Carried,
    /// The resolved recipe.
    pub recipe: &'a str,
}

/// Writes `OUTPUT/step-N`, replacing one of the same step, and returns its path. Each rank of `together` calls it, with its
/// own part.
///
/// Everything is written into a hidden folder beside it and synced, the manifest last; then the folder gets its name.
///
/// # Errors
/// Whatever the disk or libtorch refuses, on any rank, and ranks that do not come: the same on all. Nothing is left under the
/// checkpoint's name then, and older ones stay.
pub fn save(output: &Path, contents: &Contents<'_>, together: &Together<'_>) -> Result<PathBuf, CheckpointError> {
    let step = contents.state.step;
    let folder = find::folder(output, step);
    let hidden = output.join(format!(".step-{step}.writing"));
    // The first error is the one to tell; a leftover hidden folder is cleared by the next attempt.
    let forget = |_: &CheckpointError| drop(clear(&hidden));
    shared::folder(&hidden, together, || begin(&hidden)).inspect_err(|error| {
        if together.rank() == 0 {
            forget(error)
        }
    })?;
    let written = together.all(
        "write a checkpoint",
        || write_share(&hidden, contents, together),
        |shares| shares.and_then(|shares| finish(&hidden, &folder, shares)).inspect_err(forget),
    );
    written?;
    tracing::debug!(folder = %folder.display(), step, "a checkpoint is whole");
    Ok(folder)
}

/// Makes the hidden folder.
fn begin(hidden: &Path) -> Result<(), CheckpointError> {
    clear(hidden)?;
    Ok(fs_err::create_dir_all(hidden.join(MODEL))?)
}

/// Writes what this rank is to write, and describes it.
fn write_share(
    into: &Path,
    contents: &Contents<'_>,
    together: &Together<'_>,
) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    refuse_not_finite(contents)?;
    let (rank, model) = (together.rank(), into.join(MODEL));
    let weights: Vec<_> = contents.weights.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let in_model = |name: String| format!("{MODEL}/{name}");
    let files = hf::export::weights(&model, contents.layout, rank, &weights)?;
    let mut files: Vec<_> = files.into_iter().map(|(name, file)| (in_model(name), file)).collect();
    let share = optimizer::share(&contents.optimizer, rank == 0, contents.replica)?;
    let share: Vec<_> = share.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    let optimizer = optimizer::file_name(rank, together.count());
    let file = Unwritten::new(into.join(&optimizer), &share, Kind::Float)?;
    files.push((optimizer, file));
    let mut written = hf::tensors::write_all(files)?;
    if rank == 0 {
        let rest = hf::export::write_rest(&model, contents.config, contents.layout, contents.carried)?;
        written.extend(rest.into_iter().map(|(name, entry)| (in_model(name), entry)));
        written.insert(STATE.to_owned(), hashed::write(&into.join(STATE), &json(contents.state)?)?);
        written.insert(RECIPE.to_owned(), hashed::write(&into.join(RECIPE), contents.recipe.as_bytes())?);
    }
    Ok(written)
}

/// Refuses weights that hold NaN or infinity: nothing could be trained or computed from them. One pass over each, which
/// takes no memory.
fn refuse_not_finite(contents: &Contents<'_>) -> Result<(), CheckpointError> {
    let masters = contents.optimizer.iter().filter(|slice| slice.name.ends_with(".master"));
    let masters = masters.map(|slice| (&slice.name, &slice.tensor));
    let weights = contents.weights.iter().map(|(name, tensor)| (name, tensor));
    let (mut names, mut finite) = (Vec::new(), Vec::new());
    for (name, tensor) in weights.chain(masters).filter(|(_, tensor)| tensor.numel() > 0) {
        // Both are NaN where any element is.
        let (least, most) = tensor.f_detach()?.f_aminmax(None, false)?;
        names.push(name);
        finite.push(least.f_isfinite()?.f_logical_and(&most.f_isfinite()?)?.f_to_device(Device::Cpu)?);
    }
    if names.is_empty() {
        return Ok(());
    }
    let finite = Vec::<bool>::try_from(Tensor::f_stack(&finite, 0)?)?;
    let names: Vec<_> = names.into_iter().zip(finite).filter(|(_, finite)| !finite).map(|(name, _)| name).collect();
    match names.first() {
        None => Ok(()),
        Some(first) => Err(CheckpointError::NotFinite { first: (*first).clone(), others: names.len() - 1 }),
    }
}

/// Makes a checkpoint of what all ranks have written, if it is all there.
fn finish(hidden: &Path, folder: &Path, shares: Vec<BTreeMap<String, Entry>>) -> Result<(), CheckpointError> {
    let manifest = Manifest::new(shares.into_iter().flatten().collect());
    manifest.verify_sizes(hidden)?;
    let stored = Stored::open(optimizer::files(hidden, manifest.files.keys())?)?;
    let mut problems = Vec::new();
    stored.check_all(&mut problems);
    stored.refuse(problems)?;
    fs_err::File::open(hidden.join(MODEL))?.sync_all()?;
    hashed::write(&hidden.join(MANIFEST), &json(&manifest)?)?;
    publish(hidden, folder)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, CheckpointError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    Ok(text)
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
