//! What is wrong, and where it was written: the lines that a user reads, from the recipe's checks and the plan's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Where something was written. In order: the file from its top, then overrides as they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file; both count from 1.
    File {
        /// Line.
        line: usize,
        /// Column, in characters.
        column: usize,
    },
    /// In an override, by its place among them.
    Override(usize),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// That place as a user names it: `cpt.yaml:12:5`, or `--set data.packing=fit`.
    pub shown: String,
    /// The key, from the top of the recipe; empty where there is none.
    pub key: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

/// Problems that are shown, of more.
pub const SHOWN: usize = 50;

/// All that is wrong, in the order in which it was written; one line each for the first [`SHOWN`], and their number where
/// there are several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

/// Where each key of a recipe was written.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    file: String,
    overrides: Vec<String>,
    places: BTreeMap<String, Place>,
}

impl Problems {
    /// Sorts them by place; what is said twice of one key is said once.
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        problems.dedup();
        Self(problems)
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}: {}{separator}{}", self.shown, self.key, self.message)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().take(SHOWN).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len() {
            0 | 1 => Ok(()),
            some @ ..=SHOWN => write!(f, "\n{some} problems"),
            many => write!(f, "\n{many} problems, of which the first {SHOWN} are shown"),
        }
    }
}

impl Positions {
    /// Positions in `file`, after `overrides`.
    pub(super) fn new(file: &Path, overrides: &[String]) -> Self {
        Self { file: file.display().to_string(), overrides: overrides.to_vec(), places: BTreeMap::new() }
    }

    /// Notes where `key` was written.
    pub(super) fn note(&mut self, key: &str, place: Place) {
        self.places.insert(key.to_owned(), place);
    }

    /// Whether `key` (`stages.0.steps`) was written, as opposed to left at its default.
    #[must_use]
    pub fn written(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Where `key` was written; where it was not, the nearest section around it.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return *place;
            }
            match key.rsplit_once('.') {
                Some((section, _)) => key = section,
                None => return Place::File { line: 1, column: 1 },
            }
        }
    }

    /// A place as a user names it.
    #[must_use]
    pub fn show(&self, place: Place) -> String {
        match place {
            Place::File { line, column } => format!("{}:{line}:{column}", self.file),
            Place::Override(at) => format!("--set {}", self.overrides.get(at).map_or("", String::as_str)),
        }
    }

    /// A problem with `key`, at its place.
    #[must_use]
    pub fn problem(&self, key: &str, message: impl Into<String>) -> Problem {
        self.problem_at(self.place(key), key, message)
    }

    /// A problem with `key`, at a place of its own.
    pub(super) fn problem_at(&self, place: Place, key: &str, message: impl Into<String>) -> Problem {
        Problem { place, shown: self.show(place), key: key.to_owned(), message: message.into() }
    }
}

/// Longest text that is compared letter by letter with what may have been meant.
const NAME: usize = 256;

/// The candidate that was most likely meant by `written`, if any is near.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > NAME {
        return None;
    }
    let closeness = |candidate: &&str| strsim::normalized_damerau_levenshtein(&written.to_lowercase(), candidate);
    let best = candidates.into_iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)))?;
    // Half of the letters in place, or one of the two begins the other: `seq` for `sequences`.
    let begins = written.len() > 2 && (best.starts_with(written) || written.starts_with(best));
    (closeness(&best) >= 0.5 || begins).then_some(best)
}
