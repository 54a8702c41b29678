//! Reads a checkpoint back, exactly, whatever ranks wrote it and whatever part of it is asked for.

use std::path::Path;

use tch::{Device, Kind, Tensor};

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
    slices(folder, &optimizer.slices_with(parameters.specs(), has_masters(folder)?))?;
    Ok(optimizer.round_masters()?)
}

/// Whether the checkpoint in `folder` has masters beside its model, which in fp32 is its own.
fn has_masters(folder: &Path) -> Result<bool, CheckpointError> {
    Ok(hf::config::stored_dtype(&folder.join(MODEL))? != Some(Dtype::Fp32))
}

/// Fills `slices` of the optimizer's state with what the checkpoint in `folder` holds.
///
/// # Errors
/// Files that are missing, lack a tensor or elements of it, or hold them twice: a model of another shape, or damage. All of it
/// is told at once, and nothing is filled.
pub fn slices(folder: &Path, slices: &[Slice]) -> Result<(), CheckpointError> {
    let stored = Stored::open(optimizer::files(folder)?)?;
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
    let model = folder.join(MODEL);
    if !has_masters(folder)? {
        return Ok(hf::import::load(&model, config, Kind::Float, Device::Cpu)?);
    }
    let specs = Weights::open(&model, config)?.specs().to_vec();
    let empty = |spec: &hf::names::ParameterSpec| Tensor::f_empty(&spec.shape, (Kind::Float, Device::Cpu));
    let tensors = specs.iter().map(empty).collect::<Result<Vec<_>, _>>()?;
    let named = specs.iter().zip(&tensors);
    let masters = named.map(|(spec, tensor)| Slice::whole(format!("{}.master", spec.name), tensor.shallow_clone()));
    slices(folder, &masters.collect::<Vec<_>>())?;
    Ok(Parameters::new(specs, tensors)?)
}
