//! Which n-grams tell the classes apart, so that a person sees what was learned.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::classifier::Classifier;
use super::ngrams::{Gram, each};
use super::train::Example;

/// Training documents of a class that are looked through.
const DOCUMENTS: usize = 2_000;

/// Buckets of a class whose n-grams are looked up.
const CANDIDATES: usize = 400;

/// Different n-grams of a bucket that are counted: few share one, unless someone wants them to.
const STRINGS: usize = 64;

/// N-grams named of each kind and class.
const NAMED: usize = 20;

/// The n-grams that do most to tell the classes apart, the most telling first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telling {
    /// Of words, for the positive class.
    pub positive_words: Vec<TellingGram>,
    /// Of characters, for the positive class.
    pub positive_characters: Vec<TellingGram>,
    /// Of words, for the negative class.
    pub negative_words: Vec<TellingGram>,
    /// Of characters, for the negative class.
    pub negative_characters: Vec<TellingGram>,
}

/// An n-gram that tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TellingGram {
    /// As texts are seen: ASCII letters in lower case, digits as 0, white space as one space.
    pub text: String,
    /// What it adds to the logit of a text that holds nothing else.
    pub weight: f64,
    /// How far it moves the mean logits of the two classes apart.
    pub contribution: f64,
}

/// What tells the classes of `examples` apart for a classifier.
pub(super) fn of(classifier: &Classifier, examples: &[Example<'_>]) -> Telling {
    let class = |positive: bool| -> Vec<&[u8]> {
        examples
            .iter()
            .filter(|example| example.positive == positive)
            .map(|example| example.text)
            .take(DOCUMENTS)
            .collect()
    };
    let (positive, negative) = (class(true), class(false));
    // How much more of a positive document than of a negative one falls into each bucket, on average.
    let mut surplus = vec![0.0_f32; classifier.weights.len()];
    for (texts, sign) in [(&positive, 1.0), (&negative, -1.0)] {
        for text in texts {
            let mut total = 0_u64;
            each(text, &classifier.shape, |_| total += 1);
            let share = sign / (total.max(1) as f32 * texts.len() as f32);
            each(text, &classifier.shape, |gram| surplus[gram.bucket] += share);
        }
    }
    let logit = |bucket: usize| f64::from(classifier.weights[bucket]) * classifier.slope;
    let contribution = |bucket: usize| logit(bucket) * f64::from(surplus[bucket]);
    let named = |texts: &[&[u8]], sign: i16| {
        let mut buckets: Vec<usize> = (0..surplus.len())
            .filter(|bucket| classifier.weights[*bucket].signum() == sign && contribution(*bucket) > 0.0)
            .collect();
        buckets.sort_by(|a, b| contribution(*b).total_cmp(&contribution(*a)).then(a.cmp(b)));
        buckets.truncate(CANDIDATES);
        let strings = strings(classifier, texts, &buckets);
        [true, false].map(|words| {
            let mut grams: Vec<TellingGram> = Vec::new();
            for bucket in &buckets {
                let Some((_, text)) = strings.get(bucket).filter(|(kind, _)| *kind == words) else { continue };
                if grams.len() < NAMED && (words || !grams.iter().any(|gram| overlap(&gram.text, text))) {
                    let (weight, contribution) = (logit(*bucket), contribution(*bucket));
                    grams.push(TellingGram { text: text.clone(), weight, contribution });
                }
            }
            grams
        })
    };
    let [positive_words, positive_characters] = named(&positive, 1);
    let [negative_words, negative_characters] = named(&negative, -1);
    Telling { positive_words, positive_characters, negative_words, negative_characters }
}

/// The most frequent n-gram of each of some buckets, and whether it is of words.
fn strings(classifier: &Classifier, texts: &[&[u8]], buckets: &[usize]) -> HashMap<usize, (bool, String)> {
    let mut wanted = vec![false; classifier.weights.len()];
    buckets.iter().for_each(|bucket| wanted[*bucket] = true);
    let mut counts: HashMap<usize, BTreeMap<(bool, &[u8]), u64>> = HashMap::new();
    for text in texts {
        each(text, &classifier.shape, |Gram { bucket, words, start, end }| {
            if wanted[bucket] {
                let counts = counts.entry(bucket).or_default();
                let key = (words, &text[start..end]);
                let room = counts.len() < STRINGS;
                if let Some(count) = counts.get_mut(&key) {
                    *count += 1;
                } else if room {
                    counts.insert(key, 1);
                }
            }
        });
    }
    let most = |counts: BTreeMap<(bool, &[u8]), u64>| {
        let ((words, text), _) = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))?;
        // A part of a character is nothing to show.
        Some((words, String::from_utf8(text.to_vec()).ok()?))
    };
    counts.into_iter().filter_map(|(bucket, counts)| Some((bucket, most(counts)?))).collect()
}

/// Whether two n-grams of characters are much the same place of the same words.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let length = a.len().min(b.len()).min(3);
    length > 0 && a.windows(length).any(|part| b.windows(length).any(|other| part == other))
}
