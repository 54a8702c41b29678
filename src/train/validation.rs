//! Losses on held-out documents, source by source.

use tch::Tensor;

use super::data::Data;
use super::step::Engine;
use super::stop::Stop;
use crate::corpus::batch::Batch;
use crate::metrics::SourceLoss;
use crate::metrics::reporter::Reporter;
use crate::plan::Plan;

/// The loss on at most `validation.sequences` held-out rows of each source, spread evenly over what is held out; the same
/// rows every time. `None` where it was stopped meanwhile.
///
/// # Errors
/// A corpus that cannot be read, or whatever libtorch refuses.
pub(super) fn measure(
    plan: &Plan,
    data: &Data,
    engine: &Engine,
    reporter: &mut Reporter,
    stop: &Stop,
) -> anyhow::Result<Option<Vec<SourceLoss>>> {
    let rows_of = |held_out: u64| held_out.min(plan.validation.rows);
    let total = data.sources.iter().map(|source| rows_of(source.held_out_rows())).sum();
    let bar = reporter.spin("validating", total);
    let mut losses = Vec::with_capacity(data.sources.len());
    for (source, planned) in data.sources.iter().zip(&plan.data.sources) {
        let (held_out, rows) = (source.held_out_rows(), rows_of(source.held_out_rows()));
        let mut sums: Option<Tensor> = None;
        let mut next = 0;
        while next < rows {
            if stop.asked() {
                bar.finish_and_clear();
                return Ok(None);
            }
            let mut batch = Batch::default();
            let end = (next + plan.batch.micro_rows).min(rows);
            for row in next..end {
                source.held_out_row((u128::from(row) * u128::from(held_out) / u128::from(rows)) as u64, &mut batch)?;
            }
            batch.sources = vec![0; batch.rows];
            let found = engine.evaluate(&batch, 1)?; // [1, 2]
            sums = Some(match sums {
                Some(sums) => sums + found,
                None => found,
            });
            bar.inc(end - next);
            next = end;
        }
        let Some(sums) = sums else { continue };
        let (nll, weight) = (sums.f_double_value(&[0, 0])?, sums.f_double_value(&[0, 1])?);
        if weight > 0.0 {
            losses.push(SourceLoss { name: planned.name.clone(), loss: nll / weight, tokens: weight.round() as u64 });
        }
    }
    bar.finish_and_clear();
    Ok(Some(losses))
}
