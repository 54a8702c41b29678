//! A text's signature: the hash of its bytes, and hashes of bands of MinHash values of its shingles.
//!
//! The K = bands x rows MinHash values come from one hash a shingle instead of K (Dahlgaard, Knudsen and Thorup 2017, Fast
//! Similarity Sketching, FOCS, arXiv 1704.04370): in a first round every shingle is thrown into one of K bins and each bin
//! keeps its least hash; while bins are empty, another round throws all shingles again, and fills empty bins only; after K
//! rounds what is still empty takes its least over all shingles. A bin's value is then the least of a random order over
//! all shingles, as with K hash functions, for short texts as for long ones, in O(n + K log K) time. Plain one-permutation
//! hashing with densification copies values between bins instead, which makes the rows of a band depend on each other
//! exactly where texts are short.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Settings;
use super::words::words;

/// An odd number: the base of the polynomial that makes a shingle's hash of its words' hashes, and the step between
/// rounds (2^64 divided by the golden ratio).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bits of a bin's value that are a hash; the round is above them.
const HASH_BITS: u32 = 48;

/// Signs texts. What it returns depends on the settings and the text alone, for all versions with these constants.
#[derive(Clone, Debug)]
pub struct Signer {
    exact: bool,
    near: bool,
    /// Words in a shingle.
    words: usize,
    bands: usize,
    rows: usize,
}

/// A text's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// 128-bit XXH3 of the text's bytes; nothing where equal documents are not looked for.
    pub content: Option<u128>,
    /// A hash for each band; empty for texts shorter than a shingle, and where nearly equal documents are not looked for.
    pub bands: Vec<u64>,
}

impl Signer {
    /// A signer with these settings; numbers out of their range in the recipe are taken as the nearest in it.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let within = |number: u32, most: usize| (number as usize).clamp(1, most);
        Self {
            exact: settings.exact,
            near: settings.near,
            words: within(settings.words, 64),
            bands: within(settings.bands, 256),
            rows: within(settings.rows, 64),
        }
    }

    /// The signature of a text. Memory does not depend on the text.
    #[must_use]
    pub fn sign(&self, text: &str) -> Signature {
        let content = self.exact.then(|| xxh3_128(text.as_bytes()));
        let values = if self.near { self.values(text) } else { Vec::new() };
        let mut bytes = Vec::with_capacity(self.rows * 8);
        let band = |rows: &[u64]| {
            bytes.clear();
            rows.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
            xxh3_64(&bytes)
        };
        Signature { content, bands: values.chunks_exact(self.rows).map(band).collect() }
    }

    /// The MinHash values, one a bin; none where the text is shorter than a shingle.
    fn values(&self, text: &str) -> Vec<u64> {
        let mut sketch = Sketch::new(self.bands * self.rows);
        let mut last = [0_u64; 64];
        let (mut count, mut at, mut rolling) = (0_usize, 0_usize, 0_u64);
        // What the oldest word's hash has been multiplied by when it leaves.
        let leaving = STEP.wrapping_pow(self.words as u32);
        words(text, &mut |word| {
            let word = mix(word);
            rolling = rolling.wrapping_mul(STEP).wrapping_add(word).wrapping_sub(last[at].wrapping_mul(leaving));
            last[at] = word;
            at = if at + 1 == self.words { 0 } else { at + 1 };
            count += 1;
            if count >= self.words {
                sketch.add(rolling);
            }
        });
        if count < self.words { Vec::new() } else { sketch.finish() }
    }
}

/// Bins that are being filled.
struct Sketch {
    /// A bin's least value; `u64::MAX` while it is empty.
    bins: Vec<u64>,
    empty: usize,
    /// Shingles so far, for further rounds; no longer kept once no further round can be needed.
    shingles: Vec<u64>,
    /// Distinct shingles after which an empty bin is less likely than e^-30.
    enough: usize,
}

impl Sketch {
    fn new(bins: usize) -> Self {
        let enough = (bins as f64 * ((bins as f64).ln() + 30.0)) as usize;
        Self { bins: vec![u64::MAX; bins], empty: bins, shingles: Vec::new(), enough }
    }

    #[inline]
    fn add(&mut self, shingle: u64) {
        let (bin, value) = throw(shingle, 0, self.bins.len());
        if self.empty == 0 {
            self.bins[bin] = self.bins[bin].min(value);
            return;
        }
        self.put(bin, value);
        // Twice as many as are enough, so that sorting out repetitions is rare.
        if self.shingles.len() < 2 * self.enough {
            self.shingles.push(shingle);
            if self.shingles.len() == 2 * self.enough {
                self.shingles.sort_unstable();
                self.shingles.dedup();
                if self.shingles.len() > self.enough {
                    self.shingles.resize(2 * self.enough, 0);
                }
            }
        }
    }

    fn put(&mut self, bin: usize, value: u64) {
        let held = &mut self.bins[bin];
        self.empty -= usize::from(*held == u64::MAX);
        *held = (*held).min(value);
    }

    /// Further rounds, until no bin is empty.
    fn finish(mut self) -> Vec<u64> {
        let bins = self.bins.len();
        if self.empty == 0 || self.shingles.len() == 2 * self.enough {
            return self.bins;
        }
        self.shingles.sort_unstable();
        self.shingles.dedup();
        let shingles = std::mem::take(&mut self.shingles);
        for round in 1..bins as u64 {
            for shingle in &shingles {
                let (bin, value) = throw(*shingle, round, bins);
                // The round is above the hash: what an earlier round put there is less.
                self.put(bin, value);
            }
            if self.empty == 0 {
                return self.bins;
            }
        }
        for bin in 0..bins {
            let value = shingles.iter().map(|shingle| throw(*shingle, (bins + bin) as u64, bins).1).min();
            self.put(bin, value.unwrap_or(u64::MAX));
        }
        self.bins
    }
}

/// The bin that a shingle is thrown into in a round, and its value there.
#[inline]
fn throw(shingle: u64, round: u64, bins: usize) -> (usize, u64) {
    let hash = mix(shingle.wrapping_add(round.wrapping_mul(STEP)));
    // The bin takes the highest bits, the value the lowest.
    let bin = ((hash >> 32) * bins as u64) >> 32;
    (bin as usize, round << HASH_BITS | hash & ((1 << HASH_BITS) - 1))
}

/// SplitMix64's finalizer (Steele, Lea and Flood 2014; constants by Stafford): a bijection in which every bit depends on all.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(words: u32, bands: u32, rows: u32) -> Signer {
        Signer::new(&Settings { exact: true, near: true, words, bands, rows })
    }

    /// Values of a set of numbers.
    fn sketch(shingles: impl Iterator<Item = u64>, bins: usize) -> Vec<u64> {
        let mut sketch = Sketch::new(bins);
        shingles.for_each(|shingle| sketch.add(mix(shingle)));
        sketch.finish()
    }

    #[test]
    fn values_agree_as_often_as_the_sets_are_alike_for_few_shingles_as_for_many() {
        const BINS: usize = 112;
        for size in [1_u64, 3, 20, 100, 1_000, 20_000] {
            for (shared, alone) in [(4 * size, size), (size, size), (size, 4 * size)] {
                let trials = (40_000 / (shared + alone)).clamp(4, 400);
                let mut equal = 0;
                for trial in 0..trials {
                    let from = trial << 32;
                    let one = sketch((from..from + shared).chain(from + (1 << 24)..from + (1 << 24) + alone), BINS);
                    let other = sketch((from..from + shared).chain(from + (2 << 24)..from + (2 << 24) + alone), BINS);
                    assert!(!one.contains(&u64::MAX));
                    equal += one.iter().zip(&other).filter(|(a, b)| a == b).count();
                }
                let (all, alike) = ((trials as usize * BINS) as f64, shared as f64 / (shared + 2 * alone) as f64);
                // Four standard deviations of independent bins, and half as much again: those of one sketch are not quite.
                let off = (equal as f64 / all - alike).abs();
                let bound = 6.0 * (alike * (1.0 - alike) / all).sqrt();
                assert!(off < bound, "{shared} shared, {alone} alone: off by {off:.4}, bound {bound:.4}");
            }
        }
    }

    #[test]
    fn repetition_and_order_of_shingles_do_not_count() {
        let once = sketch(0..50, 64);
        assert_eq!(sketch((0..50).rev().cycle().take(1_000_000), 64), once);
        assert_ne!(sketch(0..51, 64), once);
    }

    #[test]
    fn a_text_shorter_than_a_shingle_has_no_bands_and_switches_leave_out_their_parts() {
        let signer = signer(5, 14, 8);
        assert!(signer.sign("one two three four").bands.is_empty());
        assert_eq!(signer.sign("one two three four five").bands.len(), 14);
        let both = signer.sign("One, two, three: four (five)!");
        assert_eq!(both.bands, signer.sign("one two three four five").bands);
        assert_ne!(both.content, signer.sign("one two three four five").content);
        let near = Signer::new(&Settings { exact: false, ..Settings::default() }).sign("one two three four five");
        assert_eq!(near, Signature { content: None, bands: both.bands });
        let exact = Signer::new(&Settings { near: false, ..Settings::default() }).sign("one two three four five");
        assert!(exact.bands.is_empty() && exact.content.is_some());
    }

    #[test]
    fn signatures_are_the_same_on_every_machine_and_in_every_version() {
        let signature = signer(2, 2, 2).sign("It was the best of times, it was the worst of times");
        assert_eq!(signature.content, Some(56550403636739837408557154079017659728));
        assert_eq!(signature.bands, [10438707785243980498, 6528871528661225668]);
    }
}
