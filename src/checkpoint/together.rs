//! What several ranks do together and either all bring about or none: each tells rank 0 what became of its part, and hears
//! from it what became of the whole.
//!
//! It goes through the store, as it may take longer than a collective should. One process alone does the same and tells
//! nobody.

use std::cell::Cell;
use std::fmt::Display;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::TchError;

use crate::distributed::World;
use crate::distributed::join::host;

/// What the others wait beyond the time that rank 0 has for its part and for waiting.
const GRACE: Duration = Duration::from_secs(5);

/// The ranks that do things together, as one of them sees it.
///
/// Every rank calls the same methods in the same order. There is one for a [`World`], as it counts the calls.
#[derive(Debug)]
pub struct Together<'a> {
    world: Option<&'a World>,
    calls: Cell<u64>,
}

/// Why what all were to do together came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TogetherError {
    /// A rank could not do its part.
    #[error("rank {rank} of {world} ({host}): {reason}")]
    Failed {
        /// Which.
        rank: usize,
        /// Of how many.
        world: usize,
        /// Its machine.
        host: String,
        /// Why.
        reason: String,
    },
    /// Ranks that did not say in time what became of their part.
    #[error("{} of {world} did not answer within {} s ({what}): see {} log", listed(ranks), waited.as_secs_f64(), if ranks.len() == 1 { "its" } else { "their" })]
    Missing {
        /// Which.
        ranks: Vec<usize>,
        /// Of how many.
        world: usize,
        /// What was to be done.
        what: String,
        /// How long they were waited for.
        waited: Duration,
    },
    /// The store went away meanwhile.
    #[error("rank {rank} of {world} lost the store ({what}): {reason}")]
    Lost {
        /// This process.
        rank: usize,
        /// Of how many.
        world: usize,
        /// What was to be done.
        what: String,
        /// c10d's words.
        reason: String,
    },
}

fn listed(ranks: &[usize]) -> String {
    let few: Vec<_> = ranks.iter().take(8).map(usize::to_string).collect();
    let more = if ranks.len() > few.len() { format!(" and {} more", ranks.len() - few.len()) } else { String::new() };
    format!("{} {}{more}", if ranks.len() == 1 { "rank" } else { "ranks" }, few.join(", "))
}

impl<'a> Together<'a> {
    /// All ranks of a world.
    #[must_use]
    pub fn of(world: &'a World) -> Self {
        Self { world: Some(world), calls: Cell::new(0) }
    }

    /// One process alone.
    #[must_use]
    pub fn alone() -> Self {
        Self { world: None, calls: Cell::new(0) }
    }

    /// This process.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.world.map_or(0, |world| world.launch().rank)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.world.map_or(1, |world| world.launch().world)
    }

    /// How long any of them may take for its part; `None` for one alone.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.world.map(World::timeout)
    }

    /// What rank 0 alone does; all others wait for it and return what it returned. `what` names it in errors: "choose a
    /// checkpoint".
    ///
    /// # Errors
    /// Rank 0's own on rank 0; on others [`TogetherError`], where it failed or did not answer.
    pub fn first<T, E>(&self, what: &str, act: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: Display + From<TogetherError>,
    {
        let Some(world) = self.world else { return act() };
        let call = self.call(world, what);
        if call.rank() > 0 {
            return Ok(call.hear()?);
        }
        let outcome = act();
        let told = call.tell(outcome.as_ref().map_err(|error| call.failed(error)));
        let value = outcome?;
        told?;
        Ok(value)
    }

    /// What every rank does, and what rank 0 makes of it: `finish` gets what each of them brings, by rank, or the error of one
    /// that failed, and what it returns all return.
    ///
    /// # Errors
    /// Alone, whatever `act` or `finish` return. Of several the same on all of them: a [`TogetherError`] that tells of the
    /// first rank that failed or did not come.
    pub fn all<T, R, E>(
        &self,
        what: &str,
        act: impl FnOnce() -> Result<T, E>,
        finish: impl FnOnce(Result<Vec<T>, E>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
        E: Display + From<TogetherError>,
    {
        let Some(world) = self.world else { return finish(act().map(|own| vec![own])) };
        let call = self.call(world, what);
        let own = act().map_err(|error| call.failed(&error));
        if call.rank() > 0 {
            call.report(&own)?;
            return call.hear().map_err(|error| match (own, error) {
                // Rank 0 is not there to say what this rank knows itself.
                (Err(own), TogetherError::Missing { .. } | TogetherError::Lost { .. }) => own.into(),
                (_, error) => error.into(),
            });
        }
        let gathered = call.gather(own);
        let because = gathered.as_ref().err().cloned();
        let outcome = finish(gathered.map_err(E::from)).map_err(|error| because.unwrap_or_else(|| call.failed(&error)));
        call.tell(outcome.as_ref().map_err(Clone::clone))?;
        Ok(outcome?)
    }

    fn call<'c>(&self, world: &'c World, what: &'c str) -> Call<'c> {
        let number = self.calls.replace(self.calls.get() + 1);
        Call { world, what, key: world.key(&format!("together/{number}/{what}")) }
    }
}

/// One thing that is done together.
struct Call<'c> {
    world: &'c World,
    what: &'c str,
    key: String,
}

impl Call<'_> {
    fn rank(&self) -> usize {
        self.world.launch().rank
    }

    fn count(&self) -> usize {
        self.world.launch().world
    }

    /// Rank 0 tells all others. It may end over a failure, and the store with it, so it lets them hear of that first.
    fn tell<T: Serialize>(&self, outcome: Result<&T, TogetherError>) -> Result<(), TogetherError> {
        self.set(&self.key, &outcome)?;
        if outcome.is_err() {
            let deadline = Instant::now() + GRACE;
            for rank in 1..self.count() {
                let patience = deadline.saturating_duration_since(Instant::now());
                let _ = self.world.store().get(&self.heard_by(rank), patience);
            }
        }
        Ok(())
    }

    /// What rank 0 tells: it has its time for its part, and as much to wait for others.
    fn hear<T: DeserializeOwned>(&self) -> Result<T, TogetherError> {
        let patience = 2 * self.world.timeout() + GRACE;
        let Some(outcome) = self.get(&self.key, patience)? else { return Err(self.missing(vec![0], patience)) };
        if outcome.is_err() {
            // Rank 0 may be gone by itself.
            let _ = self.world.store().set(&self.heard_by(self.rank()), "");
        }
        outcome
    }

    /// Any other rank says what became of its part.
    fn report<T: Serialize>(&self, own: &Result<T, TogetherError>) -> Result<(), TogetherError> {
        self.set(&self.key_of(self.rank()), own)
    }

    /// Rank 0 waits for all others: what each brings, or who failed first, or who did not come.
    fn gather<T: DeserializeOwned>(&self, own: Result<T, TogetherError>) -> Result<Vec<T>, TogetherError> {
        let deadline = Instant::now() + self.world.timeout();
        let mut brought = Vec::with_capacity(self.count());
        let (mut failed, mut absent) = (None, Vec::new());
        let mut take = |outcome| match outcome {
            Ok(value) => brought.push(value),
            Err(error) => drop(failed.get_or_insert(error)),
        };
        take(own);
        for rank in 1..self.count() {
            let key = self.key_of(rank);
            match self.get(&key, deadline.saturating_duration_since(Instant::now()))? {
                Some(outcome) => take(outcome),
                None => absent.push(rank),
            }
            self.world.store().delete(&key).map_err(|error| self.lost(&error))?;
        }
        match failed {
            Some(failed) => Err(failed),
            None if absent.is_empty() => Ok(brought),
            None => Err(self.missing(absent, self.world.timeout())),
        }
    }

    fn set<T: Serialize>(&self, key: &str, outcome: &Result<T, TogetherError>) -> Result<(), TogetherError> {
        let (text, unwritable) = match serde_json::to_string(outcome) {
            Ok(text) => (text, None),
            // Such as a path that is no UTF-8: nobody is to wait for it.
            Err(error) => {
                let failed = self.failed(&error);
                (serde_json::json!({ "Err": failed }).to_string(), Some(failed))
            }
        };
        self.world.store().set(key, &text).map_err(|error| self.lost(&error))?;
        unwritable.map_or(Ok(()), Err)
    }

    /// What lies under a key; `None` where it does not come in time.
    fn get<T: DeserializeOwned>(
        &self,
        key: &str,
        patience: Duration,
    ) -> Result<Option<Result<T, TogetherError>>, TogetherError> {
        let store = self.world.store();
        // One that is there already is taken however late it is.
        if patience.is_zero() && !store.has(key).map_err(|error| self.lost(&error))? {
            return Ok(None);
        }
        match store.get(key, patience.max(Duration::from_secs(1))) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).unwrap_or_else(|error| Err(self.failed(&error))))),
            Err(error) if error.to_string().to_lowercase().contains("timeout") => Ok(None),
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn key_of(&self, rank: usize) -> String {
        format!("{}/{rank}", self.key)
    }

    fn heard_by(&self, rank: usize) -> String {
        format!("{}/heard/{rank}", self.key)
    }

    fn failed(&self, error: &impl Display) -> TogetherError {
        TogetherError::Failed { rank: self.rank(), world: self.count(), host: host(), reason: format!("{error:#}") }
    }

    fn missing(&self, ranks: Vec<usize>, waited: Duration) -> TogetherError {
        TogetherError::Missing { ranks, world: self.count(), what: self.what.to_owned(), waited }
    }

    fn lost(&self, error: &TchError) -> TogetherError {
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        TogetherError::Lost { rank: self.rank(), world: self.count(), what: self.what.to_owned(), reason }
    }
}
