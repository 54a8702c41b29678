//! Reads a checkpoint back, exactly, whatever ranks wrote it and whatever part of it is asked for.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::manifest::Manifest;
use super::{CheckpointError, MODEL, optimizer};
use crate::hf;
use crate::hf::dtype::Dtype;
use crate::hf::import::Weights;
use crate::hf::stored::Stored;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::optim::adamw::AdamW;
use crate::optim::slice::Slice;

/// Fills `optimizer`, which is over `parameters`, with what the checkpoint in `folder` holds: moments, and masters that are not
/// its model. Either may compute in another precision.
///
/// # Errors
/// As [`slices`], and a configuration of its model that cannot be read.
pub fn optimizer(folder: &Path, parameters: &Parameters, optimizer: &mut AdamW) -> Result<(), CheckpointError> {
    slices(files(folder)?, &optimizer.slices_with(parameters.specs(), has_masters(folder)?))?;
    Ok(optimizer.round_masters()?)
}

/// The names of the files of the checkpoint in `folder`: those that its manifest lists, whatever else lies there, or all in it
/// where it has none, such as one that was put together by hand.
///
/// # Errors
/// A manifest that is none, or a folder that cannot be read.
pub fn names(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    match Manifest::read(folder) {
        Ok(manifest) => Ok(manifest.files.into_keys().collect()),
        Err(CheckpointError::NotOne(_)) => {
            let names = fs_err::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        }
        Err(error) => Err(error),
    }
}

/// The weights of the checkpoint in `folder`.
///
/// # Errors
/// Files that are missing or do not fit `config`.
pub fn weights(folder: &Path, config: &ModelConfig) -> Result<Weights, CheckpointError> {
    let (model, names) = (folder.join(MODEL), names(folder)?);
    let listed: Vec<_> = names.iter().filter_map(|name| name.strip_prefix(MODEL)?.strip_prefix('/')).collect();
    Ok(if listed.is_empty() { Weights::open(&model, config)? } else { Weights::open_listed(&model, config, &listed)? })
}

/// Whether the checkpoint in `folder` has masters beside its model, which in fp32 is its own.
fn has_masters(folder: &Path) -> Result<bool, CheckpointError> {
    Ok(hf::config::stored_dtype(&folder.join(MODEL))? != Some(Dtype::Fp32))
}

/// The files of the optimizer in the checkpoint `folder`.
///
/// # Errors
/// Some that are missing.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    optimizer::files(folder, names(folder)?.iter())
}

/// Fills `slices` of the optimizer's state with what `files` hold.
///
/// # Errors
/// Files that are missing, lack a tensor or elements of it, or hold them twice: a model of another shape, or damage. All of it
/// is told at once, and nothing is filled.
pub fn slices(files: Vec<PathBuf>, slices: &[Slice]) -> Result<(), CheckpointError> {
    let stored = Stored::open(files)?;
    let mut problems = Vec::new();
    for Slice { name, shape, from, tensor } in slices {
        stored.check(name, shape, &(*from..from + tensor.numel() as i64), &mut problems);
    }
    stored.refuse(problems)?;
    for Slice { name, from, tensor, .. } in slices {
        stored.fill(name, *from, tensor)?;
    }
    Ok(())
}

/// The weights of the checkpoint in `folder` as they were updated, in fp32: the masters where it has some.
///
/// # Errors
/// Files that are missing or do not fit `config`.
pub fn masters(folder: &Path, config: &ModelConfig) -> Result<Parameters, CheckpointError> {
    let weights = weights(folder, config)?;
    if !has_masters(folder)? {
        return Ok(weights.load(Kind::Float, Device::Cpu)?);
    }
    let specs = weights.specs().to_vec();
    let empty = |spec: &hf::names::ParameterSpec| Tensor::f_empty(&spec.shape, (Kind::Float, Device::Cpu));
    let tensors = specs.iter().map(empty).collect::<Result<Vec<_>, _>>()?;
    let named = specs.iter().zip(&tensors);
    let masters = named.map(|(spec, tensor)| Slice::whole(format!("{}.master", spec.name), tensor.shallow_clone()));
    slices(files(folder)?, &masters.collect::<Vec<_>>())?;
    Ok(Parameters::new(specs, tensors)?)
}
