//! Whether a written folder computes what its source computes.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::{HfError, config, import};
use crate::corpus::batch::{Batch, IGNORE};
use crate::model::batch::TokenBatch;
use crate::model::config::{ModelConfig, Recompute};
use crate::model::decoder::Decoder;
use crate::model::parameters::Parameters;

/// Tokens the comparison reads.
const LENGTH: usize = 64;

/// How far two folders' logits are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Tokens compared.
    pub tokens: usize,
    /// Largest difference of a logit.
    pub difference: f64,
    /// Largest logit of the source, to hold the difference against.
    pub scale: f64,
}

/// Runs `source`, and what was written of it, over the same tokens in fp32.
///
/// # Errors
/// [`HfError`] where the folder cannot be read back.
pub fn compare(config: &ModelConfig, source: &Parameters, written: &Path) -> Result<Comparison, HfError> {
    let expected = logits(config, source)?;
    let stored = config::read(written)?;
    let difference = logits(&stored, &import::load(written, &stored, Kind::Float, Device::Cpu)?)? - &expected;
    Ok(Comparison {
        tokens: expected.size()[0] as usize,
        difference: difference.abs().max().f_double_value(&[])?,
        scale: expected.abs().max().f_double_value(&[])?,
    })
}

/// `[N, V]` fp32 logits over a fixed walk through the vocabulary.
fn logits(config: &ModelConfig, parameters: &Parameters) -> Result<Tensor, HfError> {
    let wide = parameters.tensors().iter().map(|tensor| tensor.f_to_kind(Kind::Float)).collect::<Result<_, _>>()?;
    let parameters = Parameters::new(parameters.specs().to_vec(), wide)?;
    let batch = TokenBatch::to_device(&walk(config), Device::Cpu)?;
    let decoder = Decoder::new(config, &parameters, Recompute::None)?;
    Ok(tch::no_grad(|| decoder.logits(&batch)))
}

/// One sequence that visits the whole vocabulary in even steps.
fn walk(config: &ModelConfig) -> Batch {
    let length = LENGTH.min(config.max_positions);
    Batch {
        rows: 1,
        length,
        tokens: (0..length).map(|at| (at * config.vocab_size / length) as i64).collect(),
        targets: vec![IGNORE; length],
        weights: vec![0.0; length],
        positions: (0..length as i64).collect(),
        segments: vec![length as i64],
        sources: vec![0],
    }
}
