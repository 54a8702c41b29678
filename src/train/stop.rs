//! Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): seen between two micro-batches, answered with a checkpoint. A second
//! Ctrl-C or SIGTERM ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::ffi;

/// Exit code after a signal that was answered: 128 and the number of SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Within this time, signals to one of many ranks are one request: a terminal and a launcher both pass it on.
const ONCE: Duration = Duration::from_secs(2);

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// A system that has no such signals.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        for signal in signals() {
            // In this order: the first signal only sets the flag, the second finds it set. A shell passes on the hangup that a
            // terminal has sent already.
            if signal != SIGHUP {
                flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop.0))?;
            }
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Listens to them as one of many ranks: a launcher may send what a terminal has sent already, and a signal ends the
    /// program only 2 s after the first or later.
    ///
    /// # Errors
    /// A system that has no such signals.
    pub fn on_signals_of_ranks() -> std::io::Result<Self> {
        let stop = Self::default();
        let mut signals = Signals::new(signals())?;
        let asked = stop.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first: Option<Instant> = None;
            for _ in signals.forever() {
                match first {
                    None => first = Some(Instant::now()),
                    Some(first) if first.elapsed() > ONCE => ffi::end_process(INTERRUPTED),
                    Some(_) => {}
                }
                asked.ask();
            }
        })?;
        Ok(stop)
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

/// What asks a run to stop. Where SIGHUP is ignored, as nohup has it, it stays so.
fn signals() -> impl Iterator<Item = i32> {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let hangup = ignored.is_none_or(|signals| signals >> (SIGHUP - 1) & 1 == 0);
    [SIGINT, SIGTERM].into_iter().chain(hangup.then_some(SIGHUP))
}
