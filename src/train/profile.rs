//! `--profile`: some steps recorded, as a trace and as a table of where the time went.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;

use crate::ffi::{self, Operation};

/// Operations that the table names.
const NAMED: usize = 25;

/// Which steps to record: `steps=10..12`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps(RangeInclusive<u64>);

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.strip_prefix("steps=").and_then(|range| range.split_once(".."));
        let ends = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ends {
            Some((first, last)) if 0 < first && first <= last => Ok(Self(first..=last)),
            _ => Err(format!("\"{text}\" is no range of steps: expected one such as steps=10..12")),
        }
    }
}

/// The recording of a run.
#[derive(Debug)]
pub struct Profile {
    steps: Option<RangeInclusive<u64>>,
    folder: PathBuf,
    gpu: bool,
    first: Option<u64>,
}

impl Profile {
    /// Of these steps, if of any, into `folder`; with `gpu` of its kernels too.
    #[must_use]
    pub fn new(steps: Option<&Steps>, folder: &Path, gpu: bool) -> Self {
        Self { steps: steps.map(|steps| steps.0.clone()), folder: folder.to_owned(), gpu, first: None }
    }

    /// Begins where `step` is the first to be recorded.
    ///
    /// # Errors
    /// No profiler in this libtorch, or one that runs already.
    pub fn before(&mut self, step: u64) -> anyhow::Result<()> {
        if self.first.is_none() && self.steps.as_ref().is_some_and(|steps| steps.contains(&step)) {
            ffi::profile_begin(self.gpu).context("--profile")?;
            self.first = Some(step);
        }
        Ok(())
    }

    /// Ends after `step` where it was the last to be recorded; returns what to tell.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn after(&mut self, step: u64) -> anyhow::Result<Option<String>> {
        let is_last = self.steps.as_ref().is_some_and(|steps| step >= *steps.end());
        if is_last { self.end(step) } else { Ok(None) }
    }

    /// Ends what is being recorded, `step` being the last that was made; returns what to tell.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn end(&mut self, step: u64) -> anyhow::Result<Option<String>> {
        let Some(first) = self.first.take() else { return Ok(None) };
        self.steps = None;
        let name = self.folder.join(format!("profile-{first}-{step}"));
        let unfinished = self.folder.join(".profile.tmp.json");
        let operations = ffi::profile_end(&unfinished).context("--profile")?;
        fs_err::rename(unfinished, name.with_extension("json"))?;
        // Stopped within the first, there is a part of one.
        let (table, shares) = summary(&operations, (step + 1).saturating_sub(first).max(1));
        hephaestus_core::whole::write(&name.with_extension("txt"), table.as_bytes())?;
        Ok(Some(format!("profile: {shares}; {}.txt and .json (chrome://tracing, ui.perfetto.dev)", name.display())))
    }
}

/// What an operation is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Product,
    Attention,
    Other,
}

impl Class {
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if says(&["flash", "attention", "fmha", "sdpa"]) {
            Self::Attention
        } else if says(&["mm", "gemm", "nvjet", "cutlass", "linear", "matmul", "cublas"]) {
            Self::Product
        } else {
            Self::Other
        }
    }
}

/// A table of operations by the time they took themselves, and a line of shares. Kernels count where there are any, else
/// what ran on the CPU.
fn summary(operations: &[Operation], steps: u64) -> (String, String) {
    let on_gpu = operations.iter().any(|operation| operation.on_gpu);
    let counted: Vec<_> = operations.iter().filter(|operation| operation.on_gpu == on_gpu).collect();
    let own = if on_gpu { counted.iter().map(|operation| operation.duration).collect() } else { own_time(&counted) };
    let mut by_name: HashMap<&str, (u64, u64)> = HashMap::new();
    for (operation, own) in counted.iter().zip(&own) {
        let (time, calls) = by_name.entry(&operation.name).or_default();
        *time += own;
        *calls += 1;
    }
    let total = own.iter().sum::<u64>().max(1) as f64;
    let share = |class: Class| -> f64 {
        let times = by_name.iter().filter(|(name, _)| Class::of(name) == class).map(|(_, (time, _))| *time);
        100.0 * times.sum::<u64>() as f64 / total
    };
    let shares = format!(
        "matrix products {:.0} %, attention {:.0} %, everything else {:.0} %",
        share(Class::Product),
        share(Class::Attention),
        share(Class::Other)
    );
    let mut named: Vec<_> = by_name.iter().collect();
    named.sort_by(|(a, (a_time, _)), (b, (b_time, _))| b_time.cmp(a_time).then(a.cmp(b)));
    let place = if on_gpu { "GPU" } else { "CPU" };
    let mut table =
        format!("{steps} steps, time on the {place}: {shares}\n\n share   ms a step  calls a step  operation\n");
    for (name, (time, calls)) in named.iter().take(NAMED) {
        let (share, steps) = (100.0 * *time as f64 / total, steps as f64);
        let _ = writeln!(
            table,
            "{share:>5.1} %  {:>9.3}  {:>12.1}  {name}",
            *time as f64 / 1e6 / steps,
            *calls as f64 / steps
        );
    }
    (table, shares)
}

/// Of each operation the time that none inside it took.
fn own_time(operations: &[&Operation]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..operations.len()).collect();
    // An operation before those inside it.
    order.sort_by_key(|at| {
        let operation = operations[*at];
        (operation.thread, operation.begin, u64::MAX - operation.duration)
    });
    let mut own: Vec<u64> = operations.iter().map(|operation| operation.duration).collect();
    let mut around: Vec<usize> = Vec::new();
    for at in order {
        let operation = operations[at];
        let ends = |outer: &usize| operations[*outer].begin.saturating_add(operations[*outer].duration);
        while around
            .last()
            .is_some_and(|outer| operations[*outer].thread != operation.thread || ends(outer) <= operation.begin)
        {
            around.pop();
        }
        if let Some(outer) = around.last() {
            own[*outer] = own[*outer].saturating_sub(operation.duration);
        }
        around.push(at);
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str, begin: u64, duration: u64, thread: u64) -> Operation {
        Operation { name: name.to_owned(), begin, duration, thread, on_gpu: false }
    }

    #[test]
    fn an_operation_counts_for_what_none_inside_it_takes() {
        let all = [
            operation("aten::linear", 0, 100, 1),
            operation("aten::mm", 10, 70, 1),
            operation("aten::add", 100, 20, 1),
            operation("aten::mm", 50, 10, 2),
        ];
        assert_eq!(own_time(&all.iter().collect::<Vec<_>>()), [30, 70, 20, 10]);
        let (table, shares) = summary(&all, 2);
        assert_eq!(shares, "matrix products 85 %, attention 0 %, everything else 15 %");
        assert!(table.contains(" 61.5 %      0.000           1.0  aten::mm\n"), "{table}");
    }

    #[test]
    fn steps_are_a_range_from_one_on() {
        assert_eq!("steps=10..12".parse(), Ok(Steps(10..=12)));
        for text in ["10..12", "steps=0..2", "steps=3..2", "steps=a..b", "steps=3"] {
            assert!(text.parse::<Steps>().is_err(), "{text}");
        }
    }
}
