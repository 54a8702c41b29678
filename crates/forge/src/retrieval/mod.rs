//! A linear classifier over hashed n-grams that finds documents like given ones in a stream.
//!
//! In the manner of fastText (arXiv 1607.01759): a document is the mean of its features, which are n-grams of words and of
//! characters hashed into buckets. With two classes and no hidden layer, a bucket needs one number, and to score a
//! document is to add those up. In reading order: `ngrams` are the features; `sample` bounds what is learned from and
//! deals it into parts; `train` learns; `classifier` scores, `file` keeps it; `evaluation` judges it, and
//! `telling` shows what it learned.

mod classifier;
mod evaluation;
mod file;
mod ngrams;
mod sample;
mod telling;
#[cfg(test)]
mod tests;
mod train;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hephaestus_core::settings::quantity::{Count, Share};
use rayon::iter::{ParallelBridge, ParallelIterator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use classifier::Classifier;
pub use evaluation::{Class, Documents, Evaluation, Row};
pub use telling::{Telling, TellingGram};

use crate::document::{Content, Document};
use crate::readers::{InputError, Reader};
use crate::recipe::Input;
use sample::{Offer, Sample};

/// Buckets there are at most: weights of 512 MiB.
const MAX_BUCKETS: u64 = 1 << 28;

/// Documents of a class there are at least, so that each part has some.
const LEAST_DOCUMENTS: u64 = 10;

/// A classifier: what to find, among what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Documents such as are to be found.
    pub positive: Vec<Input>,
    /// Documents such as are not.
    pub negative: Vec<Input>,
    /// Numbers that n-grams are hashed to, 1 to 268,435,456; two bytes of the model each.
    #[serde(default = "buckets")]
    pub buckets: Count,
    /// Words of the longest n-gram of words, 0 to 4; none where 0.
    #[serde(default = "word_ngrams")]
    pub word_ngrams: u32,
    /// Lengths of the n-grams of characters.
    #[serde(default)]
    pub char_ngrams: Lengths,
    /// Rounds over the training documents at most; training ends earlier when the validation documents say so.
    #[serde(default = "epochs")]
    pub epochs: u32,
    /// Size of a step, above 0.
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    /// Share of the documents that are held out to judge by; as many more validate. Above 0 and 0.4 at most.
    #[serde(default = "held_out")]
    pub held_out: Share,
    /// Documents of a class that are used at most, drawn by their hash.
    #[serde(default = "max_documents")]
    pub max_documents: Count,
    /// Bytes of a document that are looked at, from its beginning.
    #[serde(default = "max_bytes")]
    pub max_bytes: Count,
}

/// Lengths of n-grams of characters, in bytes of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lengths {
    /// The shortest, from 1.
    pub from: u32,
    /// The longest, up to 8.
    pub to: u32,
}

impl Default for Lengths {
    fn default() -> Self {
        Self { from: 3, to: 5 }
    }
}

fn buckets() -> Count {
    Count(1 << 20)
}

fn word_ngrams() -> u32 {
    2
}

fn epochs() -> u32 {
    10
}

fn learning_rate() -> f64 {
    0.5
}

fn held_out() -> Share {
    Share(0.1)
}

fn max_documents() -> Count {
    Count(20_000)
}

fn max_bytes() -> Count {
    Count(16_000)
}

impl Settings {
    /// A classifier between documents of these inputs, everything else as usual.
    #[must_use]
    pub fn new(positive: Vec<Input>, negative: Vec<Input>) -> Self {
        Self {
            positive,
            negative,
            buckets: buckets(),
            word_ngrams: word_ngrams(),
            char_ngrams: Lengths::default(),
            epochs: epochs(),
            learning_rate: learning_rate(),
            held_out: held_out(),
            max_documents: max_documents(),
            max_bytes: max_bytes(),
        }
    }

    /// What is wrong with its numbers: keys, relative to it, and why.
    pub fn broken(&self) -> Vec<(&'static str, String)> {
        let Lengths { from, to } = self.char_ngrams;
        let rate = self.learning_rate;
        let checks = [
            (
                "buckets",
                (1..=MAX_BUCKETS).contains(&self.buckets.0),
                format!("is {}: expected 1 to {MAX_BUCKETS}", self.buckets),
            ),
            (
                "word_ngrams",
                self.word_ngrams <= ngrams::MAX_WORDS,
                format!("is {}: expected 0 to {}", self.word_ngrams, ngrams::MAX_WORDS),
            ),
            (
                "char_ngrams",
                (1..=to).contains(&from) && to <= ngrams::MAX_CHARACTERS,
                format!(
                    "goes from {from} to {to}: expected lengths from 1 to {}, the shortest first",
                    ngrams::MAX_CHARACTERS
                ),
            ),
            ("epochs", self.epochs > 0, "is 0: there is at least one".to_owned()),
            ("learning_rate", rate > 0.0 && rate.is_finite(), format!("is {rate}: expected a number above 0")),
            (
                "held_out",
                self.held_out.0 > 0.0 && self.held_out.0 <= 0.4,
                format!("is {}: expected a share above 0 and 0.4 at most, as just as much validates", self.held_out),
            ),
            (
                "max_documents",
                self.max_documents.0 >= LEAST_DOCUMENTS,
                format!("is {}: expected {LEAST_DOCUMENTS} at least", self.max_documents),
            ),
            ("max_bytes", self.max_bytes.0 > 0, "is 0: nothing would be looked at".to_owned()),
        ];
        checks.into_iter().filter(|(_, holds, _)| !holds).map(|(key, _, why)| (key, why)).collect()
    }
}

/// Why there is no classifier.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// A setting is out of its range.
    #[error("{key} {why}")]
    Settings {
        /// Its key.
        key: &'static str,
        /// What it is and what was expected.
        why: String,
    },
    /// An input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A class has too few documents to learn from and to judge by.
    #[error(
        "{found} different {class} documents: at least {LEAST_DOCUMENTS} are needed, to learn from and to judge by"
    )]
    Few {
        /// `positive` or `negative`.
        class: &'static str,
        /// How many there are.
        found: u64,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// A file is not a classifier that this program can use.
    #[error("{}: {why}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        why: String,
    },
}

impl Classifier {
    /// Learns to tell `positive` texts from `negative` ones, and judges the result on texts held out. The same texts in any
    /// order, the same settings and seed give the same classifier. Memory: the texts that are used
    /// (`max_documents` of `max_bytes` for each class) and 22 bytes a bucket.
    ///
    /// # Errors
    /// Settings out of their ranges, or too few different texts in a class.
    pub fn train(
        positive: impl Iterator<Item = String>,
        negative: impl Iterator<Item = String>,
        settings: &Settings,
        seed: u64,
    ) -> Result<(Self, Evaluation), RetrievalError> {
        check(settings)?;
        let sample = |texts: &mut dyn Iterator<Item = String>| {
            let mut sample = Sample::new(settings.max_documents.0);
            texts.for_each(|text| sample.offer(Offer::new(&text, settings.max_bytes.0, seed)));
            sample
        };
        let (mut positive, mut negative) = (positive, negative);
        train::train(sample(&mut positive), sample(&mut negative), settings, seed)
    }
}

/// Learns a classifier from its inputs. Records that cannot be read are counted in the evaluation and left out.
///
/// # Errors
/// As [`Classifier::train`], or an input that cannot be read at all.
pub fn train_from(settings: &Settings, seed: u64) -> Result<(Classifier, Evaluation), RetrievalError> {
    check(settings)?;
    let positive = read(&settings.positive, settings, seed)?;
    let negative = read(&settings.negative, settings, seed)?;
    train::train(positive, negative, settings, seed)
}

fn check(settings: &Settings) -> Result<(), RetrievalError> {
    match settings.broken().into_iter().next() {
        Some((key, why)) => Err(RetrievalError::Settings { key, why }),
        None => Ok(()),
    }
}

/// The text of a document that a classifier is to see, in learning and in scoring: all that it says, without the markup that
/// templates and chat formats put around it. By that markup the positive documents, which are rendered, would be told from
/// others at a glance, and nothing like them found in the wild, where it is not.
pub fn plain(mut document: Document) -> String {
    if let Content::Text(text) = document.content {
        return text;
    }
    let mut all = String::new();
    document.each_string(&mut |text| {
        if !text.is_empty() {
            all.push_str(text);
            all.push('\n');
        }
    });
    all
}

/// A sample of the documents of some inputs, read by all threads: no order matters to it.
fn read(inputs: &[Input], settings: &Settings, seed: u64) -> Result<Sample, RetrievalError> {
    let sample = Mutex::new(Sample::new(settings.max_documents.0));
    // A thread that panicked with the lock left a whole sample behind.
    let lock = || sample.lock().unwrap_or_else(PoisonError::into_inner);
    for input in inputs {
        let reader = Reader::new(input.clone());
        let slices = reader.list()?.slices();
        reader.units(&slices).par_bridge().for_each(|unit| {
            let documents = unit.map_or_else(|bad| vec![Err(bad)], |unit| reader.documents(&unit));
            for document in documents {
                match document {
                    Ok(document) => {
                        let offer = Offer::new(&plain(document), settings.max_bytes.0, seed);
                        lock().offer(offer);
                    }
                    Err(_) => lock().bad(),
                }
            }
        });
    }
    Ok(sample.into_inner().unwrap_or_else(PoisonError::into_inner))
}
