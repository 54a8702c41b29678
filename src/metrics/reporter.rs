//! One place that the training loop reports to.

use std::path::Path;

use indicatif::ProgressBar;

use super::console::Console;
use super::jsonl::{self, Jsonl};
use super::kept::{Event, Kept};
use super::tensorboard::EventFile;
use super::{Progress, Validation};

/// What to report of which run, and where.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The run's output folder; it is made where it is missing.
    pub output: &'a Path,
    /// The run's name.
    pub name: &'a str,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Optimizer steps that were done before: 0 for a fresh start.
    pub from_step: u64,
    /// Whether to write TensorBoard events.
    pub tensorboard: bool,
    /// Whether standard error is a terminal.
    pub terminal: bool,
}

/// Writes what a run tells to the console, to `metrics.jsonl` and to TensorBoard; or nothing, where another rank does so.
#[derive(Debug, Default)]
pub struct Reporter {
    console: Option<Console>,
    jsonl: Option<Kept<Jsonl>>,
    tensorboard: Option<Kept<EventFile>>,
}

impl Reporter {
    /// Opens the files of a run, adding to those that are there. One that cannot be opened or written ends no run: that is told,
    /// and tried again.
    #[must_use]
    pub fn open(settings: &Settings) -> Self {
        let Settings { name, steps, from_step, tensorboard, terminal, .. } = *settings;
        let output = settings.output.to_owned();
        let (folder, run) = (output.clone(), name.to_owned());
        let (jsonl, first) = Kept::open(jsonl::FILE, move || Jsonl::open(&folder, &run, steps, from_step));
        let events = tensorboard.then(|| Kept::open("tensorboard/", move || EventFile::open(&output, from_step)));
        let (events, second) = events.map_or((None, None), |(events, told)| (Some(events), told));
        let console = Some(Console::new(name, steps, from_step, terminal));
        let mut reporter = Self { console, jsonl: Some(jsonl), tensorboard: events };
        reporter.notes([first, second]);
        reporter
    }

    /// One that tells nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// A step is done: moves the bar. Cheap enough for every step.
    pub fn step(&mut self, step: u64) {
        if let Some(console) = &self.console {
            console.step(step);
        }
    }

    /// Writes what an interval came to.
    pub fn progress(&mut self, progress: &Progress) {
        if let Some(console) = &mut self.console {
            console.progress(progress);
        }
        self.event(&Event::Progress(progress.clone()));
    }

    /// Writes what a validation found.
    pub fn validation(&mut self, validation: &Validation) {
        if let Some(console) = &mut self.console {
            console.validation(validation);
        }
        self.event(&Event::Validation(validation.clone()));
    }

    fn event(&mut self, event: &Event) {
        let first = self.jsonl.as_mut().and_then(|log| log.write(event.clone()));
        let second = self.tensorboard.as_mut().and_then(|log| log.write(event.clone()));
        self.notes([first, second]);
    }

    /// Waits until everything that was told is on the disk.
    pub fn sync(&mut self) {
        let first = self.jsonl.as_mut().and_then(Kept::sync);
        let second = self.tensorboard.as_mut().and_then(Kept::sync);
        self.notes([first, second]);
    }

    fn notes(&mut self, lines: [Option<String>; 2]) {
        lines.into_iter().flatten().for_each(|line| self.note(&line));
    }

    /// A line above the bar, such as what was saved where. A text of several lines is as many lines.
    pub fn note(&mut self, text: &str) {
        if let Some(console) = &self.console {
            text.lines().for_each(|line| console.line(line));
        }
    }

    /// A bar over `total` things that take a while, such as validating or saving; a spinner where `total` is 0. Hidden
    /// where there is no terminal; it goes when it is dropped.
    pub fn spin(&mut self, what: &str, total: u64) -> ProgressBar {
        self.console.as_ref().map_or_else(ProgressBar::hidden, |console| console.spin(what, total))
    }

    /// Takes the bar away, waits until everything is on the disk, and tells what could not be written.
    pub fn close(mut self) {
        self.sync();
        let missing = [self.jsonl.as_ref().and_then(Kept::missing), self.tensorboard.as_ref().and_then(Kept::missing)];
        self.notes(missing);
        if let Some(console) = &self.console {
            console.clear();
        }
    }
}
