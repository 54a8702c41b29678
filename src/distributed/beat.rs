//! What a rank says of itself about once a second, for others to read where something fails.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A heartbeat. Clocks of two hosts are never compared: a beat whose count stays the same is that of a rank that is silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// How many came before it.
    pub(super) count: u64,
    /// The step that it is at.
    pub(super) step: u64,
    /// What it does there.
    pub(super) doing: String,
    /// For how long it has done that, in seconds.
    pub(super) seconds: u64,
    /// Whether one of its collectives has failed.
    pub(super) failed: bool,
    /// Its host's name.
    pub(super) host: String,
    /// Its process there.
    pub(super) pid: u32,
}

impl Beat {
    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Where a rank is in its run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) step: u64,
    pub(super) doing: &'static str,
    since: Instant,
}

impl Place {
    pub(super) fn now(step: u64, doing: &'static str) -> Self {
        Self { step, doing, since: Instant::now() }
    }

    /// For how long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }
}
