//! A packed batch on the device that computes it.

use tch::{Device, TchError, Tensor};

use super::segments::Segments;
use crate::corpus::batch::Batch;
use crate::ffi;

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
    /// Copies a batch to `device`, without waiting for it.
    ///
    /// # Errors
    /// Whatever libtorch refuses, such as more memory than there is.
    pub fn to_device(batch: &Batch, device: Device) -> Result<Self, TchError> {
        let inside: i64 = batch.segments.iter().sum();
        if inside != batch.tokens.len() as i64 {
            // Attention would leave the others as they were in memory.
            return Err(TchError::Shape(format!("segments of {inside} tokens for {}", batch.tokens.len())));
        }
        let sources: Vec<i64> = batch.sources.iter().map(|source| i64::from(*source)).collect();
        Ok(Self {
            tokens: ffi::send(&Tensor::f_from_slice(&batch.tokens)?, device)?,
            targets: ffi::send(&Tensor::f_from_slice(&batch.targets)?, device)?,
            weights: ffi::send(&Tensor::f_from_slice(&batch.weights)?, device)?,
            positions: ffi::send(&Tensor::f_from_slice(&batch.positions)?, device)?,
            segments: Segments::new(batch.segments.clone(), device)?,
            sources: ffi::send(&Tensor::f_from_slice(&sources)?, device)?,
        })
    }

    /// Takes the contents of another batch of the same [`shape`](Self::shape), where its own lie.
    ///
    /// # Errors
    /// Another shape.
    pub fn fill(&mut self, other: &Self) -> Result<(), TchError> {
        let pairs = [
            (&mut self.tokens, &other.tokens),
            (&mut self.targets, &other.targets),
            (&mut self.weights, &other.weights),
            (&mut self.positions, &other.positions),
            (&mut self.sources, &other.sources),
        ];
        for (to, from) in pairs {
            to.f_copy_(from)?;
        }
        self.segments.fill(&other.segments)
    }

    /// A copy on which work can be recorded: lengths of segments, which will be others, it has none.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn to_record(&self) -> Result<Self, TchError> {
        Ok(Self {
            tokens: self.tokens.f_detach_copy()?,
            targets: self.targets.f_detach_copy()?,
            weights: self.weights.f_detach_copy()?,
            positions: self.positions.f_detach_copy()?,
            segments: self.segments.to_record()?,
            sources: self.sources.f_detach_copy()?,
        })
    }

    /// What work that was recorded on one batch must find alike in another: tokens, rows, and what attention is launched
    /// for.
    #[must_use]
    pub fn shape(&self) -> [i64; 4] {
        let ends = self.segments.ends().map_or(0, |ends| ends.size()[0]);
        [self.tokens.size()[0], self.sources.size()[0], ends, self.segments.longest()]
    }
}
