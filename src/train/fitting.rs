//! That a step fits into memory: what the planner chose is tried before the run, and kept by a run that goes on.

use std::path::Path;

use memmap2::MmapMut;

use super::refusal::{self, OutOfMemory};
use super::step::Engine;
use super::team::Team;
use crate::checkpoint::RECIPE;
use crate::corpus::batch::Batch;
use crate::ffi;
use crate::figures::size;
use crate::metrics::reporter::Reporter;
use crate::plan::{Compute, Plan, Room, fit, memory};
use crate::recipe;
use crate::recipe::quantity::{Count, Rows};

/// Bytes of address space, but of no memory, that are left to what begins after something was tried: threads and their
/// allocations.
const RESERVE: usize = 512 << 20;

/// Tokens of a document in what is tried: short ones, as attention on a GPU pads each document.
const DOCUMENT: usize = 128;

/// Has a run that goes on compute as many rows at a time as it did so far, where that is the planner's to choose: the sums of
/// gradients are then rounded in the same way. Returns what to tell where that is not what was planned.
pub(super) fn as_before(plan: &mut Plan, checkpoint: &Path) -> Option<String> {
    // One that does not read, of another version say, records nothing.
    let stored = recipe::load(&checkpoint.join(RECIPE), &[]).ok()?;
    let Rows::Count(Count(before)) = stored.recipe.batch.micro_sequences else { return None };
    let planned = plan.batch.micro_rows;
    if !plan.room.rows || before == planned {
        return None;
    }
    let fitting = plan.rows_a_rank().is_multiple_of(before).then(|| {
        let mut as_before = plan.clone();
        (as_before.room.rows, as_before.batch.micro_rows) = (false, before);
        fit::fastest(&as_before, plan.room.memory)
    });
    Some(match fitting.flatten() {
        Some(fit) => {
            *plan = plan.clone().with(fit);
            format!("rows computed at once: {before} as so far, instead of {planned}")
        }
        None => format!(
            "rows computed at once: {planned}, as the {before} so far do not fit here; sums are rounded otherwise from now on"
        ),
    })
}

/// Tries what the planner chose by a forward and backward pass of a batch of the worst shape, and where it does not fit after
/// all what takes less, until something does. On a CPU, which nobody shares out and where it may take minutes, it is only
/// tried where the estimate is above half of the memory that the run may take.
///
/// # Errors
/// Nothing fits, or whatever else libtorch refuses.
pub(super) fn rehearse(
    plan: &mut Plan,
    engine: &mut Engine,
    team: &Team<'_>,
    reporter: &mut Reporter,
) -> anyhow::Result<()> {
    let Room { rows, layers, memory } = plan.room;
    let planned = |plan: &Plan| memory::estimate(plan).total();
    let beyond_doubt = plan.device.compute == Compute::Cpu && planned(plan) < memory / 2;
    if !(rows || layers) || beyond_doubt {
        return Ok(());
    }
    loop {
        let trying = reporter.spin("trying whether a step fits into memory", 0);
        let (batch, several) = (worst(plan), plan.micro_batches() > 1);
        // Where it is address space that is limited (`ulimit -v`) an allocator does not give back what it once had.
        let reserve = MmapMut::map_anon(RESERVE);
        let tried = refusal::attempt(|| Ok(engine.rehearse(&batch, several)?));
        drop((trying, reserve));
        // All ranks compute in the same way.
        let anywhere = team.any(tried.as_ref().is_err_and(anyhow::Error::is::<OutOfMemory>))?;
        let error = match tried {
            Err(error) => error,
            Ok(()) if anywhere => OutOfMemory::elsewhere().into(),
            Ok(()) => {
                // NCCL has yet to take its buffers, and cannot take what libtorch keeps.
                ffi::empty_cache();
                return Ok(());
            }
        };
        engine.forget()?;
        ffi::empty_cache();
        if !error.is::<OutOfMemory>() {
            return Err(error);
        }
        let Some(next) = fit::next(plan) else { return Err(error) };
        let failed = (plan.batch.micro_rows, fit::words(&plan.model.recompute), size(planned(plan)));
        *plan = plan.clone().with(next);
        engine.decoder.set_recompute(&plan.model.recompute);
        reporter.note(&format!(
            "out of memory with {} rows at once, {} ({} by estimate): trying {}, {} ({})",
            failed.0,
            failed.1,
            failed.2,
            plan.batch.micro_rows,
            fit::words(&plan.model.recompute),
            size(planned(plan))
        ));
    }
}

/// A micro-batch that takes as much memory as any: no padding, every token learned.
fn worst(plan: &Plan) -> Batch {
    let (rows, length) = (plan.batch.micro_rows as usize, plan.data.sequence_length);
    let vocabulary = plan.model.config.vocab_size as i64;
    let tokens: Vec<i64> = (0..(rows * length) as i64).map(|at| at % vocabulary).collect();
    // One of a single token, so that they are not all of one length, which a CPU makes use of.
    let of_row = |_| match plan.data.document_mask {
        true => std::iter::once(1).chain((1..length).step_by(DOCUMENT).map(|at| DOCUMENT.min(length - at))).collect(),
        false => vec![length],
    };
    let documents: Vec<usize> = (0..rows).flat_map(of_row).collect();
    Batch {
        rows,
        length,
        targets: tokens.clone(),
        weights: vec![1.0; tokens.len()],
        positions: documents.iter().flat_map(|document| 0..*document as i64).collect(),
        segments: documents.iter().map(|document| *document as i64).collect(),
        sources: vec![0; rows],
        tokens,
    }
}
