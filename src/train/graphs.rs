//! Micro-batches recorded as CUDA graphs: their launches are given to the GPU at once, where a small model would spend more
//! time on launching than on computing.
//!
//! What is recorded reads and writes the same memory each time, so a batch is copied to where the recorded one lay, and
//! gradients are found where they were left. Batches of another shape (see [`TokenBatch::shape`]) are recorded anew.

use std::collections::HashMap;

use tch::{Device, TchError, Tensor};

use super::step::Micro;
use crate::ffi::Graph;
use crate::model::batch::TokenBatch;
use crate::plan::memory::GRAPHS;

/// Batches of a shape that are computed plainly first: libraries set themselves up in them, which cannot be recorded.
const PLAIN: u32 = 2;

/// What was recorded so far.
#[derive(Debug, Default)]
pub struct Graphs {
    seen: HashMap<[i64; 4], u32>,
    recorded: HashMap<[i64; 4], Recorded>,
}

#[derive(Debug)]
struct Recorded {
    graph: Graph,
    batch: TokenBatch,
    scale: Tensor,
    micro: Micro,
}

impl Graphs {
    /// What `compute` makes of `batch` and `scale`, a scalar; by a graph where that shape has been seen before.
    ///
    /// # Errors
    /// What CUDA cannot record, or whatever libtorch refuses.
    pub fn run(
        &mut self,
        batch: &TokenBatch,
        scale: &Tensor,
        compute: impl FnOnce(&TokenBatch, &Tensor) -> Micro,
    ) -> Result<Micro, TchError> {
        let Device::Cuda(index) = scale.device() else { return Ok(compute(batch, scale)) };
        let shape = batch.shape();
        if let Some(recorded) = self.recorded.get_mut(&shape) {
            recorded.batch.fill(batch)?;
            recorded.scale.f_copy_(scale)?;
            recorded.graph.replay()?;
            return Ok(recorded.micro.shallow_clone());
        }
        let seen = self.seen.entry(shape).or_default();
        *seen += 1;
        if *seen <= PLAIN || self.recorded.len() as u64 == GRAPHS {
            return Ok(compute(batch, scale));
        }
        let (batch, scale) = (batch.to_record()?, scale.f_detach_copy()?);
        let (graph, micro) = Graph::record(index, || compute(&batch, &scale))?;
        graph.replay()?;
        tracing::debug!(?shape, "a micro-batch was recorded as a CUDA graph");
        let again = micro.shallow_clone();
        self.recorded.insert(shape, Recorded { graph, batch, scale, micro });
        Ok(again)
    }
}
