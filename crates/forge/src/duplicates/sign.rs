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
