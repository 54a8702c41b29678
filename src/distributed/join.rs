//! How processes find each other: all reach one store, and rank 0 calls the roll there.
//!
//! torchrun keeps one store for all starts of a job, so keys of an earlier start may still lie in it, and its count of
//! restarts differs between nodes that came at different times. So every process greets with a word that it alone has, rank 0
//! replies with its own, and none is counted before it has answered to both. Rank 0 then names the round; all keys of the round begin with it.

use std::fmt::Display;
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tch::TchError;

use super::rendezvous::Launch;
use crate::ffi::{CollectiveError, Store};

/// What the others wait beyond rank 0, whose word on who is missing they wait for.
const GRACE: Duration = Duration::from_secs(5);

/// Keys that NCCL's backend looks for under no prefix: left by an earlier start, they would end this one.
const SIGNALS: [&str; 2] = ["exception_dump", "remote_error"];

/// Why processes did not find each other.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The store cannot be reached or kept.
    #[error("rank {rank} of {world}: {} at {host}:{port} within {} s: {reason}", if *.serves { "cannot keep the store" } else { "no store" }, timeout.as_secs_f64())]
    Store {
        /// This process.
        rank: usize,
        /// How many there are.
        world: usize,
        /// Where it was to be.
        host: String,
        /// Where it was to be.
        port: u16,
        /// Whether this process was to keep it.
        serves: bool,
        /// How long it was looked for.
        timeout: Duration,
        /// c10d's words.
        reason: String,
    },
    /// Ranks that did not come.
    #[error("rank {rank} of {world}: {missing}")]
    Missing {
        /// This process.
        rank: usize,
        /// How many there are.
        world: usize,
        /// Who did not come.
        missing: String,
    },
    /// The store went away meanwhile.
    #[error("rank {rank} of {world}: lost the store at {host}:{port} while others were waited for: {reason}")]
    Lost {
        /// This process.
        rank: usize,
        /// How many there are.
        world: usize,
        /// Where it was.
        host: String,
        /// Where it was.
        port: u16,
        /// c10d's words.
        reason: String,
    },
    /// All came, and a group of them could not be opened.
    #[error(transparent)]
    Group(#[from] CollectiveError),
}

/// Reaches the store, or begins to keep it.
pub(super) fn store(launch: &Launch, timeout: Duration) -> Result<Store, JoinError> {
    let Launch { rank, world, ref host, port, serves, .. } = *launch;
    Store::open(host, port, serves, timeout).map_err(|error| JoinError::Store {
        rank,
        world,
        host: host.clone(),
        port,
        serves,
        timeout,
        reason: first_line(&error),
    })
}

/// Waits until all are here; what the keys of this round begin with.
pub(super) fn round(store: &Store, launch: &Launch, timeout: Duration) -> Result<String, JoinError> {
    if launch.rank == 0 { call(store, launch, timeout) } else { answer(store, launch, timeout) }
}

/// Rank 0: waits until each other rank has answered to its word, then names the round to them.
fn call(store: &Store, launch: &Launch, timeout: Duration) -> Result<String, JoinError> {
    let lost = |error| lost(launch, &error);
    let deadline = Instant::now() + timeout;
    let own = word(&launch.rank);
    let mut words = vec![String::new(); launch.world];
    let mut absent: Vec<usize> = (1..launch.world).collect();
    let mut pause = Duration::from_millis(5);
    loop {
        let mut still = Vec::new();
        for rank in absent {
            if !here(store, rank, &mut words[rank], &own, timeout).map_err(lost)? {
                still.push(rank);
            }
        }
        absent = still;
        if absent.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            let missing = missing(launch, &absent, timeout);
            dismiss(store, &words, &missing).map_err(lost)?;
            return Err(JoinError::Missing { rank: 0, world: launch.world, missing });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    for signal in SIGNALS {
        store.delete(signal).map_err(lost)?;
    }
    let round = format!("hephaestus/{own}");
    for word in &words[1..] {
        store.set(&named(word), &format!("go {round}")).map_err(lost)?;
    }
    Ok(round)
}

/// Tells those who came why there is no round, and keeps the store until they know.
fn dismiss(store: &Store, words: &[String], missing: &str) -> Result<(), TchError> {
    let words = || words.iter().filter(|word| !word.is_empty());
    for word in words() {
        store.set(&named(word), &format!("no {missing}"))?;
    }
    let deadline = Instant::now() + GRACE;
    for word in words() {
        // One that ended meanwhile need not know.
        let _ = store.get(&known(word), deadline.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Whether a rank has answered to the word it greets with now, and to rank 0's own.
fn here(store: &Store, rank: usize, word: &mut String, own: &str, timeout: Duration) -> Result<bool, TchError> {
    if !store.has(&greeting(rank))? {
        return Ok(false);
    }
    let greeted = store.get(&greeting(rank), timeout)?;
    if greeted != *word {
        store.set(&heard(&greeted), own)?;
        *word = greeted;
    }
    store.has(&answered(word, own))
}

/// Any other rank: greets, answers when it is called, and waits for the round's name.
fn answer(store: &Store, launch: &Launch, timeout: Duration) -> Result<String, JoinError> {
    let Launch { rank, world, .. } = *launch;
    let lost = |error| lost(launch, &error);
    let word = word(&rank);
    store.set(&greeting(rank), &word).map_err(lost)?;
    let silent = |error: TchError| {
        if !first_line(&error).to_lowercase().contains("timeout") {
            return lost(error);
        }
        let missing = format!("rank 0 did not come within {} s, or ended: see its log", timeout.as_secs_f64());
        JoinError::Missing { rank, world, missing }
    };
    let caller = store.get(&heard(&word), timeout + GRACE).map_err(silent)?;
    store.set(&answered(&word, &caller), "").map_err(lost)?;
    let told = store.get(&named(&word), timeout + GRACE).map_err(silent)?;
    if let Some(round) = told.strip_prefix("go ") {
        return Ok(round.to_owned());
    }
    // Rank 0 may be gone by itself.
    let _ = store.set(&known(&word), "");
    Err(JoinError::Missing { rank, world, missing: told.strip_prefix("no ").unwrap_or(&told).to_owned() })
}

/// Says how many came and who did not.
fn missing(launch: &Launch, absent: &[usize], timeout: Duration) -> String {
    let Launch { world, ref host, port, .. } = *launch;
    let few: Vec<_> = absent.iter().take(8).map(usize::to_string).collect();
    let more = if absent.len() > few.len() { format!(" and {} more", absent.len() - few.len()) } else { String::new() };
    format!(
        "{} of {world} ranks came within {} s, not {}{more}: see their logs, and whether their nodes reach {host}:{port}",
        world - absent.len(),
        timeout.as_secs_f64(),
        few.join(", "),
    )
}

fn lost(launch: &Launch, error: &TchError) -> JoinError {
    let Launch { rank, world, ref host, port, .. } = *launch;
    JoinError::Lost { rank, world, host: host.clone(), port, reason: first_line(error) }
}

pub(super) fn first_line(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// A word that no other process has said or will say, by a name of the speaker: process ids alone are alike in two pods.
pub(crate) fn word(speaker: &dyn Display) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{speaker}-{}-{}", process::id(), now.as_nanos())
}

/// This host's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn greeting(rank: usize) -> String {
    format!("hephaestus/greeting/{rank}")
}

fn heard(word: &str) -> String {
    format!("hephaestus/heard/{word}")
}

fn answered(word: &str, caller: &str) -> String {
    format!("hephaestus/answered/{word}/{caller}")
}

fn named(word: &str) -> String {
    format!("hephaestus/round/{word}")
}

fn known(word: &str) -> String {
    format!("hephaestus/known/{word}")
}
