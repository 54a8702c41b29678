//! The one report of a job that fails: who, where, at which step, doing what, and why.
//!
//! A rank that fails for a reason of its own is the culprit. One whose collective failed is not: it looks who is silent, or
//! behind, and reports these.

use std::error::Error;
use std::time::Duration;

use super::beat::Beat;
use super::sharding::StepError;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::together::TogetherError;
use crate::ffi::CollectiveError;

/// How many lines of ranks are shown.
const LINES: usize = 8;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// In one line.
    pub(super) headline: String,
    /// What is known beyond that, line by line.
    pub(super) details: Vec<String>,
}

impl Report {
    /// As it is printed.
    pub(super) fn text(&self) -> String {
        let mut text = format!("error: {}", self.headline);
        for line in &self.details {
            text += "\n  ";
            text += line;
        }
        text
    }
}

/// An error and its causes in a line, each after what it caused.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        // An error that shows its cause itself says it once.
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// Whether an error comes of a collective that did not succeed, or of a store that went away, so that another rank may know
/// the reason.
pub(super) fn is_consequence(error: &(dyn Error + 'static)) -> bool {
    let is_lost = |error: &TogetherError| matches!(error, TogetherError::Missing { .. } | TogetherError::Lost { .. });
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CollectiveError>()
            || matches!(error.downcast_ref(), Some(StepError::Collective(_)))
            || matches!(error.downcast_ref(), Some(CheckpointError::Together(error)) if is_lost(error))
            || error.downcast_ref().is_some_and(is_lost)
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// This rank failed for a reason of its own.
pub(super) fn of_cause(rank: usize, world: usize, own: &Beat, error: &str) -> Report {
    // Of several problems, or a panic with its stack, others are told the first line.
    let mut lines = error.lines();
    let first = lines.next().unwrap_or_default();
    let mut details: Vec<_> = lines.map(str::to_owned).collect();
    details.push(format!("rank {rank} is process {} on {}; the other ranks were ended", own.pid, own.host));
    Report { headline: format!("rank {rank} of {world} failed at step {} ({}): {first}", own.step, own.doing), details }
}

/// What the ranks have said of themselves, before and after a wait.
#[derive(Debug)]
pub(super) struct Seen {
    /// By rank.
    pub(super) before: Vec<Option<Beat>>,
    /// By rank.
    pub(super) after: Vec<Option<Beat>>,
    /// How long that was.
    pub(super) waited: Duration,
}

/// `rank` found by `error`, such as a collective that failed, that others do not go on: those who are silent are named, else
/// those who are behind, else those who wait for nothing yet.
pub(super) fn of_consequence(rank: usize, seen: &Seen, error: &str) -> Report {
    let world = seen.after.len();
    let others = || (0..world).filter(|&other| other != rank);
    let count = |beats: &[Option<Beat>], rank: usize| beats[rank].as_ref().map(|beat| beat.count);
    let silent: Vec<_> = others().filter(|&other| count(&seen.before, other) == count(&seen.after, other)).collect();
    let goes_on =
        |other: &usize| !silent.contains(other) && seen.after[*other].as_ref().is_some_and(|beat| !beat.failed);
    let busy: Vec<_> = others().filter(goes_on).collect();
    let step = |rank: usize| seen.after[rank].as_ref().map_or(0, |beat| beat.step);
    let mut behind: Vec<_> = busy.iter().copied().filter(|&other| step(other) < step(rank)).collect();
    if behind.is_empty() {
        behind = busy;
    }
    let noticed = format!("noticed by rank {rank}: {error}");
    if !silent.is_empty() {
        let have = if silent.len() == 1 { "has" } else { "have" };
        let waited = seen.waited.as_secs_f64();
        let why = "killed, hung or cut off from the store";
        let headline =
            format!("{} of {world} {have} stopped: no sign of life for {waited:.1} s ({why})", named(&silent));
        let mut details = places(&silent, &seen.after, "last seen at");
        details.push(noticed);
        let rest: Vec<_> = (0..world).filter(|rank| !silent.contains(rank)).collect();
        details.extend(places(&rest, &seen.after, "at"));
        return Report { headline, details };
    }
    if !behind.is_empty() {
        let keep = if behind.len() == 1 { "keeps" } else { "keep" };
        let headline = format!(
            "{} of {world} {keep} the others waiting, and {} alive",
            named(&behind),
            if behind.len() == 1 { "is" } else { "are" }
        );
        let mut details = places(&behind, &seen.after, "at");
        details.push(noticed);
        let rest: Vec<_> = (0..world).filter(|rank| !behind.contains(rank)).collect();
        details.extend(places(&rest, &seen.after, "at"));
        return Report { headline, details };
    }
    let all: Vec<_> = (0..world).collect();
    let mut details = vec!["every rank is alive and says the same: see what lies between their nodes".to_owned()];
    details.extend(places(&all, &seen.after, "at"));
    Report { headline: error.to_owned(), details }
}

/// Lines that say where ranks are, those at one place together.
fn places(ranks: &[usize], beats: &[Option<Beat>], at: &str) -> Vec<String> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for &rank in ranks {
        let place = match &beats[rank] {
            None => "never seen".to_owned(),
            Some(beat) => {
                let failed = if beat.failed { ", where a collective failed" } else { "" };
                format!("{}, {at} step {} ({}){failed}", beat.host, beat.step, beat.doing)
            }
        };
        match groups.iter_mut().find(|(known, _)| *known == place) {
            Some((_, ranks)) => ranks.push(rank),
            None => groups.push((place, vec![rank])),
        }
    }
    let more = groups.len().saturating_sub(LINES);
    let mut lines: Vec<_> = groups.iter().take(LINES).map(|(place, ranks)| line(place, ranks, beats)).collect();
    if more > 0 {
        lines.push(format!("and ranks at {more} more places"));
    }
    lines
}

fn line(place: &str, ranks: &[usize], beats: &[Option<Beat>]) -> String {
    let alone = match ranks {
        [rank] => beats[*rank].as_ref().map(|beat| format!(" for {} s, process {}", beat.seconds, beat.pid)),
        _ => None,
    };
    format!("{}: {place}{}", named(ranks), alone.unwrap_or_default())
}

/// Ranks in ascending order as `rank 3` or `ranks 0, 4 to 7`.
fn named(ranks: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &rank in ranks {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let more = runs.len().saturating_sub(LINES);
    let shown = runs.iter().take(LINES).map(|&(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    });
    let listed = shown.collect::<Vec<_>>().join(", ");
    let more = if more > 0 { " and more".to_owned() } else { String::new() };
    format!("{} {listed}{more}", if ranks.len() == 1 { "rank" } else { "ranks" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(count: u64, step: u64, doing: &str) -> Option<Beat> {
        let (doing, host) = (doing.to_owned(), "a".to_owned());
        Some(Beat { count, step, doing, seconds: 7, failed: false, host, pid: 42 })
    }

    fn failed(beat: Option<Beat>) -> Option<Beat> {
        beat.map(|beat| Beat { failed: true, ..beat })
    }

    fn report(before: &[Option<Beat>], after: &[Option<Beat>]) -> String {
        let waited = Duration::from_secs(3);
        of_consequence(0, &Seen { before: before.to_vec(), after: after.to_vec(), waited }, "all_reduce: no answer")
            .text()
    }

    #[test]
    fn ranks_are_named_in_runs() {
        for (ranks, expected) in [
            (&[3][..], "rank 3"),
            (&[0, 1], "ranks 0, 1"),
            (&[0, 4, 5, 6, 9, 10], "ranks 0, 4 to 6, 9, 10"),
            (&[0, 2, 4, 6, 8, 10, 12, 14, 16], "ranks 0, 2, 4, 6, 8, 10, 12, 14 and more"),
        ] {
            assert_eq!(named(ranks), expected);
        }
    }

    #[test]
    fn a_silent_rank_is_the_culprit_whoever_else_is_behind() {
        let before = [beat(5, 9, "step"), beat(5, 8, "saving"), beat(6, 9, "step"), None];
        let after = [failed(beat(8, 9, "step")), beat(8, 8, "saving"), beat(6, 9, "step"), None];
        assert_eq!(
            report(&before, &after),
            "error: ranks 2, 3 of 4 have stopped: no sign of life for 3.0 s (killed, hung or cut off from the store)
  rank 2: a, last seen at step 9 (step) for 7 s, process 42
  rank 3: never seen
  noticed by rank 0: all_reduce: no answer
  rank 0: a, at step 9 (step), where a collective failed for 7 s, process 42
  rank 1: a, at step 8 (saving) for 7 s, process 42"
        );
    }

    #[test]
    fn where_all_are_alive_one_that_is_behind_is_the_culprit_and_else_one_that_waits_for_nothing() {
        let before = [beat(5, 9, "step"), beat(5, 8, "saving"), beat(5, 9, "step")];
        let behind = [failed(beat(8, 9, "step")), beat(8, 8, "saving"), beat(8, 9, "step")];
        let text = report(&before, &behind);
        assert!(
            text.starts_with(
                "error: rank 1 of 3 keeps the others waiting, and is alive\n  rank 1: a, at step 8 (saving)"
            )
        );
        let level = [failed(beat(8, 9, "step")), failed(beat(8, 9, "step")), beat(8, 9, "step")];
        let text = report(&before, &level);
        assert!(text.starts_with("error: rank 2 of 3 keeps the others waiting"), "{text}");
    }

    #[test]
    fn where_all_say_the_same_that_is_the_report() {
        let before = [beat(5, 9, "step"), beat(5, 9, "step"), beat(5, 9, "step")];
        let after = [failed(beat(8, 9, "step")), failed(beat(8, 9, "step")), failed(beat(8, 9, "step"))];
        assert_eq!(
            report(&before, &after),
            "error: all_reduce: no answer
  every rank is alive and says the same: see what lies between their nodes
  ranks 0 to 2: a, at step 9 (step), where a collective failed"
        );
    }

    #[test]
    fn an_error_of_a_collective_is_a_consequence_however_it_is_wrapped() {
        use anyhow::Context as _;
        let collective = || CollectiveError {
            collective: "all_reduce",
            rank: 0,
            world: 2,
            group: "all ranks".to_owned(),
            timed_out: None,
            detail: "closed".to_owned(),
        };
        let bare = anyhow::Error::from(collective());
        let wrapped = Err::<(), _>(collective()).context("validating").context("step 3").unwrap_err();
        assert!(is_consequence(bare.as_ref()) && is_consequence(wrapped.as_ref()));
        assert_eq!(chain(wrapped.as_ref()), "step 3: validating: all_reduce on rank 0 of 2 (all ranks): closed");
        let own = anyhow::anyhow!("disk full").context("saving");
        assert!(!is_consequence(own.as_ref()));
        let (what, reason) = ("write a checkpoint".to_owned(), "closed".to_owned());
        let lost = TogetherError::Lost { rank: 1, world: 2, what, reason: reason.clone() };
        let failed = TogetherError::Failed { rank: 1, world: 2, host: "b".to_owned(), reason };
        for (error, expected) in [(lost, true), (failed, false)] {
            let saving = Err::<(), _>(CheckpointError::from(error.clone())).context("step 3 could not be saved");
            assert_eq!(is_consequence(saving.unwrap_err().as_ref()), expected, "{error}");
            assert_eq!(is_consequence(anyhow::Error::from(error).as_ref()), expected);
        }
    }
}
