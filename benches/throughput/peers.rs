//! What is handed to the peers: the rows of each step and its learning rate, in one safetensors file.
//!
//! S steps, B rows, T tokens a row: `tokens`, `targets` (-100 for none) and `positions`, which restart with a document, are
//! `[S, B, T]`; `rates` is `[S]`.

use std::path::Path;

use anyhow::{Result, ensure};
use hephaestus::corpus::batch::{Batch, IGNORE};
use tch::Tensor;

/// The rows of one step.
pub(crate) struct Rows {
    /// `[B, T]` i64 tokens, targets and positions.
    parts: [Tensor; 3],
    rate: f64,
}

impl Rows {
    /// The rows of all micro-batches of a step that is made at learning rate `rate`.
    ///
    /// # Errors
    /// Loss weights other than 0 and 1, which peers do not know.
    pub(crate) fn new(micro: &[Batch], rate: f64) -> Result<Self> {
        for batch in micro {
            let is_plain = |(target, weight): (&i64, &f32)| *weight == if *target == IGNORE { 0.0 } else { 1.0 };
            ensure!(batch.targets.iter().zip(&batch.weights).all(is_plain), "rows with loss weights: peers have none");
        }
        let part = |of: fn(&Batch) -> &[i64]| -> Result<Tensor> {
            let parts = micro
                .iter()
                .map(|batch| Tensor::f_from_slice(of(batch))?.f_reshape([batch.rows as i64, batch.length as i64]));
            Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>, _>>()?, 0)?)
        };
        Ok(Self {
            parts: [part(|batch| &batch.tokens)?, part(|batch| &batch.targets)?, part(|batch| &batch.positions)?],
            rate,
        })
    }
}

/// Writes the rows of consecutive steps.
///
/// # Errors
/// No rows, or a file that cannot be written.
pub(crate) fn write_rows(file: &Path, rows: &[Rows]) -> Result<()> {
    let names = ["tokens", "targets", "positions"];
    let stacked = |at: usize| Tensor::f_stack(&rows.iter().map(|rows| &rows.parts[at]).collect::<Vec<_>>(), 0);
    let mut tensors = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        tensors.push((name, stacked(at)?));
    }
    tensors.push(("rates", Tensor::f_from_slice(&rows.iter().map(|rows| rows.rate).collect::<Vec<_>>())?));
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
    Ok(Tensor::write_safetensors(&tensors, file)?)
}
