//! A packed batch on the device that computes it.

use tch::{Device, TchError, Tensor};

use super::segments::Segments;
use crate::corpus::batch::Batch;

/// Tokens of all rows one after another (N = B rows x T tokens); attention stays inside each segment.
#[derive(Debug)]
pub struct TokenBatch {
    /// `[N]` i64 token ids.
    pub tokens: Tensor,
    /// `[N]` i64 token to predict, or [`crate::corpus::batch::IGNORE`].
    pub targets: Tensor,
    /// `[N]` f32 weight of each target in the loss.
    pub weights: Tensor,
    /// `[N]` i64 position of each token inside its segment.
    pub positions: Tensor,
    /// Where documents begin and end.
    pub segments: Segments,
    /// `[B]` i64 source of each row.
    pub sources: Tensor,
}

impl TokenBatch {
    /// Copies a batch to `device`; to a CUDA device through pinned memory, without waiting for the copy.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn to_device(batch: &Batch, device: Device) -> Result<Self, TchError> {
        let sources: Vec<i64> = batch.sources.iter().map(|source| i64::from(*source)).collect();
        Ok(Self {
            tokens: send(&Tensor::f_from_slice(&batch.tokens)?, device)?,
            targets: send(&Tensor::f_from_slice(&batch.targets)?, device)?,
            weights: send(&Tensor::f_from_slice(&batch.weights)?, device)?,
            positions: send(&Tensor::f_from_slice(&batch.positions)?, device)?,
            segments: Segments::new(batch.segments.clone(), device)?,
            sources: send(&Tensor::f_from_slice(&sources)?, device)?,
        })
    }
}

/// A copy on `device`; to a CUDA device through pinned memory, without waiting for it.
pub(super) fn send(tensor: &Tensor, device: Device) -> Result<Tensor, TchError> {
    match device {
        Device::Cuda(_) => tensor.f_pin_memory(device)?.f_to_device_(device, tensor.kind(), true, false),
        _ => tensor.f_to_device(device),
    }
}
