//! Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): seen between two micro-batches, answered with a checkpoint. A second
//! Ctrl-C or SIGTERM, 2 s after the first or later, ends the program at once.
//!
//! No signal handler is installed, and no thread that computes ever takes a signal: oneDNN's generated code for a product with
//! a transposed weight does not survive a handler that runs on its stack. The signals are blocked before any other thread
//! exists, which all later threads inherit, and one thread of its own waits for them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::ffi;

/// Exit code after a signal that was answered: 128 and the number of SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Signals within this time are one request: a terminal, a shell and a launcher may each pass it on.
const ONE_REQUEST: Duration = Duration::from_secs(2);

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Blocks SIGINT, SIGTERM and SIGHUP in this thread, and in all that are started later, and waits for them in a thread
    /// of its own. Call it first in `main`: a thread that was started before would still take them.
    ///
    /// # Errors
    /// A system that refuses to block signals, or has no more threads.
    pub fn on_signals() -> io::Result<Self> {
        let signals = signals();
        signals.thread_block()?;
        let stop = Self::default();
        let asked = stop.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || asked.listen(&signals))?;
        Ok(stop)
    }

    /// Answers signals as long as the process lives.
    fn listen(&self, signals: &SigSet) {
        let mut first: Option<Instant> = None;
        // It fails only for signals that do not exist.
        while let Ok(signal) = signals.wait() {
            self.ask();
            let since = first.get_or_insert_with(Instant::now).elapsed();
            // A shell passes on the hangup that a terminal has sent already.
            if signal != Signal::SIGHUP && since > ONE_REQUEST {
                ffi::end_process(INTERRUPTED);
            }
        }
    }

    /// Asks for it, as a signal does: where another rank was asked to.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The signals that ask a run to stop. Where SIGHUP is ignored, as nohup has it, it stays so.
fn signals() -> SigSet {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let hangup = ignored.is_none_or(|signals| signals >> (Signal::SIGHUP as u32 - 1) & 1 == 0);
    [Signal::SIGINT, Signal::SIGTERM].into_iter().chain(hangup.then_some(Signal::SIGHUP)).collect()
}
