//! A few documents and bad records to look at: the same ones whatever the order in which parts are merged.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::readers::BadRecord;
use crate::visible::beginning;

/// Characters of a document that an example shows.
pub const TEXT: usize = 600;
/// Characters of an origin, a reason or a detail that are held.
const WORDS: usize = 300;
/// Bad records named; the others are only counted.
pub const BAD: usize = 20;

/// A document to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// Where it came from.
    pub origin: String,
    /// What the rule that dropped it found; empty for documents that were kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How it begins.
    pub text: String,
    /// Bytes of all of its text.
    pub bytes: u64,
}

/// At most `HELD` examples: those whose origins have the smallest hashes, which is as good as drawing them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Examples<const HELD: usize> {
    held: Vec<Example>,
}

impl<const HELD: usize> Examples<HELD> {
    /// Takes a document as an example, or not.
    pub fn offer(&mut self, origin: &str, detail: &str, text: &str) {
        let (origin, detail) = (beginning(origin, WORDS).0, beginning(detail, WORDS).0);
        if self.held.len() < HELD || self.held.last().is_some_and(|last| hash(origin) <= hash(&last.origin)) {
            let (origin, detail) = (origin.to_owned(), detail.to_owned());
            let (beginning, bytes) = (beginning(text, TEXT).0.to_owned(), text.len() as u64);
            self.insert(Example { origin, detail, text: beginning, bytes });
        }
    }

    /// Takes what another took.
    pub fn merge(&mut self, other: &Self) {
        other.held.iter().for_each(|example| self.insert(example.clone()));
    }

    fn insert(&mut self, example: Example) {
        let key = (hash(&example.origin), &example);
        let place = self.held.partition_point(|other| (hash(&other.origin), other) < key);
        if place < HELD {
            self.held.insert(place, example);
            self.held.truncate(HELD);
        }
    }

    /// The examples, in no order that means anything, but always the same.
    #[must_use]
    pub fn list(&self) -> &[Example] {
        &self.held
    }
}

fn hash(origin: &str) -> u64 {
    xxh3_64(origin.as_bytes())
}

/// Records that are no documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bad {
    /// How many.
    pub count: u64,
    /// The first of them by file and line.
    pub first: Vec<BadOne>,
}

/// A record that is no document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadOne {
    /// `FILE` or `FILE:LINE`.
    pub origin: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Bad {
    /// Counts a record.
    pub fn add(&mut self, record: &BadRecord) {
        self.count = self.count.saturating_add(1);
        let [origin, reason] = [&record.origin, &record.reason].map(|text| beginning(text, WORDS).0.to_owned());
        self.insert(BadOne { origin, reason });
    }

    /// Counts what another counted.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        other.first.iter().for_each(|record| self.insert(record.clone()));
    }

    fn insert(&mut self, record: BadOne) {
        let place = self.first.partition_point(|other| other.key() < record.key());
        if place < BAD {
            self.first.insert(place, record);
            self.first.truncate(BAD);
        }
    }
}

impl BadOne {
    /// Orders by file, then by line as a number.
    fn key(&self) -> (&str, u64, &str, &str) {
        let line = self.origin.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?)));
        let (file, line) = line.unwrap_or((&self.origin, 0));
        (file, line, &self.origin, &self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_records_are_named_in_the_order_of_files_and_lines() {
        let mut bad = Bad::default();
        for line in (1..=30).rev() {
            bad.add(&BadRecord { origin: format!("b.jsonl:{line}"), reason: "broken".to_owned() });
        }
        bad.add(&BadRecord { origin: "a.json".to_owned(), reason: "x".repeat(9000) });
        assert_eq!((bad.count, bad.first.len(), bad.first[0].reason.len()), (31, BAD, WORDS));
        let origins: Vec<&str> = bad.first.iter().take(3).map(|one| one.origin.as_str()).collect();
        assert_eq!(origins, ["a.json", "b.jsonl:1", "b.jsonl:2"]);
    }

    #[test]
    fn examples_are_few_and_short_and_do_not_depend_on_the_order() {
        let mut there = Examples::<4>::default();
        let mut back = Examples::<4>::default();
        let long = "世".repeat(1000);
        (0..100).for_each(|number| there.offer(&number.to_string(), "", &long));
        (0..100).rev().for_each(|number| back.offer(&number.to_string(), "", &long));
        assert_eq!(there, back);
        assert_eq!(there.list().len(), 4);
        assert_eq!((there.list()[0].text.chars().count(), there.list()[0].bytes), (TEXT, 3000));
    }
}
