//! The console: one line an interval on standard error, and on a terminal a bar with the time left below it.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::table::perplexity;
use super::{Progress, Validation};
use crate::figures::{size, thousands};

/// How often bars are drawn anew, so that time goes on while a step is long.
const TICK: Duration = Duration::from_millis(250);

/// Where lines and bars go.
#[derive(Debug)]
pub struct Console {
    bars: Bars,
    columns: Columns,
}

#[derive(Debug)]
enum Bars {
    /// No terminal: plain lines alone.
    None,
    /// Lines go above the bars.
    Terminal { all: MultiProgress, run: ProgressBar, end: Arc<Mutex<Option<Instant>>> },
}

impl Console {
    /// A console of a run of `steps` steps that starts after step `from_step`; with bars if `terminal` is set and standard
    /// error is one.
    #[must_use]
    pub fn new(name: &str, steps: u64, from_step: u64, terminal: bool) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let columns = Columns { dim: colour, ..Columns::default() };
        if !terminal || all.is_hidden() {
            return Self { bars: Bars::None, columns: Columns::default() };
        }
        let end = Arc::new(Mutex::new(None));
        let left = Arc::clone(&end);
        let style = style("{msg} {wide_bar:.cyan/dim} {human_pos}/{human_len} · {elapsed} · {left} left")
            .with_key("left", move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let end: Option<Instant> = *left.lock().unwrap_or_else(PoisonError::into_inner);
                let left = end.map_or_else(|| state.eta(), |end| end.saturating_duration_since(Instant::now()));
                // A bar that cannot be drawn is no reason to stop a run.
                let _ = out.write_str(&time(left));
            })
            .with_key("elapsed", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&time(state.elapsed()));
            });
        let run = all.add(ProgressBar::new(steps).with_style(style).with_message(name.to_owned()));
        run.set_position(from_step);
        run.reset_eta();
        run.enable_steady_tick(TICK);
        Self { bars: Bars::Terminal { all, run, end }, columns }
    }

    /// Moves the bar.
    pub fn step(&self, step: u64) {
        if let Bars::Terminal { run, .. } = &self.bars {
            run.set_position(step);
        }
    }

    /// The line of an interval.
    pub fn progress(&mut self, progress: &Progress) {
        if let Bars::Terminal { end, .. } = &self.bars {
            let at = Instant::now().checked_add(progress.eta);
            *end.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
        let line = self.columns.progress(progress);
        self.line(&line);
    }

    /// A line for each source of a validation.
    pub fn validation(&mut self, validation: &Validation) {
        for line in self.columns.validation(validation) {
            self.line(&line);
        }
    }

    /// One line, above the bars. A console that is gone is no reason to stop a run: errors are dropped.
    pub fn line(&self, text: &str) {
        let _ = match &self.bars {
            Bars::None => writeln!(io::stderr(), "{text}"),
            Bars::Terminal { all, .. } => all.println(text),
        };
    }

    /// A bar below the run's, over `total` things, or a spinner where `total` is 0. It goes when it is dropped.
    #[must_use]
    pub fn spin(&self, what: &str, total: u64) -> ProgressBar {
        let Bars::Terminal { all, .. } = &self.bars else { return ProgressBar::hidden() };
        let bar = if total == 0 {
            ProgressBar::no_length().with_style(style("{spinner:.cyan} {msg} · {elapsed}"))
        } else {
            let style = style("{spinner:.cyan} {msg} {wide_bar:.cyan/dim} {human_pos}/{human_len} · {eta} left");
            ProgressBar::new(total).with_style(style)
        };
        let bar = all.add(bar.with_message(what.to_owned()));
        bar.enable_steady_tick(TICK);
        bar
    }

    /// Takes the bars away.
    pub fn clear(&self) {
        if let Bars::Terminal { run, .. } = &self.bars {
            run.finish_and_clear();
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸─")
}

/// The widths that figures have had so far: a column grows and never shrinks, so lines stay aligned.
#[derive(Debug, Default)]
struct Columns {
    /// Whether labels are dimmed by escape codes.
    dim: bool,
    widths: Vec<(&'static str, usize)>,
}

impl Columns {
    fn progress(&mut self, progress: &Progress) -> String {
        let steps = progress.steps.to_string();
        let mut line = String::new();
        self.put(&mut line, "step", &format!("{:>width$}/{steps}", progress.step, width = steps.len()), 0);
        self.put(&mut line, "loss", &format!("{:.4}", progress.loss), 6);
        self.put(&mut line, "grad_norm", &norm(progress.grad_norm), 4);
        self.put(&mut line, "lr", &format!("{:.2e}", progress.lr), 7);
        self.put(&mut line, "tps", &thousands(progress.tokens_per_second.round() as u64), 6);
        if let Some(mfu) = progress.mfu {
            self.put(&mut line, "mfu", &percent(mfu), 6);
        }
        self.put(&mut line, "mem", &size(progress.memory), 7);
        self.put(&mut line, "tokens", &count(progress.tokens), 5);
        self.put(&mut line, "data", &percent(progress.waited), 6);
        self.put(&mut line, "eta", &time(progress.eta), 7);
        if progress.skipped > 0 {
            self.put(&mut line, "skipped", &progress.skipped.to_string(), 0);
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn validation(&mut self, validation: &Validation) -> Vec<String> {
        let name = validation.sources.iter().map(|source| source.name.chars().count()).max().unwrap_or(0);
        let mut source = |source: &super::SourceLoss| {
            let mut line = String::new();
            self.put(&mut line, "validation step", &validation.step.to_string(), 0);
            let _ = write!(line, "{:<name$}  ", source.name);
            self.put(&mut line, "loss", &format!("{:.4}", source.loss), 6);
            self.put(&mut line, "ppl", &perplexity(source.perplexity()), 5);
            self.put(&mut line, "tokens", &count(source.tokens), 5);
            line.truncate(line.trim_end().len());
            line
        };
        // Once for the widths that all lines share, once for the lines.
        validation.sources.iter().for_each(|of| drop(source(of)));
        validation.sources.iter().map(source).collect()
    }

    /// A label with its figure, right-aligned in at least `least` characters, and two spaces.
    fn put(&mut self, line: &mut String, label: &'static str, figure: &str, least: usize) {
        let length = figure.chars().count().max(least);
        let width = match self.widths.iter_mut().find(|(known, _)| *known == label) {
            Some((_, width)) => {
                *width = length.max(*width);
                *width
            }
            None => {
                self.widths.push((label, length));
                length
            }
        };
        let (dim, normal) = if self.dim { ("\x1b[2m", "\x1b[22m") } else { ("", "") };
        let _ = write!(line, "{dim}{label}{normal} {figure:>width$}  ");
    }
}

/// A gradient norm: two decimals where they say something.
fn norm(value: f64) -> String {
    if value > 0.0 && value < 0.01 { format!("{value:.1e}") } else { format!("{value:.2}") }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A count to three digits: `999`, `32.8k`, `1.97M`, `103B`.
fn count(number: u64) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    let units = ["", "k", "M", "B", "T"];
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1e3;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 { 0 } else { 1 + usize::from(value < 9.995) };
    format!("{value:.decimals$}{}", units[unit])
}

/// A time in its two largest units: `45s`, `2m 10s`, `3h 05m`, `2d 04h`.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::SourceLoss;

    fn progress(step: u64, loss: f64) -> Progress {
        Progress {
            step,
            steps: 400,
            stage: "main".to_owned(),
            tokens: step * 16_384,
            loss,
            grad_norm: 0.91,
            lr: 3e-4,
            tokens_per_second: 12_345.4,
            mfu: None,
            communicated: None,
            memory: 3_100_000_000,
            waited: 0.0,
            skipped: 0,
            sources: vec![("code".to_owned(), loss)],
            eta: Duration::from_secs(130),
        }
    }

    #[test]
    fn columns_do_not_jump_and_plain_lines_have_no_escape_codes() {
        let mut columns = Columns::default();
        let gpu = Progress { mfu: Some(0.412), memory: 78_400_000_000, ..progress(120, 3.2184) };
        let lines = [
            progress(10, 11.7612),
            progress(20, 9.5),
            Progress { tokens_per_second: 9_876.0, grad_norm: 0.004, waited: 0.125, ..progress(100, 3.2184) },
            Progress { eta: Duration::from_secs(7), ..progress(110, 3.2184) },
            gpu.clone(),
            Progress { loss: f64::NAN, grad_norm: f64::INFINITY, skipped: 2, ..gpu },
        ];
        let lines = lines.map(|progress| columns.progress(&progress));
        assert!(!lines.concat().contains('\x1b'));
        insta::assert_snapshot!(lines.join("\n"), @r"
        step  10/400  loss 11.7612  grad_norm 0.91  lr 3.00e-4  tps 12,345  mem 3.10 GB  tokens  164k  data  0.0 %  eta  2m 10s
        step  20/400  loss  9.5000  grad_norm 0.91  lr 3.00e-4  tps 12,345  mem 3.10 GB  tokens  328k  data  0.0 %  eta  2m 10s
        step 100/400  loss  3.2184  grad_norm 4.0e-3  lr 3.00e-4  tps  9,876  mem 3.10 GB  tokens 1.64M  data 12.5 %  eta  2m 10s
        step 110/400  loss  3.2184  grad_norm   0.91  lr 3.00e-4  tps 12,345  mem 3.10 GB  tokens 1.80M  data  0.0 %  eta      7s
        step 120/400  loss  3.2184  grad_norm   0.91  lr 3.00e-4  tps 12,345  mfu 41.2 %  mem 78.4 GB  tokens 1.97M  data  0.0 %  eta  2m 10s
        step 120/400  loss     NaN  grad_norm    inf  lr 3.00e-4  tps 12,345  mfu 41.2 %  mem 78.4 GB  tokens 1.97M  data  0.0 %  eta  2m 10s  skipped 2
        ");
    }

    #[test]
    fn a_validation_has_a_line_a_source() {
        let source = |name: &str, loss| SourceLoss { name: name.to_owned(), loss, tokens: 32_768 };
        let sources = vec![source("tool_docs", 2.1025), source("code", 11.5)];
        let lines = Columns::default().validation(&Validation { step: 200, tokens: 1, sources });
        insta::assert_snapshot!(lines.join("\n"), @r"
        validation step 200  tool_docs  loss  2.1025  ppl 8.187  tokens 32.8k
        validation step 200  code       loss 11.5000  ppl 98716  tokens 32.8k
        ");
    }

    #[test]
    fn counts_have_three_digits_and_times_two_units() {
        let shown =
            [0, 999, 1000, 9_994, 9_995, 99_949, 99_950, 999_499, 999_500, 1_966_080, 103_000_000_000].map(count);
        let expected = ["0", "999", "1.00k", "9.99k", "10.0k", "99.9k", "100k", "999k", "1.00M", "1.97M", "103B"];
        assert_eq!(shown.each_ref().map(String::as_str), expected);
        let shown = [0, 45, 130, 11_100, 187_200].map(|seconds| time(Duration::from_secs(seconds)));
        assert_eq!(shown.each_ref().map(String::as_str), ["0s", "45s", "2m 10s", "3h 05m", "2d 04h"]);
    }
}
