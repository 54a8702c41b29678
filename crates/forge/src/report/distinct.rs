//! How many different names there were, in bounded memory and whatever the order of merging.
//!
//! Of the hashes of all names the smallest are held. While they are all there, the count is exact; beyond that it is
//! estimated from how densely they lie (Bar-Yossef et al., "Counting distinct elements in a data stream", 2002): with k of
//! them held the relative error is about 1 / sqrt(k). A name whose hash is among the smallest of all was never let go, in
//! no part, so what is counted for it is exact too.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::visible::beginning;

/// Characters of a name that are held.
const NAME: usize = 120;

/// Different names, of which the `HELD` smallest hashes are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Distinct<const HELD: usize> {
    smallest: BTreeSet<u64>,
}

impl<const HELD: usize> Distinct<HELD> {
    /// Counts a name, unless it was counted before.
    pub fn insert(&mut self, name: &str) {
        self.insert_hash(xxh3_64(name.as_bytes()));
    }

    /// Counts what another counted.
    pub fn merge(&mut self, other: &Self) {
        other.smallest.iter().for_each(|hash| self.insert_hash(*hash));
    }

    fn insert_hash(&mut self, hash: u64) {
        if self.smallest.len() >= HELD && self.smallest.last().is_some_and(|largest| hash >= *largest) {
            return;
        }
        self.smallest.insert(hash);
        if self.smallest.len() > HELD {
            self.smallest.pop_last();
        }
    }

    /// How many different names; an estimate where there are `HELD` or more.
    #[must_use]
    pub fn count(&self) -> u64 {
        estimate(self.smallest.len(), self.smallest.last().copied(), HELD)
    }
}

/// Different names with how often each was seen, of which those with the `HELD` smallest hashes are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counted<const HELD: usize> {
    names: BTreeMap<u64, Name>,
}

/// A name and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The name, or the beginning of a long one.
    pub name: String,
    /// Documents with it.
    pub documents: u64,
}

impl<const HELD: usize> Counted<HELD> {
    /// Counts one more document with this name.
    pub fn insert(&mut self, name: &str) {
        self.add(xxh3_64(name.as_bytes()), name, 1);
    }

    /// Counts what another counted.
    pub fn merge(&mut self, other: &Self) {
        other.names.iter().for_each(|(hash, name)| self.add(*hash, &name.name, name.documents));
    }

    fn add(&mut self, hash: u64, name: &str, documents: u64) {
        if let Some(held) = self.names.get_mut(&hash) {
            held.documents = held.documents.saturating_add(documents);
            return;
        }
        if self.names.len() >= HELD && self.names.last_key_value().is_some_and(|(largest, _)| hash > *largest) {
            return;
        }
        self.names.insert(hash, Name { name: beginning(name, NAME).0.to_owned(), documents });
        if self.names.len() > HELD {
            self.names.pop_last();
        }
    }

    /// How many different names; an estimate where there are `HELD` or more.
    #[must_use]
    pub fn count(&self) -> u64 {
        estimate(self.names.len(), self.names.last_key_value().map(|(hash, _)| *hash), HELD)
    }

    /// The most frequent names, at most so many; among equals by name. Where not all names are held, of those that are.
    #[must_use]
    pub fn most_frequent(&self, at_most: usize) -> Vec<Name> {
        let mut names: Vec<&Name> = self.names.values().collect();
        names.sort_by(|a, b| b.documents.cmp(&a.documents).then_with(|| a.name.cmp(&b.name)));
        names.into_iter().take(at_most).cloned().collect()
    }
}

/// How many hashes there were of which the `held` smallest end at `largest`; exact below `limit`.
fn estimate(held: usize, largest: Option<u64>, limit: usize) -> u64 {
    match largest {
        Some(largest) if held >= limit => {
            let density = held.saturating_sub(1) as f64 / (largest as f64).max(1.0);
            (density * u64::MAX as f64).round() as u64
        }
        _ => held as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_names_are_counted_exactly_and_many_within_a_few_per_cent() {
        let mut few = Distinct::<1000>::default();
        let mut many = Distinct::<1000>::default();
        for number in 0..50_000 {
            few.insert(&format!("api {}", number % 700));
            many.insert(&format!("api {}", number % 40_000));
        }
        assert_eq!(few.count(), 700);
        let error = (many.count() as f64 / 40_000.0 - 1.0).abs();
        assert!(error < 0.1 && many.smallest.len() == 1000, "{} counted of 40,000", many.count());
    }

    #[test]
    fn the_most_frequent_names_come_first_and_equals_in_order_of_their_names() {
        let mut counted = Counted::<100>::default();
        ["b", "a", "c", "c"].into_iter().for_each(|name| counted.insert(name));
        let names: Vec<_> = counted.most_frequent(2).into_iter().map(|name| (name.name, name.documents)).collect();
        assert_eq!(names, [("c".to_owned(), 2), ("a".to_owned(), 1)]);
    }

    proptest! {
        #[test]
        fn parts_merged_in_any_order_count_as_the_whole_does_and_stay_bounded(
            names in prop::collection::vec("[a-e]{1,3}", 0..200), cut in 0_usize..200, also in 0_usize..200,
        ) {
            let count = |names: &[String]| {
                let (mut distinct, mut counted) = (Distinct::<16>::default(), Counted::<16>::default());
                names.iter().for_each(|name| { distinct.insert(name); counted.insert(name); });
                (distinct, counted)
            };
            let (cut, also) = (cut.min(names.len()), also.min(names.len()));
            let (one, two, three) = (cut.min(also), cut.max(also), names.len());
            let parts = [&names[..one], &names[one..two], &names[two..three]].map(count);
            let merge = |order: [usize; 3]| {
                let (mut distinct, mut counted) = parts[order[0]].clone();
                for at in &order[1..] {
                    distinct.merge(&parts[*at].0);
                    counted.merge(&parts[*at].1);
                }
                (distinct, counted)
            };
            let whole = count(&names);
            prop_assert!(whole.0.smallest.len() <= 16 && whole.1.names.len() <= 16);
            for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
                prop_assert_eq!(&merge(order), &whole);
            }
        }
    }
}
