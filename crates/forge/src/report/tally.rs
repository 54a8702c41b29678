//! What one part of one source counts, and how parts add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distinct::{Counted, Distinct};
use super::examples::{Bad, Examples};
use super::histogram::Histogram;
use crate::document::{Facts, LEARNED};
use crate::readers::BadRecord;

/// Different APIs that are counted exactly; beyond that to about 0.2 %.
const APIS: usize = 1 << 18;
/// Different providers that are counted exactly, each with its documents.
const PROVIDERS: usize = 1 << 12;

/// What one part of one source counts. Parts add up to the same whatever the order they are merged in, and a tally stays
/// bounded whatever it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// What the report shows as it is.
    pub figures: Figures,
    /// The APIs that kept documents document or call.
    pub apis: Distinct<APIS>,
    /// Who provides them, with the documents of each.
    pub providers: Counted<PROVIDERS>,
}

/// Counts of one source, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Documents read, and the bytes of their rendered text.
    pub read: Amount,
    /// Records that are no documents.
    pub bad: Bad,
    /// Documents dropped, by the rule that did.
    pub dropped: BTreeMap<String, Dropped>,
    /// Of those dropped for holding a benchmark, how many by benchmark.
    pub benchmarks: BTreeMap<String, u64>,
    /// Documents kept.
    pub kept: Amount,
    /// Tokens of the documents kept.
    pub tokens: u64,
    /// The sum of their loss weights, 255 for a token that is learned whole.
    pub weights: u64,
    /// What was scrubbed out of documents, by kind.
    pub scrubbed: BTreeMap<String, u64>,
    /// Lengths of the documents kept, in tokens.
    pub lengths: Histogram,
    /// Some of the documents kept.
    pub examples: Examples<5>,
}

/// An amount of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// Documents.
    pub documents: u64,
    /// Bytes of their rendered text.
    pub bytes: u64,
}

/// What one rule dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// How much.
    pub amount: Amount,
    /// Some of it.
    pub examples: Examples<4>,
}

impl Amount {
    /// One more document, of so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.merge(Self { documents: 1, bytes });
    }

    /// What another amount holds.
    pub fn merge(&mut self, other: Self) {
        self.documents = self.documents.saturating_add(other.documents);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Figures {
    /// Everything that rules dropped.
    #[must_use]
    pub fn dropped_together(&self) -> Amount {
        let mut together = Amount::default();
        self.dropped.values().for_each(|dropped| together.merge(dropped.amount));
        together
    }

    /// Tokens learned: the sum of loss weights from 0 to 1.
    #[must_use]
    pub fn learned(&self) -> f64 {
        self.weights as f64 / f64::from(LEARNED)
    }

    fn merge(&mut self, other: &Self) {
        self.read.merge(other.read);
        self.bad.merge(&other.bad);
        for (rule, dropped) in &other.dropped {
            let mine = self.dropped.entry(rule.clone()).or_default();
            mine.amount.merge(dropped.amount);
            mine.examples.merge(&dropped.examples);
        }
        for (mine, theirs) in [(&mut self.benchmarks, &other.benchmarks), (&mut self.scrubbed, &other.scrubbed)] {
            theirs.iter().for_each(|(name, count)| add(mine, name, *count));
        }
        self.kept.merge(other.kept);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.weights = self.weights.saturating_add(other.weights);
        self.lengths.merge(&other.lengths);
        self.examples.merge(&other.examples);
    }
}

impl Tally {
    /// A document was read: so many bytes of rendered text.
    pub fn read(&mut self, bytes: usize) {
        self.figures.read.add(bytes as u64);
    }

    /// A record is no document.
    pub fn bad(&mut self, record: &BadRecord) {
        self.figures.bad.add(record);
    }

    /// A document was dropped by `rule`, which found `detail`. Rules are few: names that the program has, not documents.
    pub fn dropped(&mut self, rule: &str, detail: &str, origin: &str, text: &str) {
        if !self.figures.dropped.contains_key(rule) {
            self.figures.dropped.insert(rule.to_owned(), Dropped::default());
        }
        if let Some(dropped) = self.figures.dropped.get_mut(rule) {
            dropped.amount.add(text.len() as u64);
            dropped.examples.offer(origin, detail, text);
        }
    }

    /// A document that was dropped for it holds this benchmark. Benchmarks are few: those that the recipe names.
    pub fn benchmark(&mut self, name: &str) {
        add(&mut self.figures.benchmarks, name, 1);
    }

    /// A document is kept; `called` are the APIs that it calls, besides the one it documents.
    pub fn kept<'a>(&mut self, facts: &Facts, called: impl Iterator<Item = &'a str>, origin: &str, text: &str) {
        self.figures.kept.add(text.len() as u64);
        facts.api.iter().for_each(|api| self.apis.insert(api));
        called.for_each(|api| self.apis.insert(api));
        facts.provider.iter().for_each(|provider| self.providers.insert(provider));
        self.figures.examples.offer(origin, "", text);
    }

    /// A document that is kept has `count` tokens, with loss weights (0 to 1) that add up to `learned`.
    pub fn tokens(&mut self, count: usize, learned: f64) {
        let count = count as u64;
        self.figures.tokens = self.figures.tokens.saturating_add(count);
        // Weights are whole 255ths: their sums are exact, and the same in any order.
        let weights = (learned * f64::from(LEARNED)).round() as u64;
        self.figures.weights = self.figures.weights.saturating_add(weights);
        self.figures.lengths.add(count);
    }

    /// So many things of a kind were scrubbed out of a document. Kinds are few, as rules are.
    pub fn scrubbed(&mut self, kind: &str, count: u64) {
        add(&mut self.figures.scrubbed, kind, count);
    }

    /// Adds what another part counted.
    pub fn merge(&mut self, other: &Self) {
        self.figures.merge(&other.figures);
        self.apis.merge(&other.apis);
        self.providers.merge(&other.providers);
    }
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    match counts.get_mut(name) {
        Some(held) => *held = held.saturating_add(count),
        None => drop(counts.insert(name.to_owned(), count)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something that happens to a document, drawn at random.
    #[derive(Clone, Debug)]
    struct Event(u8, String, String);

    fn tally(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        for Event(kind, name, text) in events {
            let facts = Facts { api: Some(name.clone()), provider: Some(name.chars().take(1).collect()) };
            match kind {
                0 => tally.bad(&BadRecord { origin: format!("{name}:{}", text.len()), reason: text.clone() }),
                1 => tally.dropped(&name[..1], text, name, text),
                2 => tally.scrubbed(&name[..1], text.len() as u64),
                3 => tally.benchmark(&name[..1]),
                _ => {
                    tally.read(text.len());
                    tally.kept(&facts, std::iter::once(text.as_str()), name, text);
                    tally.tokens(text.len(), text.len() as f64 * f64::from(*kind) / 255.0);
                }
            }
        }
        tally
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = (0_u8..9, "[a-c]{1,2}", "[x-z]{0,9}").prop_map(|(kind, name, text)| Event(kind, name, text));
        prop::collection::vec(event, 0..60)
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative_and_adds_up_to_the_whole(
            one in events(), two in events(), three in events(),
        ) {
            let parts = [&one, &two, &three].map(|events| tally(events));
            let merged = |a: &Tally, b: &Tally| { let mut sum = a.clone(); sum.merge(b); sum };
            let left = merged(&merged(&parts[0], &parts[1]), &parts[2]);
            prop_assert_eq!(&left, &merged(&parts[0], &merged(&parts[1], &parts[2])));
            prop_assert_eq!(&left, &merged(&merged(&parts[2], &parts[0]), &parts[1]));
            prop_assert_eq!(&left, &tally(&[one, two, three].concat()));
            let json = serde_json::to_string(&left).unwrap();
            prop_assert_eq!(&left, &serde_json::from_str::<Tally>(&json).unwrap());
        }
    }

    #[test]
    fn a_tally_of_many_large_documents_is_small() {
        let mut tally = Tally::default();
        let long = "long ".repeat(20_000);
        for number in 0..2_000 {
            let facts = Facts { api: Some(format!("{number}{long}")), provider: Some(format!("{number}{long}")) };
            let origin = format!("{number}{long}");
            tally.read(long.len());
            match number % 3 {
                0 => tally.kept(&facts, std::iter::empty(), &origin, &long),
                1 => tally.dropped("rule", &long, &origin, &long),
                _ => tally.bad(&BadRecord { origin, reason: long.clone() }),
            }
        }
        let bytes = serde_json::to_vec(&tally).unwrap().len();
        assert!(bytes < 200_000, "{bytes} bytes");
        assert_eq!((tally.apis.count(), tally.providers.count()), (667, 667));
    }

    #[test]
    fn learned_tokens_are_counted_in_whole_weights() {
        let mut tally = Tally::default();
        tally.tokens(3, (255.0 + 128.0) / 255.0);
        tally.tokens(1, f64::NAN);
        assert_eq!((tally.figures.tokens, tally.figures.weights), (4, 383));
    }
}
