//! What libtorch refuses, as errors that say what to do.

use std::any::Any;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;

use anyhow::anyhow;
use tch::TchError;

use crate::distributed::sharding::StepError;
use crate::figures::size;
use crate::plan::{Compute, Plan, fit, memory};

/// More memory than the device has; with libtorch's own words.
#[derive(Debug, thiserror::Error)]
#[error("out of memory: {0}")]
pub struct OutOfMemory(String);

impl OutOfMemory {
    /// That of another rank.
    #[must_use]
    pub(super) fn elsewhere() -> Self {
        Self("on another rank".to_owned())
    }
}

/// What libtorch refused, with what to do about it where that is known.
fn explained(text: &str) -> anyhow::Error {
    let line = text.lines().next().unwrap_or(text);
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    // The last is what oneDNN says of it, and of nothing else that a shape it has computed before could bring up.
    const SPENT: [&str; 5] =
        ["out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "could not create a primitive"];
    if says(&SPENT) {
        return OutOfMemory(line.to_owned()).into();
    }
    let error = anyhow!("libtorch: {line}");
    if says(&["capturing", "stream capture", "CUDA graph"]) {
        return error.context("a micro-batch could not be recorded as a CUDA graph: set device.cuda_graphs to false");
    }
    if says(&["index out of range", "device-side assert"]) {
        let advice = "check each with `hephaestus-forge verify PREFIX --tokenizer FOLDER`";
        return error.context(format!("a corpus may hold token ids beyond the model's vocabulary: {advice}"));
    }
    error
}

/// Where an error is that memory ran out: what would take less, with the estimate of each.
#[must_use]
pub fn advised(error: anyhow::Error, plan: &Plan) -> anyhow::Error {
    if !error.is::<OutOfMemory>() {
        return error;
    }
    let takes = size(memory::estimate(plan).total());
    let (rows, recomputed) = (plan.batch.micro_rows, fit::words(&plan.model.recompute));
    let mut text =
        format!("{error:#}\n  planned: {takes}, with batch.micro_sequences {rows} and activations {recomputed}");
    if plan.room.memory > 0 {
        text += &format!("; there are {}", size(plan.room.memory));
    }
    for (what, bytes) in fit::less(plan) {
        text += &format!("\n  less is taken by {what}: {}", size(bytes));
    }
    if matches!(plan.device.compute, Compute::Cuda(_)) {
        text += "\n  if something else uses the GPU, device.memory says what is left of it";
    }
    anyhow!(text)
}

/// Turns what libtorch throws inside the model, which tch makes a panic of, into an error.
///
/// # Errors
/// That, or the body's own.
pub fn caught<T>(body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let before: Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync> = Arc::from(panic::take_hook());
    let usual = Arc::clone(&before);
    panic::set_hook(Box::new(move |info| {
        if !is_thrown(info.payload()) {
            usual(info);
        }
    }));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| attempt(body)));
    panic::set_hook(Box::new(move |info| before(info)));
    result.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// The same inside of [`caught`], for one part of what goes on after it.
///
/// # Errors
/// What libtorch threw or returned, or the body's own.
pub(super) fn attempt<T>(body: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    match panic::catch_unwind(panic::AssertUnwindSafe(body)) {
        Ok(Err(error)) => Err(match (error.downcast_ref::<TchError>(), error.downcast_ref::<StepError>()) {
            (Some(refused), _) | (None, Some(StepError::Torch(refused))) => explained(&refused.to_string()),
            _ => error,
        }),
        Ok(result) => result,
        Err(payload) => match thrown(payload.as_ref()) {
            Some(error) => Err(error),
            None => panic::resume_unwind(payload),
        },
    }
}

/// Whether a panic of this payload is one that [`caught`] makes an error of.
#[must_use]
pub fn is_thrown(payload: &(dyn Any + Send)) -> bool {
    thrown(payload).is_some()
}

/// The error in the payload of a panic, where it is one that libtorch threw: tch's plain operations, of which models are
/// written, panic with it.
#[must_use]
fn thrown(payload: &(dyn Any + Send)) -> Option<anyhow::Error> {
    let text = payload.downcast_ref::<String>()?;
    let (_, thrown) = text.split_once("Torch(\"")?;
    let thrown = thrown.rsplit_once("\")").map_or(thrown, |(thrown, _)| thrown);
    Some(explained(&thrown.replace("\\n", "\n")))
}
