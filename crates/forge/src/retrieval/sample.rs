//! A bounded sample of a class's documents, the same whatever the order they come in.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::ngrams::{head, seen};

/// The documents with the smallest hashes, so each has the same chance and equal ones count once. Holds
/// `max_documents` texts of at most `max_bytes` each.
#[derive(Debug)]
pub(super) struct Sample {
    max_documents: u64,
    documents: BTreeMap<u128, Box<[u8]>>,
    read: u64,
    bad: u64,
}

/// A document, ready to be offered.
#[derive(Debug)]
pub(super) struct Offer {
    key: u128,
    text: Box<[u8]>,
}

impl Offer {
    /// A text as it is seen, with its hash.
    pub(super) fn new(text: &str, max_bytes: u64, seed: u64) -> Self {
        let text = seen(head(text.as_bytes(), max_bytes)).into_boxed_slice();
        Self { key: xxh3_128_with_seed(&text, seed), text }
    }
}

/// The parts that a class's documents are dealt into; no text is in two.
#[derive(Debug)]
pub(super) struct Parts {
    /// What weights are learned from.
    pub(super) train: Vec<Held>,
    /// What the end of training, the scale of scores and the threshold are chosen by.
    pub(super) validation: Vec<Held>,
    /// What the classifier is judged by.
    pub(super) held_out: Vec<Held>,
}

/// A document of a part.
#[derive(Debug)]
pub(super) struct Held {
    /// Uniform, and a function of the text and the seed alone.
    pub(super) key: u64,
    /// The text as it is seen.
    pub(super) text: Box<[u8]>,
}

impl Sample {
    /// An empty one.
    pub(super) fn new(max_documents: u64) -> Self {
        Self { max_documents, documents: BTreeMap::new(), read: 0, bad: 0 }
    }

    /// Counts a document, and keeps it while its hash is among the smallest.
    pub(super) fn offer(&mut self, offer: Offer) {
        self.read += 1;
        let full = self.documents.len() as u64 >= self.max_documents;
        let beyond = full && self.documents.last_key_value().is_none_or(|(last, _)| offer.key > *last);
        if offer.text.is_empty() || beyond {
            return;
        }
        self.documents.insert(offer.key, offer.text);
        if self.documents.len() as u64 > self.max_documents {
            self.documents.pop_last();
        }
    }

    /// Counts a record that could not be read.
    pub(super) fn bad(&mut self) {
        self.bad += 1;
    }

    /// Documents offered, and records that could not be read.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.read, self.bad)
    }

    /// Drops what `other` holds too; how many that were.
    pub(super) fn without(&mut self, other: &Self) -> u64 {
        let before = self.documents.len();
        self.documents.retain(|key, _| !other.documents.contains_key(key));
        (before - self.documents.len()) as u64
    }

    /// How many are kept.
    pub(super) fn len(&self) -> u64 {
        self.documents.len() as u64
    }

    /// Deals the documents out by their hashes: `held_out` of them are held out, as many validate, the rest trains; at least
    /// one is in each part while there are three.
    pub(super) fn parts(self, held_out: f64) -> Parts {
        // The upper half of a key chose the document; the lower half is independent of it.
        let mut all: Vec<Held> = self.documents.into_iter().map(|(key, text)| Held { key: key as u64, text }).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| a.text.cmp(&b.text)));
        let size = ((all.len() as f64 * held_out).round() as usize).max(1);
        let mut rest = all.into_iter();
        let held_out = rest.by_ref().take(size).collect();
        let validation = rest.by_ref().take(size).collect();
        Parts { train: rest.collect(), validation, held_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(texts: impl Iterator<Item = String>, max: u64) -> Sample {
        let mut sample = Sample::new(max);
        texts.for_each(|text| sample.offer(Offer::new(&text, u64::MAX, 7)));
        sample
    }

    #[test]
    fn a_sample_is_the_same_in_any_order_and_equal_documents_count_once() {
        let texts = |range: std::ops::Range<u32>| range.map(|i| format!("document {}", "x".repeat(i as usize)));
        let forward = sample(texts(0..200).chain(texts(0..200)), 20);
        let backward = sample(texts(0..200).collect::<Vec<_>>().into_iter().rev(), 20);
        assert_eq!(forward.documents, backward.documents);
        assert_eq!((forward.len(), forward.counts().0), (20, 400));
    }

    #[test]
    fn every_document_is_in_one_part() {
        let texts: Vec<String> = (0..100).map(|i| "y".repeat(i + 1)).collect();
        let parts = sample(texts.iter().cloned().chain(texts.iter().map(|text| text.to_uppercase())), 1000).parts(0.1);
        assert_eq!((parts.train.len(), parts.validation.len(), parts.held_out.len()), (80, 10, 10));
        let mut lengths: Vec<usize> =
            [parts.train, parts.validation, parts.held_out].iter().flatten().map(|held| held.text.len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn empty_documents_are_counted_and_not_kept() {
        let sample = sample([" \n".to_owned(), String::new()].into_iter(), 5);
        assert_eq!((sample.len(), sample.counts().0), (0, 2));
    }
}
