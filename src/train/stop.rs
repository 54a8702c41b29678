//! Ctrl-C and SIGTERM: seen between two micro-batches, answered with a checkpoint. A second one ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Exit code after a signal that was answered: 128 and the number of SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to SIGINT and SIGTERM.
    ///
    /// # Errors
    /// A system that has no such signals.
    pub fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal only sets the flag, the second finds it set.
            flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), Arc::clone(&stop.0))?;
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Whether it was.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
