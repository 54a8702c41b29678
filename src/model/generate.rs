//! Text out of a model, a token at a time: enough to look at what it has learned, not a server.

use tch::{Device, Kind, TchError};

use super::batch::TokenBatch;
use super::decoder::Decoder;
use crate::corpus::batch::{Batch, IGNORE};

/// How a continuation is drawn.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Most tokens to add.
    pub tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Tokens that end it.
    pub end: Vec<u32>,
    /// Tokens the model sees at most.
    pub window: usize,
}

/// The tokens that follow `prompt`, which must not be empty, without the one that ended them.
///
/// # Errors
/// Whatever libtorch refuses.
pub fn generate(decoder: &Decoder, prompt: &[u32], sampling: &Sampling, device: Device) -> Result<Vec<u32>, TchError> {
    tch::manual_seed(sampling.seed.cast_signed());
    let mut tokens: Vec<i64> = prompt.iter().map(|token| i64::from(*token)).collect();
    for _ in 0..sampling.tokens {
        let seen = &tokens[tokens.len().saturating_sub(sampling.window)..];
        let batch = TokenBatch::to_device(&row(seen), device)?;
        let logits = tch::no_grad(|| decoder.last_logits(&batch)).f_to_kind(Kind::Float)?; // [V]
        let next = if sampling.temperature > 0.0 {
            (logits / sampling.temperature).f_softmax(-1, Kind::Float)?.f_multinomial(1, false)?.f_int64_value(&[0])?
        } else {
            logits.f_argmax(-1, false)?.f_int64_value(&[])?
        };
        if sampling.end.iter().any(|end| i64::from(*end) == next) {
            break;
        }
        tokens.push(next);
    }
    Ok(tokens[prompt.len()..].iter().map(|token| u32::try_from(*token).unwrap_or_default()).collect())
}

/// One document as a row of its own, from which nothing is learned.
fn row(tokens: &[i64]) -> Batch {
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
