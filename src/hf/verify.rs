//! Whether a written folder holds its source, and what rounding costs.

use std::path::Path;

use hephaestus_core::vocabulary::Vocabulary;
use tch::{Device, Kind, Tensor};

use super::dtype::Dtype;
use super::export::kind_of;
use super::{HfError, config, import};
use crate::corpus::batch::{Batch, IGNORE};
use crate::model::batch::TokenBatch;
use crate::model::config::{ModelConfig, Recompute};
use crate::model::decoder::Decoder;
use crate::model::parameters::Parameters;

/// Most tokens the comparison reads.
const LENGTH: usize = 512;

/// What it reads where there is a tokenizer.
const TEXT: &str = include_str!("verify.txt");

/// How far two folders' predictions are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Tokens compared.
    pub tokens: usize,
    /// Largest difference of a logit.
    pub difference: f64,
    /// Largest logit of the source, to hold the difference against.
    pub scale: f64,
    /// Kullback-Leibler divergence of the written folder's prediction from the source's, in nats a token.
    pub mean_divergence: f64,
    /// Its largest.
    pub max_divergence: f64,
}

/// Holds every tensor of the folder `written` against `source` rounded to `dtype`, bit by bit. Errors call it `shown`.
///
/// # Errors
/// [`HfError::Tensors`] with every tensor that holds other values, or values that are not finite.
pub fn tensors(
    config: &ModelConfig,
    source: &Parameters,
    dtype: Dtype,
    written: &Path,
    shown: &Path,
) -> Result<(), HfError> {
    let weights = import::Weights::open(written, config)?;
    let mut problems = Vec::new();
    for (name, tensor) in source.iter() {
        let (stored, expected) = (weights.tensor(name)?, tensor.f_detach()?.f_to_kind(kind_of(dtype))?);
        let count = unbounded(&stored)?;
        if count > 0 {
            let before = unbounded(&tensor.f_detach()?)?;
            let why = match before {
                0 => {
                    let largest = tensor.f_abs()?.f_max()?.f_double_value(&[])?;
                    format!("the source's largest is {largest:e}: use bf16 or fp32")
                }
                _ => format!("{before} are so in the source"),
            };
            let all = stored.numel();
            problems.push(format!("{name}: {count} of {all} values are infinite or not a number in {dtype}; {why}"));
        } else if stored != expected {
            problems.push(format!("{name} is not what was written: the disk or the memory is faulty"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(HfError::Tensors { path: shown.to_owned(), problems }) }
}

/// How many elements are infinite or not a number.
fn unbounded(tensor: &Tensor) -> Result<i64, HfError> {
    Ok(tensor.numel() as i64 - tensor.f_isfinite()?.f_sum(Kind::Int64)?.f_int64_value(&[])?)
}

/// Runs `source`, and what was written of it, over the same `tokens` in fp32.
///
/// # Errors
/// [`HfError`] where the folder cannot be read back.
pub fn compare(
    config: &ModelConfig,
    source: &Parameters,
    written: &Path,
    tokens: &[i64],
) -> Result<Comparison, HfError> {
    let expected = logits(config, source, tokens)?;
    let stored = config::read(written)?;
    let found = logits(&stored, &import::load(written, &stored, Kind::Float, Device::Cpu)?, tokens)?;
    let [p, q] = [&expected, &found].map(|logits| logits.f_log_softmax(-1, Kind::Double));
    let p = p?;
    // Rounding of the sum may leave a little below zero.
    let divergence = (p.f_exp()? * (&p - q?)).f_sum_dim_intlist(-1_i64, false, Kind::Double)?.f_clamp_min(0.0)?;
    Ok(Comparison {
        tokens: tokens.len(),
        difference: (found - &expected).f_abs()?.f_max()?.f_double_value(&[])?,
        scale: expected.f_abs()?.f_max()?.f_double_value(&[])?,
        mean_divergence: divergence.f_mean(Kind::Double)?.f_double_value(&[])?,
        max_divergence: divergence.f_max()?.f_double_value(&[])?,
    })
}

/// `[N, V]` fp32 logits over `[N]` tokens.
fn logits(config: &ModelConfig, parameters: &Parameters, tokens: &[i64]) -> Result<Tensor, HfError> {
    let wide = parameters.tensors().iter().map(|tensor| tensor.f_to_kind(Kind::Float)).collect::<Result<_, _>>()?;
    let parameters = Parameters::new(parameters.specs().to_vec(), wide)?;
    let batch = TokenBatch::to_device(&batch(tokens), Device::Cpu)?;
    let decoder = Decoder::new(config, &parameters, Recompute::None)?;
    Ok(tch::no_grad(|| decoder.logits(&batch)))
}

/// The tokens of a page of English where there is a vocabulary, else a walk through all tokens in even steps.
#[must_use]
pub fn sample(config: &ModelConfig, vocabulary: Option<&Vocabulary>) -> Vec<i64> {
    let length = LENGTH.min(config.max_positions);
    let text = vocabulary.and_then(|vocabulary| vocabulary.encode(TEXT).ok()).unwrap_or_default();
    let text: Vec<_> = text.into_iter().take(length).map(i64::from).collect();
    if !text.is_empty() && text.iter().all(|token| (*token as usize) < config.vocab_size) {
        return text;
    }
    (0..length).map(|at| (at * config.vocab_size / length) as i64).collect()
}

/// One sequence.
fn batch(tokens: &[i64]) -> Batch {
    let length = tokens.len();
    Batch {
        rows: 1,
        length,
        tokens: tokens.to_vec(),
        targets: vec![IGNORE; length],
        weights: vec![0.0; length],
        positions: (0..length as i64).collect(),
        segments: vec![length as i64],
        sources: vec![0],
    }
}
