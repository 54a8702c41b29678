//! Reads a checkpoint back, exactly.

use std::path::Path;

use tch::{Device, Kind};

use super::{CheckpointError, MODEL, OPTIMIZER};
use crate::hf;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::optim::adamw::AdamW;

/// Fills `optimizer`, which is over `parameters`, with what the checkpoint in `folder` holds.
///
/// # Errors
/// A file that is missing or lacks a tensor: a model of another shape or precision.
pub fn optimizer(folder: &Path, parameters: &Parameters, optimizer: &mut AdamW) -> Result<(), CheckpointError> {
    let slices = optimizer.slices(parameters.specs()).into_iter().map(|slice| (slice.name, slice.tensor));
    hf::tensors::fill(&folder.join(OPTIMIZER), &mut slices.collect::<Vec<_>>())?;
    Ok(optimizer.round_masters()?)
}

/// The weights of the checkpoint in `folder` as they were updated, in fp32: the masters where it has some.
///
/// # Errors
/// Files that are missing or do not fit `config`.
pub fn masters(folder: &Path, config: &ModelConfig) -> Result<Parameters, CheckpointError> {
    let model = hf::import::load(&folder.join(MODEL), config, Kind::Float, Device::Cpu)?;
    if hf::config::stored_dtype(&folder.join(MODEL))? == Some(hf::dtype::Dtype::Fp32) {
        return Ok(model);
    }
    let named = model.iter().map(|(name, weight)| (format!("{name}.master"), weight.shallow_clone()));
    hf::tensors::fill(&folder.join(OPTIMIZER), &mut named.collect::<Vec<_>>())?;
    Ok(model)
}
