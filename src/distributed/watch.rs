//! That a rank which fails takes all down, promptly and with one report.
//!
//! Each rank has a thread that says about once a second where the rank is, and looks whether another has failed; then it ends
//! the process, whatever the main thread waits for. It has a connection of its own to the store, as the main thread's may be
//! waiting in it. A store that is cut off does not refuse but keeps silent, so a second thread watches the first.
//!
//! The first rank to fail is the one that reports. One whose collective failed waits before it does so, for three beats: if
//! another failed for a reason of its own, that one reports within this time. [`end`](super::end) is what happens then.
//!
//! Rank 0 looks whether any other rank is silent, and every other rank whether rank 0 is: a main thread that waits for a rank by
//! way of the store, as in saving, has no collective that fails when that rank dies. A rank that was asked to stop looks sooner, as
//! a launcher that has seen a rank die asks the others to stop, and kills them soon after.
//!
//! It costs a rank two requests a second, one that writes its beat and one that looks for one key; what others say of
//! themselves is read only where something has failed, and in these looks, four times in [`Settings::silence`].

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::convert::Infallible;
use std::error::Error;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tch::TchError;

use super::World;
use super::beat::{Beat, Place};
use super::join::{first_line, host};
use super::rendezvous::Launch;
use super::report::{self, Seen};
use crate::ffi::{CollectiveError, Store};

/// How often and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between two beats of a rank. Three of them is how long a rank is silent before it is said to be.
    pub beat: Duration,
    /// How long a rank, or the store, may be silent while nothing has failed.
    pub silence: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { beat: Duration::from_secs(1), silence: Duration::from_secs(60) }
    }
}

/// Watches over this rank and the others from [`begin`](Self::begin) to [`leave`](Self::leave). The watch outlives all that
/// may fail: it also keeps the store alive where this process keeps it, so that others can still be told.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch, as all ranks do. `asked` is whether this process was asked to stop.
    ///
    /// # Errors
    /// A store that cannot be reached once more.
    pub fn begin(
        world: &World,
        settings: Settings,
        asked: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, TchError> {
        let launch = world.launch().clone();
        let store = Store::open(&launch.host, launch.port, false, world.timeout)?;
        let (host, pid) = (host(), std::process::id());
        let keeper = world.key("watch/keeper");
        if launch.rank == 0 {
            let own = format!("rank 0 ({host}, process {pid})");
            store.set(&keeper, if launch.serves { &own } else { "torchrun" })?;
        }
        let keeper = store.get(&keeper, world.timeout)?;
        let shared = Arc::new(Shared {
            launch,
            settings,
            keeper,
            host,
            pid,
            keys: world.key("watch"),
            store,
            _kept: world.store().share()?,
            count: AtomicU64::new(0),
            place: Mutex::new(Place::now(0, "starting")),
            failing: AtomicBool::new(false),
            told: AtomicBool::new(false),
            ended: Mutex::new(false),
            unsaid: Mutex::new(None),
            gone: AtomicBool::new(false),
            answered: Mutex::new(Instant::now()),
            over: AtomicBool::new(false),
            beaten: AtomicBool::new(false),
            pause: (Mutex::new(()), Condvar::new()),
        });
        shared.beat()?;
        let beats = thread("beats", &shared, move |shared| shared.beats(asked));
        let guard = thread("guard", &shared, Shared::guard);
        let threads = [beats, guard].into_iter().collect::<Result<_, _>>();
        let threads = threads.map_err(|error| TchError::Torch(format!("a thread of the watch: {error}")))?;
        Ok(Self { shared, threads })
    }

    /// Says where this rank is: the step, and what it does there, in a word or two such as "validating".
    pub fn at(&self, step: u64, doing: &'static str) {
        *locked(&self.shared.place) = Place::now(step, doing);
    }

    /// Looks about once a beat whether something has `failed` that the main thread, waiting for a GPU, does not come to tell.
    ///
    /// # Errors
    /// No thread.
    pub fn over(&self, failed: impl Fn() -> Option<CollectiveError> + Send + 'static) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let look = move || {
            while !shared.over.load(Ordering::Relaxed) {
                if let Some(error) = failed() {
                    shared.consequence(&error.to_string());
                }
                shared.pause();
            }
        };
        thread::Builder::new().name("health".to_owned()).spawn(look).map(drop)
    }

    /// Ends the job for `error`, and this process with exit code [`FAILED`](super::end::FAILED), with a report on stderr if
    /// no other rank has failed before.
    pub fn failed(&self, error: &(dyn Error + 'static)) -> ! {
        let text = report::chain(error);
        if report::is_consequence(error) { self.shared.consequence(&text) } else { self.shared.cause(&text) }
    }

    /// Makes every panic of this process from now on, of whatever thread, end the job as an error does; but those whose
    /// payload is `caught`, as the trainer catches what libtorch throws.
    pub fn on_panic(&self, caught: fn(&(dyn Any + Send)) -> bool) {
        let shared = Arc::downgrade(&self.shared);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let watching = shared.upgrade().filter(|shared| !shared.over.load(Ordering::Relaxed) && !caught(payload));
            let Some(shared) = watching else { return before(info) };
            let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
            let place = info.location().map_or(String::new(), |place| format!(" at {place}"));
            let stack = Backtrace::capture();
            let stack = if stack.status() == BacktraceStatus::Captured { format!("\n{stack}") } else { String::new() };
            shared.cause(&format!("panicked{place}: {said}{stack}"));
        }));
    }

    /// Waits until all ranks are here, and no longer watches: what follows is [`World::close`].
    ///
    /// # Errors
    /// Others that do not come; the watch goes on then, to be told of it.
    pub fn leave(&mut self, world: &World) -> Result<(), CollectiveError> {
        world.all().barrier()?.wait()?;
        self.shared.finish();
        for thread in self.threads.drain(..) {
            // It has not panicked, and if it had, nothing would be left to do.
            let _ = thread.join();
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Its threads may be waiting for a store that is cut off.
        self.shared.finish();
    }
}

fn thread(
    name: &str,
    shared: &Arc<Shared>,
    body: impl FnOnce(&Shared) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name(name.to_owned()).spawn(move || body(&shared))
}

/// What the threads of a watch share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) launch: Launch,
    pub(super) settings: Settings,
    /// Who keeps the store.
    pub(super) keeper: String,
    pub(super) host: String,
    pid: u32,
    /// What keys begin with.
    keys: String,
    /// Another connection than the world's.
    store: Store,
    /// The world's, so that it lives as long as there is something to be told.
    _kept: Store,
    count: AtomicU64,
    pub(super) place: Mutex<Place>,
    /// Whether a collective has failed here.
    failing: AtomicBool,
    /// Whether this rank has said why the job ends.
    pub(super) told: AtomicBool,
    /// Whether a thread is about to end this process. Held while it is found out which one does.
    pub(super) ended: Mutex<bool>,
    /// A report that is still to be told to the store, and is printed if the store is gone.
    pub(super) unsaid: Mutex<Option<String>>,
    /// Whether a thread is about to end this process as the store is gone.
    pub(super) gone: AtomicBool,
    /// When the store last answered.
    answered: Mutex<Instant>,
    /// Whether the watch has ended.
    over: AtomicBool,
    /// Whether the thread that beats has ended.
    beaten: AtomicBool,
    pause: (Mutex<()>, Condvar),
}

impl Shared {
    /// How long a rank is silent before it is said to be, and how long one whose collective failed waits for others.
    pub(super) fn patience(&self) -> Duration {
        self.settings.beat * 3
    }

    /// How long a rank may be silent while nothing has failed; a launcher gives 30 s to a rank that it has asked to stop.
    fn silence(&self, asked: bool) -> Duration {
        if asked { self.settings.silence.min(self.settings.beat * 10) } else { self.settings.silence }
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.keys)
    }

    fn beat_key(&self, rank: usize) -> String {
        self.key(&format!("beat/{rank}"))
    }

    /// Something that the store does, which takes note that it answers. An error means that it is gone.
    pub(super) fn ask<T>(&self, request: impl FnOnce(&Store) -> Result<T, TchError>) -> Result<T, TchError> {
        let answer = request(&self.store)?;
        *locked(&self.answered) = Instant::now();
        Ok(answer)
    }

    /// What this rank says of itself now.
    fn state(&self) -> Beat {
        let place = *locked(&self.place);
        Beat {
            count: self.count.fetch_add(1, Ordering::Relaxed),
            step: place.step,
            doing: place.doing.to_owned(),
            seconds: place.age().as_secs(),
            failed: self.failing.load(Ordering::Relaxed),
            host: self.host.clone(),
            pid: self.pid,
        }
    }

    fn beat(&self) -> Result<(), TchError> {
        self.ask(|store| store.set(&self.beat_key(self.launch.rank), &self.state().write()))
    }

    /// What the first `ranks` have last said of themselves.
    fn seen(&self, ranks: usize) -> Result<Vec<Option<Beat>>, TchError> {
        (0..ranks)
            .map(|rank| {
                let key = self.beat_key(rank);
                let there = self.ask(|store| store.has(&key))?;
                let text = there.then(|| self.ask(|store| store.get(&key, self.patience()))).transpose()?;
                Ok(text.as_deref().and_then(Beat::read))
            })
            .collect()
    }

    /// The thread that beats, and looks for failures of others and for ranks that are silent.
    fn beats(&self, asked: impl Fn() -> bool) {
        let mut silence = Silence::default();
        while !self.over.load(Ordering::Relaxed) {
            let round = self.beat().and_then(|()| self.look());
            let round = round.and_then(|()| self.listen(&mut silence, self.silence(asked())));
            if let Err(error) = round
                && !self.over.load(Ordering::Relaxed)
            {
                self.gone(&first_line(&error));
            }
            self.pause();
        }
        self.beaten.store(true, Ordering::Relaxed);
    }

    /// Reports ranks that have been silent for longer than `limit`, though no collective has failed yet.
    fn listen(&self, silence: &mut Silence, limit: Duration) -> Result<(), TchError> {
        if silence.looked.is_some_and(|looked| looked.elapsed() < limit / 4) {
            return Ok(());
        }
        silence.looked = Some(Instant::now());
        let watched = if self.launch.rank == 0 { self.launch.world } else { 1 };
        if silence.longest(&self.seen(watched)?) < limit {
            return Ok(());
        }
        match self.notice("no collective has failed yet", Some(limit))? {}
    }

    /// Finds out what is known of ranks that do not go on, and reports it; `silent` is for how long one of them is known to be.
    fn notice(&self, error: &str, silent: Option<Duration>) -> Result<Infallible, TchError> {
        // One rank looks for all, so that what is asked of the store grows with the ranks and not with their square.
        if self.ask(|store| store.add(&self.key("noticed"), 1))? > 1 {
            self.wait_for_a_report(self.patience() * 3)?;
        }
        let seen = self.compared()?;
        let seen = Seen { waited: silent.unwrap_or(seen.waited), ..seen };
        self.claim(&report::of_consequence(self.launch.rank, &seen, error))
    }

    /// What every rank says of itself before and after the time that one whose collective failed gives to others.
    fn compared(&self) -> Result<Seen, TchError> {
        let before = self.seen(self.launch.world)?;
        let begun = Instant::now();
        self.wait_for_a_report(self.patience())?;
        Ok(Seen { before, after: self.seen(self.launch.world)?, waited: begun.elapsed() })
    }

    /// Gives others time to report, with which this process ends. It beats meanwhile, as nobody else does where it is the thread
    /// that beats which waits.
    fn wait_for_a_report(&self, time: Duration) -> Result<(), TchError> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            thread::sleep(self.settings.beat / 4);
            self.beat()?;
            self.look()?;
        }
        Ok(())
    }

    /// Waits for the next beat, or the end of the watch.
    fn pause(&self) {
        let (lock, condition) = &self.pause;
        let still = |(): &mut ()| !self.over.load(Ordering::Relaxed);
        let _ = condition.wait_timeout_while(locked(lock), self.settings.beat, still);
    }

    /// Ends the watch, at once where nothing is being waited for.
    fn finish(&self) {
        let (lock, condition) = &self.pause;
        let lock = locked(lock);
        self.over.store(true, Ordering::Relaxed);
        drop(lock);
        condition.notify_all();
    }

    /// The thread that watches the one that beats: a store that is cut off lets it wait for ever.
    fn guard(&self) {
        while !self.beaten.load(Ordering::Relaxed) {
            let silent = locked(&self.answered).elapsed();
            let urgent = self.failing.load(Ordering::Relaxed) || locked(&self.unsaid).is_some();
            let limit = if urgent { self.settings.beat * 5 } else { self.settings.silence };
            if silent > limit {
                self.gone(&format!("no answer for {:.1} s", silent.as_secs_f64()));
            }
            thread::sleep(self.settings.beat / 4);
        }
    }

    /// This rank failed for a reason of its own.
    fn cause(&self, error: &str) -> ! {
        let report = report::of_cause(self.launch.rank, self.launch.world, &self.state(), error);
        *locked(&self.unsaid) = Some(report.text());
        match self.claim(&report) {
            Ok(never) => match never {},
            Err(error) => self.gone(&first_line(&error)),
        }
    }

    /// A collective failed here: gives the rank that knows why the time to say so, and finds out what is known.
    fn consequence(&self, error: &str) -> ! {
        self.failing.store(true, Ordering::Relaxed);
        let claimed = self.beat().and_then(|()| self.notice(error, None));
        match claimed {
            Ok(never) => match never {},
            Err(error) => self.gone(&first_line(&error)),
        }
    }
}

/// Since when ranks have said the same of themselves.
#[derive(Debug, Default)]
struct Silence {
    looked: Option<Instant>,
    /// By rank, with the beat's count.
    since: Vec<(u64, Instant)>,
}

impl Silence {
    /// How long the one that has been silent for longest has been.
    fn longest(&mut self, seen: &[Option<Beat>]) -> Duration {
        self.since.resize(seen.len(), (0, Instant::now()));
        for (since, beat) in self.since.iter_mut().zip(seen) {
            let count = beat.as_ref().map_or(0, |beat| beat.count);
            if since.0 != count {
                *since = (count, Instant::now());
            }
        }
        self.since.iter().map(|(_, since)| since.elapsed()).max().unwrap_or_default()
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
