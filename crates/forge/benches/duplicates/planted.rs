//! Near-duplicates whose truth is known: documents, and copies of each with some of their words edited.

use std::collections::HashSet;
use std::path::Path;

/// A document of the planted set.
pub(crate) struct Planted {
    /// Its text.
    pub(crate) text: String,
    /// The document it was made from, by number; its own for an original.
    pub(crate) original: usize,
    /// Words edited, in a hundred; nothing for an original.
    pub(crate) rate: Option<u32>,
}

/// A stream of numbers: SplitMix64.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// The next.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// The next below `most`.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

/// Shakespeare's words in documents of 60 to 600, or as many invented ones where he is absent.
pub(crate) fn originals() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/general/tinyshakespeare.txt");
    let mut numbers = Numbers(1);
    let text = fs_err::read_to_string(path).unwrap_or_else(|_| {
        // A word's rank is spread as in prose: a few are most of them.
        (0..200_000)
            .map(|_| format!("w{} ", numbers.below(20_000).min(numbers.below(20_000)).min(numbers.below(20_000))))
            .collect()
    });
    let words: Vec<&str> = text.split_whitespace().collect();
    let (mut at, mut documents) = (0, Vec::new());
    while at < words.len() {
        let end = (at + 60 + numbers.below(541)).min(words.len());
        documents.push(words[at..end].join(" "));
        at = end;
    }
    documents
}

/// The originals, then for each rate a copy of each of them with that many words in a hundred edited: half of these
/// replaced, a quarter left out, a quarter followed by another.
pub(crate) fn plant(originals: &[String], rates: &[u32]) -> Vec<Planted> {
    let mut numbers = Numbers(2);
    let vocabulary: Vec<&str> = originals.iter().flat_map(|text| text.split(' ')).collect();
    let keep = |(original, text): (usize, &String)| Planted { text: text.clone(), original, rate: None };
    let mut all: Vec<_> = originals.iter().enumerate().map(keep).collect();
    for rate in rates {
        for (original, text) in originals.iter().enumerate() {
            let mut words = Vec::new();
            for word in text.split(' ') {
                let other = vocabulary[numbers.below(vocabulary.len())];
                match (numbers.below(100) < *rate as usize, numbers.below(4)) {
                    (false, _) => words.push(word),
                    (true, 0) => {}
                    (true, 1) => words.extend([word, other]),
                    (true, _) => words.push(other),
                }
            }
            all.push(Planted { text: words.join(" "), original, rate: Some(*rate) });
        }
    }
    all
}

/// How alike two lists of words are: shingles in both of those in either.
pub(crate) fn similarity(one: &[u64], other: &[u64], words: usize) -> f64 {
    let shingles = |of: &[u64]| of.windows(words).map(<[u64]>::to_vec).collect::<HashSet<_>>();
    let (one, other) = (shingles(one), shingles(other));
    let both = one.intersection(&other).count();
    both as f64 / (one.len() + other.len() - both).max(1) as f64
}

/// The chance that two documents so alike share a band.
pub(crate) fn chance(similarity: f64, bands: u32, rows: u32) -> f64 {
    1.0 - (1.0 - similarity.powi(rows.cast_signed())).powi(bands.cast_signed())
}
