//! A log that ends no run: what a disk refuses is kept in memory and written when it can be.

use std::collections::VecDeque;
use std::io;

use super::{Progress, Validation};

/// Most events kept in memory; older ones are lost, and counted.
const MOST: usize = 10_000;

/// Something that a log tells of.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Progress(Progress),
    Validation(Validation),
}

/// A file that events are written to.
pub(super) trait Log {
    /// Adds what an interval came to: all of it, or nothing.
    fn progress(&mut self, progress: &Progress) -> io::Result<()>;
    /// Adds what a validation found: all of it, or nothing.
    fn validation(&mut self, validation: &Validation) -> io::Result<()>;
    /// Waits until everything is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// A log, or what is to be written to it as soon as it can be opened.
pub(super) struct Kept<L> {
    name: &'static str,
    open: Box<dyn Fn() -> io::Result<L>>,
    log: Option<L>,
    waiting: VecDeque<Event>,
    lost: u64,
    failing: bool,
}

impl<L: Log> Kept<L> {
    /// Opens a log, which errors call by `name`. Returns it with a line to tell where it could not be opened.
    pub(super) fn open(name: &'static str, open: impl Fn() -> io::Result<L> + 'static) -> (Self, Option<String>) {
        let mut kept =
            Self { name, open: Box::new(open), log: None, waiting: VecDeque::new(), lost: 0, failing: false };
        let told = kept.flush();
        (kept, told)
    }

    /// Writes an event, and before it those that are waiting. Returns a line to tell where that has begun to fail, or works again.
    pub(super) fn write(&mut self, event: Event) -> Option<String> {
        if self.waiting.len() == MOST {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(event);
        self.flush()
    }

    /// Writes what is waiting and waits until all of it is on the disk.
    pub(super) fn sync(&mut self) -> Option<String> {
        let told = self.flush();
        let synced = self.log.as_ref().map_or(Ok(()), Log::sync);
        told.or_else(|| self.judge(synced))
    }

    /// What was never written; told at the end of a run.
    pub(super) fn missing(&self) -> Option<String> {
        let missing = self.lost + self.waiting.len() as u64;
        (missing > 0).then(|| format!("{} lacks {missing} events of this run", self.name))
    }

    fn flush(&mut self) -> Option<String> {
        let written = self.try_flush();
        self.judge(written)
    }

    fn try_flush(&mut self) -> io::Result<()> {
        if self.log.is_none() {
            self.log = Some((self.open)()?);
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        while let Some(event) = self.waiting.front() {
            match event {
                Event::Progress(progress) => log.progress(progress)?,
                Event::Validation(validation) => log.validation(validation)?,
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// The line to tell where the log has begun to fail, or works again.
    fn judge(&mut self, outcome: io::Result<()>) -> Option<String> {
        match (outcome, self.failing) {
            (Ok(()), false) | (Err(_), true) => None,
            (Ok(()), true) => {
                self.failing = false;
                let lost = if self.lost > 0 { format!(", but for {} events", self.lost) } else { String::new() };
                Some(format!("{} is written again, and complete{lost}", self.name))
            }
            (Err(error), false) => {
                self.failing = true;
                Some(format!(
                    "{} cannot be written, which is tried again at every line; the run goes on: {error}",
                    self.name
                ))
            }
        }
    }
}

impl<L> std::fmt::Debug for Kept<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("name", &self.name).field("failing", &self.failing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Steps of the events written to a disk that can be full.
    struct Disk {
        full: Rc<Cell<bool>>,
        steps: Rc<std::cell::RefCell<Vec<u64>>>,
    }

    impl Log for Disk {
        fn progress(&mut self, _: &Progress) -> io::Result<()> {
            Ok(())
        }

        fn validation(&mut self, validation: &Validation) -> io::Result<()> {
            if self.full.get() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.steps.borrow_mut().push(validation.step);
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(step: u64) -> Event {
        Event::Validation(Validation { step, tokens: 0, sources: Vec::new() })
    }

    #[test]
    fn what_a_full_disk_refuses_is_written_in_order_when_there_is_room() {
        let (full, steps) = (Rc::new(Cell::new(true)), Rc::default());
        let disk = (Rc::clone(&full), Rc::clone(&steps));
        let opens = move || match disk.0.get() {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(Disk { full: Rc::clone(&disk.0), steps: Rc::clone(&disk.1) }),
        };
        // Not even opened at first.
        let (mut log, told) = Kept::open("metrics.jsonl", opens);
        assert!(told.unwrap().starts_with("metrics.jsonl cannot be written"));
        assert_eq!(log.write(event(1)), None);
        full.set(false);
        assert_eq!(log.write(event(2)).unwrap(), "metrics.jsonl is written again, and complete");
        full.set(true);
        assert!(log.write(event(3)).unwrap().contains("cannot be written"));
        assert_eq!(
            (log.write(event(4)), log.missing().unwrap().as_str()),
            (None, "metrics.jsonl lacks 2 events of this run")
        );
        full.set(false);
        assert!(log.sync().unwrap().contains("complete"));
        assert_eq!((steps.take(), log.missing()), (vec![1, 2, 3, 4], None));
    }
}
