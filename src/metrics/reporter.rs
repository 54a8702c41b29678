//! One place that the training loop reports to.

use std::io;
use std::path::Path;

use indicatif::ProgressBar;

use super::console::Console;
use super::jsonl::Jsonl;
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
    jsonl: Option<Jsonl>,
    tensorboard: Option<EventFile>,
}

impl Reporter {
    /// Opens the files of a run, adding to those that are there.
    ///
    /// # Errors
    /// What the system refuses, with the path.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let Settings { output, name, steps, from_step, tensorboard, terminal } = *settings;
        fs_err::create_dir_all(output)?;
        Ok(Self {
            jsonl: Some(Jsonl::open(output, name, steps, from_step)?),
            tensorboard: tensorboard.then(|| EventFile::open(output, from_step)).transpose()?,
            console: Some(Console::new(name, steps, from_step, terminal)),
        })
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

    /// An interval is over.
    ///
    /// # Errors
    /// What the system refuses, with the path; the console line is out then.
    pub fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        if let Some(console) = &mut self.console {
            console.progress(progress);
        }
        self.jsonl.as_mut().map_or(Ok(()), |jsonl| jsonl.progress(progress))?;
        self.tensorboard.as_mut().map_or(Ok(()), |events| events.progress(progress))
    }

    /// A validation is over.
    ///
    /// # Errors
    /// What the system refuses, with the path; the console lines are out then.
    pub fn validation(&mut self, validation: &Validation) -> io::Result<()> {
        if let Some(console) = &mut self.console {
            console.validation(validation);
        }
        self.jsonl.as_mut().map_or(Ok(()), |jsonl| jsonl.validation(validation))?;
        self.tensorboard.as_mut().map_or(Ok(()), |events| events.validation(validation))
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

    /// Takes the bar away and waits until everything is on the disk.
    ///
    /// # Errors
    /// What the system refuses, with the path.
    pub fn close(self) -> io::Result<()> {
        if let Some(console) = &self.console {
            console.clear();
        }
        self.jsonl.as_ref().map_or(Ok(()), Jsonl::sync)?;
        self.tensorboard.as_ref().map_or(Ok(()), EventFile::sync)
    }
}
