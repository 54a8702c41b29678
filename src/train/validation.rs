//! Losses on held-out documents, source by source.

use tch::{Kind, Tensor};

use super::data::Data;
use super::step::Engine;
use super::team::Team;
use crate::corpus::batch::Batch;
use crate::metrics::SourceLoss;
use crate::metrics::reporter::Reporter;
use crate::plan::{Plan, SourcePlan};

/// What became of a validation.
#[derive(Debug)]
pub(super) enum Measured {
    /// The loss of every source that holds documents out.
    Losses(Vec<SourceLoss>),
    /// It was stopped meanwhile, on this rank or another.
    Stopped,
    /// This rank could not read its rows.
    Unread(anyhow::Error),
}

/// Measures the loss on at most `validation.sequences` held-out rows of each source, spread evenly over what is held out; the same
/// rows every time, whatever the number of ranks, which share them. It ends early where `stopped` says so on any rank.
///
/// # Errors
/// Another rank that failed, or whatever libtorch refuses.
pub(super) fn measure(
    plan: &Plan,
    team: &Team<'_>,
    data: &Data,
    engine: &mut Engine,
    reporter: &mut Reporter,
    stopped: impl Fn() -> bool,
) -> anyhow::Result<Measured> {
    let rows_of = |held_out: u64| held_out.min(plan.validation.rows);
    let total = data.sources.iter().map(|source| rows_of(source.held_out_rows())).sum();
    let bar = reporter.spin("validating", total);
    let (rank, world, at_once) = (team.rank() as u64, plan.distributed.world as u64, plan.batch.micro_rows);
    let sums = Tensor::f_zeros([data.sources.len() as i64, 2], (Kind::Float, engine.parameters.device()))?;
    for (number, source) in data.sources.iter().enumerate() {
        let (held_out, rows) = (source.held_out_rows(), rows_of(source.held_out_rows()));
        let chunks = rows.div_ceil(at_once);
        for round in 0..chunks.div_ceil(world) {
            // Ranks go through a model together: one that has no rows left goes through the last ones, which do not count.
            let chunk = round * world + rank;
            let first = chunk.min(chunks - 1) * at_once;
            let mut batch = Batch::default();
            let nth = |row: u64| (u128::from(row) * u128::from(held_out) / u128::from(rows)) as u64;
            let mut each = first..(first + at_once).min(rows);
            let read = each.try_for_each(|row| source.held_out_row(nth(row), &mut batch));
            if team.any(stopped() || read.is_err())? {
                bar.finish_and_clear();
                return Ok(read.map_or_else(|error| Measured::Unread(error.into()), |()| Measured::Stopped));
            }
            batch.sources = vec![0; batch.rows];
            let found = engine.evaluate(&batch, 1)?; // [1, 2]
            if chunk < chunks {
                let _ = sums.f_get(number as i64)?.f_add_(&found.f_squeeze_dim(0)?)?;
            }
            bar.inc((at_once * world).min(rows - (round * world * at_once).min(rows)));
        }
    }
    let sums = Vec::<f64>::try_from(engine.sharding.sum(sums)?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)?;
    bar.finish_and_clear();
    let named = plan.data.sources.iter().zip(sums.as_chunks().0).filter(|(_, [_, weight])| *weight > 0.0);
    let loss = |(source, [nll, weight]): (&SourcePlan, &[f64; 2])| SourceLoss {
        name: source.name.clone(),
        loss: nll / weight,
        tokens: weight.round() as u64,
    };
    Ok(Measured::Losses(named.map(loss).collect()))
}
