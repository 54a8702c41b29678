//! What is told between two log lines. Sums stay on the device until a line is due.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use tch::{Kind, Tensor};

use super::start;
use super::step::Step;
use crate::corpus::loader::{Loader, Position};
use crate::metrics::{Progress, memory, throughput};
use crate::plan::Plan;

/// Sums over the steps since the last line.
#[derive(Debug)]
pub struct Interval<'a> {
    plan: &'a Plan,
    /// `[S, 2]` fp32, the sum of [`Step::by_source`].
    by_source: Tensor,
    /// Norm of the last step.
    norm: Tensor,
    /// Updates skipped since they were last read.
    skipped: Tensor,
    /// Updates skipped in a row up to now.
    in_a_row: Tensor,
    steps: u64,
    /// Bytes sent to other ranks, where there are any.
    sent: Option<u64>,
    began: Instant,
    waited: Duration,
    /// FLOPs of a trained token, and how many the device can do a second, where that is known.
    flops: (f64, Option<f64>),
}

impl<'a> Interval<'a> {
    /// An empty interval that begins now.
    #[must_use]
    pub fn new(plan: &'a Plan, loader: &Loader) -> Self {
        let options = (Kind::Float, start::device(plan));
        let scalar = || Tensor::zeros([0_i64; 0], options);
        let flops = throughput::flops_a_token(&plan.model.config, plan.data.sequence_length);
        Self {
            plan,
            by_source: Tensor::zeros([plan.data.sources.len() as i64, 2], options),
            norm: scalar(),
            skipped: scalar(),
            in_a_row: scalar(),
            steps: 0,
            sent: None,
            began: Instant::now(),
            waited: loader.waited(),
            flops: (flops, start::peak_flops(plan)),
        }
    }

    /// Adds a step.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn add(&mut self, step: &Step) -> Result<(), tch::TchError> {
        // What was not learned from is not told either.
        let learned = self.by_source.f_zeros_like()?.f_where_self(&step.skipped.f_gt(0)?, &step.by_source)?;
        self.by_source = self.by_source.f_add(&learned)?;
        self.norm = step.norm.shallow_clone();
        self.skipped = self.skipped.f_add(&step.skipped)?;
        self.in_a_row = self.in_a_row.f_add(&step.skipped)?.f_mul(&step.skipped)?;
        self.steps += 1;
        self.sent = step.sent.map(|bytes| bytes + self.sent.unwrap_or(0));
        Ok(())
    }

    /// Updates skipped since this was last asked.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn skipped(&mut self) -> Result<u64, tch::TchError> {
        let skipped = self.skipped.f_double_value(&[])?;
        self.skipped = self.skipped.f_zeros_like()?;
        Ok(skipped as u64)
    }

    /// Refuses to go on after too many skipped updates in a row.
    ///
    /// # Errors
    /// As many as `optimizer.max_skipped`; it names `newest`, which was saved before the first of them.
    pub fn check(&self, newest: Option<&Path>) -> anyhow::Result<()> {
        let in_a_row = self.in_a_row.f_double_value(&[])? as u64;
        if in_a_row < u64::from(self.most_skipped()) {
            return Ok(());
        }
        // None is saved while updates are skipped.
        let back = match newest {
            Some(folder) => format!(
                "{} was saved before the first of them; if its weights have blown up already, --resume with the one before it",
                folder.display()
            ),
            None => "there is no checkpoint yet".to_owned(),
        };
        bail!(
            "the last {in_a_row} updates were skipped, because the loss or a gradient was not finite (gradient norm {}): \
             lower schedule.peak or lengthen its warm-up, or look for damaged data; {back}",
            self.norm.f_double_value(&[])?
        )
    }

    /// Whether the last update was skipped.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn is_skipping(&self) -> Result<bool, tch::TchError> {
        Ok(self.in_a_row.f_double_value(&[])? > 0.0)
    }

    fn most_skipped(&self) -> u32 {
        self.plan.optimizer.max_skipped.max(1)
    }

    /// The line for the interval that ends now; the next one begins.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn report(
        &mut self,
        position: &Position,
        stage: usize,
        tokens: u64,
        lr: f64,
        skipped: u64,
        loader: &Loader,
    ) -> Result<Progress, tch::TchError> {
        let sums = Vec::<f64>::try_from(self.by_source.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)?;
        let (nll, weight) = sums.as_chunks().0.iter().fold((0.0, 0.0), |(a, b), [nll, weight]| (a + nll, b + weight));
        let named = self.plan.data.sources.iter().zip(sums.as_chunks().0);
        let sources = named.filter(|(_, [_, weight])| *weight > 0.0);
        let sources = sources.map(|(source, [nll, weight])| (source.name.clone(), nll / weight)).collect();
        let took = self.began.elapsed();
        let seconds = took.as_secs_f64().max(1e-9);
        let rate = (self.steps * self.plan.tokens_a_step()) as f64 / seconds;
        let left = self.plan.steps().saturating_sub(position.step);
        let (flops, peak) = self.flops;
        let progress = Progress {
            step: position.step,
            steps: self.plan.steps(),
            stage: self.plan.stages[stage].name.clone(),
            tokens,
            loss: nll / weight,
            grad_norm: self.norm.f_double_value(&[])?,
            lr,
            tokens_per_second: rate,
            mfu: peak.map(|peak| throughput::mfu(rate / self.plan.distributed.world as f64, flops, peak)),
            memory: start::peak_memory(self.plan).unwrap_or_else(memory::resident),
            waited: ((loader.waited() - self.waited).as_secs_f64() / seconds).min(1.0),
            skipped,
            communicated: self.sent.map(|bytes| bytes / self.steps.max(1)),
            sources,
            eta: Duration::from_secs_f64(seconds / self.steps.max(1) as f64 * left as f64),
        };
        self.by_source = self.by_source.f_zeros_like()?;
        (self.steps, self.sent, self.began, self.waited) = (0, None, Instant::now(), loader.waited());
        Ok(progress)
    }

    /// Leaves out the time since `pause`: validation and checkpoints are not training.
    pub fn leave_out(&mut self, pause: Instant) {
        self.began += pause.elapsed();
    }
}
