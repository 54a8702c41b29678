//! Documents that hold a benchmark's items.
//!
//! Words are runs of letters and digits in lower case, so that punctuation, whitespace and markup hide nothing. A passage
//! of a benchmark (a question, or whatever the fields that are named hold) is known by every `ngram` words in a row of it;
//! a shorter one as a whole, if it has `min_words` words. GPT-3 was decontaminated so, with n from 8 to 13 words by the
//! length of a benchmark's examples (arXiv 2005.14165, appendix C).
//!
//! A run of words is known by a hash of 64 bits that rolls over the document: 12 bytes a run and 2 to 4 bytes of a table
//! that says of nearly all runs of a document at once that they are unknown. A million questions of 100 words take 1.4 GB,
//! BFCL's 638 questions less than a megabyte.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use hephaestus_core::settings::quantity::Share;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

mod benchmarks;

pub use benchmarks::BenchmarkError;

/// Which documents are left out because a benchmark is in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Benchmark files: JSON, JSON lines (also under the name .json) or text, of which each paragraph is an item; and
    /// folders of such.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = { "type": "string", "format": "path" }))]
    pub against: Vec<PathBuf>,
    /// Keys of a JSON record, at any depth, whose strings a document must not hold.
    pub fields: Vec<String>,
    /// Words in a row that are too many to be there by chance.
    #[schemars(range(min = 1, max = 64))]
    pub ngram: u32,
    /// Fewest words of a passage that is shorter than that, to be looked for as a whole; what is shorter still is not
    /// looked for.
    #[schemars(range(min = 1, max = 64))]
    pub min_words: u32,
    /// Share of a passage's runs of `ngram` words that a document must hold to be left out; 0 for any one of them.
    pub overlap: Share,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            against: Vec::new(),
            fields: ["question", "prompt", "instruction", "problem", "query"].map(str::to_owned).to_vec(),
            ngram: 13,
            min_words: 8,
            overlap: Share(0.0),
        }
    }
}

impl Settings {
    /// What keys owe each other: each key at fault, from here, with what is wrong.
    #[must_use]
    pub fn broken(&self) -> Vec<(&'static str, String)> {
        let mut broken = Vec::new();
        if !self.against.is_empty() && self.fields.is_empty() {
            broken.push(("fields", "is empty: name the keys of benchmark records that hold text".to_owned()));
        }
        if self.min_words > self.ngram {
            let message =
                format!("is {}, more than the {} words of ngram: there is no such passage", self.min_words, self.ngram);
            broken.push(("min_words", message));
        }
        broken
    }
}

/// What of a benchmark was found in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The benchmark: its file's name without extension.
    pub benchmark: String,
    /// The item: its record's `id`, else its line or number.
    pub item: String,
    /// The words that both have, as the document has them.
    pub ngram: String,
}

/// A benchmark file, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Benchmark {
    /// Its file's name without extension.
    pub name: String,
    /// Passages that are looked for.
    pub passages: u64,
    /// Passages of fewer words than `min_words`, which are not.
    pub short: u64,
}

/// One passage.
#[derive(Debug)]
struct Passage {
    benchmark: u32,
    item: String,
    /// Different runs that it is known by.
    runs: u32,
}

/// Finds passages of benchmarks in texts. Shared by threads.
#[derive(Debug)]
pub struct Decontaminator {
    overlap: f64,
    /// Lengths of runs that are known, in words, descending, each with the power of the base that drops what is before.
    lengths: Vec<(usize, u64)>,
    /// Hashes of known runs and their passages, ascending.
    hashes: Vec<u64>,
    passages_of: Vec<u32>,
    /// A bit for each value of the upper bits of a hash: set where a known one has them.
    maybe: Vec<u64>,
    shift: u32,
    passages: Vec<Passage>,
    benchmarks: Vec<Benchmark>,
}

/// A word's place in a text, with the hash of all words up to it.
struct Word {
    start: usize,
    end: usize,
}

const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

impl Decontaminator {
    /// Reads the benchmarks.
    ///
    /// # Errors
    /// A file cannot be read, is not JSON where it says so, or holds none of the fields.
    pub fn new(settings: &Settings) -> Result<Self, BenchmarkError> {
        let ngram = settings.ngram.clamp(1, 64) as usize;
        let mut made = Self {
            overlap: settings.overlap.0,
            lengths: Vec::new(),
            hashes: Vec::new(),
            passages_of: Vec::new(),
            maybe: Vec::new(),
            shift: 0,
            passages: Vec::new(),
            benchmarks: Vec::new(),
        };
        let mut lengths = BTreeSet::new();
        let mut known: Vec<(u64, u32)> = Vec::new();
        for file in benchmarks::files(&settings.against)? {
            let mut benchmark = Benchmark { name: benchmarks::name(&file), passages: 0, short: 0 };
            let number = made.benchmarks.len() as u32;
            for (item, text) in benchmarks::passages(&file, &settings.fields)? {
                let (words, sums) = words(&text);
                let length = words.len().min(ngram);
                if words.is_empty() || (length < ngram && length < settings.min_words as usize) {
                    benchmark.short += 1;
                    continue;
                }
                let runs: BTreeSet<u64> =
                    (0..=words.len() - length).map(|at| run(&sums, at, length, power(length))).collect();
                let passage = made.passages.len() as u32;
                lengths.insert(length);
                known.extend(runs.iter().map(|hash| (*hash, passage)));
                made.passages.push(Passage { benchmark: number, item, runs: runs.len() as u32 });
                benchmark.passages += 1;
            }
            made.benchmarks.push(benchmark);
        }
        known.sort_unstable();
        made.lengths = lengths.into_iter().rev().map(|length| (length, power(length))).collect();
        // Sixteen bits and more a run: fifteen in sixteen unknown runs need no search.
        let bits = (known.len() as u64 * 16).next_power_of_two().max(64);
        made.shift = 64 - bits.trailing_zeros();
        made.maybe = vec![0; (bits / 64) as usize];
        for (hash, _) in &known {
            let bit = hash >> made.shift;
            made.maybe[(bit / 64) as usize] |= 1 << (bit % 64);
        }
        (made.hashes, made.passages_of) = known.into_iter().unzip();
        Ok(made)
    }

    /// What was read, in the order of the settings.
    pub fn benchmarks(&self) -> &[Benchmark] {
        &self.benchmarks
    }

    /// The first passage of which the text holds as much as the settings forbid.
    pub fn find(&self, text: &str) -> Option<Hit> {
        if self.hashes.is_empty() {
            return None;
        }
        let (words, sums) = words(text);
        let mut held: HashMap<u32, BTreeSet<u64>> = HashMap::new();
        for at in 0..words.len() {
            for (length, power) in &self.lengths {
                if at + length > words.len() {
                    continue;
                }
                let hash = run(&sums, at, *length, *power);
                for passage in self.known(hash) {
                    let runs = &self.passages[*passage as usize];
                    let enough = if self.overlap > 0.0 {
                        let held = held.entry(*passage).or_default();
                        held.insert(hash);
                        held.len() as f64 >= self.overlap * f64::from(runs.runs)
                    } else {
                        true
                    };
                    if enough {
                        let ngram = text[words[at].start..words[at + length - 1].end].to_owned();
                        let benchmark = self.benchmarks[runs.benchmark as usize].name.clone();
                        return Some(Hit { benchmark, item: runs.item.clone(), ngram });
                    }
                }
            }
        }
        None
    }

    /// The passages that have a run with this hash.
    fn known(&self, hash: u64) -> &[u32] {
        let bit = hash >> self.shift;
        if self.maybe[(bit / 64) as usize] & (1 << (bit % 64)) == 0 {
            return &[];
        }
        let first = self.hashes.partition_point(|known| *known < hash);
        let count = self.hashes[first..].iter().take_while(|known| **known == hash).count();
        &self.passages_of[first..first + count]
    }
}

/// The words of a text, and the hash of all words before each and of all.
fn words(text: &str) -> (Vec<Word>, Vec<u64>) {
    let mut words = Vec::with_capacity(text.len() / 6);
    let mut sums = Vec::with_capacity(text.len() / 6 + 1);
    let mut sum = 0_u64;
    sums.push(sum);
    let mut lower = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        lower.clear();
        while let Some(byte) = bytes.get(at) {
            if byte.is_ascii_alphanumeric() {
                lower.push(byte.to_ascii_lowercase());
                at += 1;
            } else if byte.is_ascii() {
                break;
            } else {
                let Some(char) = text[at..].chars().next().filter(|char| char.is_alphanumeric()) else { break };
                for char in char.to_lowercase() {
                    lower.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                at += char.len_utf8();
            }
        }
        if at > start {
            words.push(Word { start, end: at });
            sum = sum.wrapping_mul(BASE).wrapping_add(xxh3_64(&lower));
            sums.push(sum);
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    (words, sums)
}

fn power(length: usize) -> u64 {
    BASE.wrapping_pow(length as u32)
}

/// The hash of `length` words from word `at` on.
fn run(sums: &[u64], at: usize, length: usize, power: u64) -> u64 {
    let sum = sums[at + length].wrapping_sub(sums[at].wrapping_mul(power));
    // Its upper bits choose a place in the table.
    (sum ^ (sum >> 32)).wrapping_mul(BASE) ^ length as u64
}

#[cfg(test)]
mod tests;
