//! How a rank ends when the job has failed: one rank reports, rank 0's log has its first line, the others say nothing.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tch::TchError;

use super::report::Report;
use super::watch::{Shared, locked};
use crate::ffi;

/// The exit code of every rank of a job that failed.
pub const FAILED: u8 = 1;

impl Shared {
    /// Ends this process if another rank has failed.
    pub(super) fn look(&self) -> Result<(), TchError> {
        let mut ended = locked(&self.ended);
        if *ended || !self.ask(|store| store.has(&self.key("failed")))? {
            return Ok(());
        }
        *ended = true;
        drop(ended);
        self.follow();
    }

    /// Reports if no rank has done so before, and ends this process.
    pub(super) fn claim(&self, report: &Report) -> Result<Infallible, TchError> {
        let mut ended = locked(&self.ended);
        if *ended {
            drop(ended);
            park();
        }
        let first = self.ask(|store| store.add(&self.key("failed"), 1))? == 1;
        *ended = true;
        drop(ended);
        if !first {
            self.follow();
        }
        self.told.store(true, Ordering::Relaxed);
        *locked(&self.unsaid) = None;
        say(&report.text());
        note_for_torchrun(&report.headline);
        self.ask(|store| store.set(&self.key("report"), &report.headline))?;
        self.end()
    }

    /// Another rank has failed and reports.
    fn follow(&self) -> ! {
        *locked(&self.unsaid) = None;
        if self.launch.rank == 0 {
            let headline = self.ask(|store| store.get(&self.key("report"), self.patience()));
            say(&format!("ended: {}", headline.as_deref().unwrap_or("another rank failed: see its log")));
        }
        self.told.store(true, Ordering::Relaxed);
        self.end()
    }

    /// Ends this process; who keeps the store waits until the others know.
    fn end(&self) -> ! {
        let mut known = self.ask(|store| store.add(&self.key("ended"), 1));
        let deadline = Instant::now() + self.patience();
        while self.launch.serves && Instant::now() < deadline {
            match known {
                Ok(ranks) if ranks < self.launch.world as i64 => thread::sleep(self.settings.beat / 10),
                _ => break,
            }
            known = self.ask(|store| store.add(&self.key("ended"), 0));
        }
        ffi::end_process(FAILED)
    }

    /// Ends this process because the store is gone: then nobody can be told anything, and the first rank of each node
    /// says so.
    pub(super) fn gone(&self, reason: &str) -> ! {
        if self.gone.swap(true, Ordering::Relaxed) {
            park();
        }
        let launch = &self.launch;
        let own = locked(&self.unsaid).take();
        // On the node of rank 0 that may be the one that is gone.
        let speaks = launch.local_rank == 0 || (launch.rank == 1 && launch.local_rank == 1);
        if let Some(report) = own {
            say(&report);
            note_for_torchrun(report.lines().next().unwrap_or_default());
        } else if speaks && !self.told.load(Ordering::Relaxed) {
            let (rank, world, host) = (launch.rank, launch.world, &self.host);
            let (kept, port, keeper) = (&launch.host, launch.port, &self.keeper);
            let place = *locked(&self.place);
            say(&format!(
                "error: rank {rank} of {world} ({host}) at step {} ({}): lost the store that {keeper} kept at \
                 {kept}:{port}: {reason}; see what became of {keeper}, and whether this node reaches it",
                place.step, place.doing
            ));
        }
        ffi::end_process(FAILED)
    }
}

/// Leaves the ending to another thread of this process.
fn park() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn say(text: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Leaves the reason where torchrun looks for it, in the form of torch.distributed.elastic.multiprocessing.errors, so that
/// its own summary has it too. A note that is cut short, by a disk that is full, would end torchrun itself: it is there whole
/// or not at all.
fn note_for_torchrun(headline: &str) {
    let Some(path) = std::env::var_os("TORCHELASTIC_ERROR_FILE").filter(|path| !path.is_empty()) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
    let extra = serde_json::json!({ "py_callstack": headline, "timestamp": now });
    let note = serde_json::json!({ "message": { "message": headline, "extraInfo": extra } });
    let beside = Path::new(&path).with_extension("writing");
    let _ = fs_err::write(&beside, note.to_string()).and_then(|()| fs_err::rename(&beside, &path));
}
