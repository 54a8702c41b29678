//! How good a classifier is, on documents that it was not learned from.

use serde::{Deserialize, Serialize};

use super::telling::Telling;

/// Rows of the sweep: thresholds 0.00, 0.05 to 1.00.
const STEPS: u32 = 20;

/// What is known of a classifier. Everything but `threshold` and `telling` is of the held-out documents; precision depends on
/// how many of each class there are, which in a stream of web pages is not as here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// What it was learned from and judged by.
    pub documents: Documents,
    /// Rounds of training.
    pub epochs: u32,
    /// The threshold of the best F1 on the validation documents.
    pub threshold: f64,
    /// Classification at that threshold.
    pub chosen: Row,
    /// How often a positive document scores above a negative one, equal scores counted half; 0.5 is chance.
    pub roc_auc: f64,
    /// Precision averaged over the positive documents, each taken at its own score.
    pub average_precision: f64,
    /// Classification at thresholds 0.00, 0.05 to 1.00.
    pub sweep: Vec<Row>,
    /// The n-grams that say most.
    pub telling: Telling,
}

/// The documents of both classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Documents {
    /// Of the positive class.
    pub positive: Class,
    /// Of the negative class.
    pub negative: Class,
    /// Documents of both; they count as positive alone.
    pub in_both: u64,
}

/// The documents of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Read, equal ones included.
    pub read: u64,
    /// Records that could not be read.
    pub bad: u64,
    /// That weights were learned from.
    pub trained: u64,
    /// That the end of training, the scale of scores and the threshold were chosen by.
    pub validated: u64,
    /// That the classifier is judged by.
    pub held_out: u64,
}

/// Classification at a threshold: documents that score at least so much are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Least score that is kept.
    pub threshold: f64,
    /// Positive documents that are kept.
    pub true_positive: u64,
    /// Negative documents that are kept.
    pub false_positive: u64,
    /// Positive documents that are dropped.
    pub false_negative: u64,
    /// Negative documents that are dropped.
    pub true_negative: u64,
    /// Share of the kept that are positive; none where nothing is kept.
    pub precision: Option<f64>,
    /// Share of the positive that are kept.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

/// Judges by scores of documents and whether each is positive.
pub(super) fn of(
    documents: Documents,
    epochs: u32,
    validation: &[(f32, bool)],
    held_out: &[(f32, bool)],
    telling: Telling,
) -> Evaluation {
    let threshold = best_threshold(&Ranked::new(validation));
    let ranked = Ranked::new(held_out);
    Evaluation {
        documents,
        epochs,
        threshold,
        chosen: ranked.row(threshold),
        roc_auc: ranked.roc_auc(),
        average_precision: ranked.average_precision(),
        sweep: (0..=STEPS).map(|step| ranked.row(f64::from(step) / f64::from(STEPS))).collect(),
        telling,
    }
}

/// Distinct scores, the highest first, with the positive and negative documents that have each.
struct Ranked {
    groups: Vec<(f32, u64, u64)>,
    positive: u64,
    negative: u64,
}

impl Ranked {
    fn new(scored: &[(f32, bool)]) -> Self {
        let mut sorted = scored.to_vec();
        sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut groups: Vec<(f32, u64, u64)> = Vec::new();
        for (score, positive) in sorted {
            if groups.last().is_none_or(|last| last.0 != score) {
                groups.push((score, 0, 0));
            }
            if let Some((_, positives, negatives)) = groups.last_mut() {
                *(if positive { positives } else { negatives }) += 1;
            }
        }
        let positive = groups.iter().map(|group| group.1).sum();
        let negative = groups.iter().map(|group| group.2).sum();
        Self { groups, positive, negative }
    }

    fn row(&self, threshold: f64) -> Row {
        let kept = self.groups.partition_point(|group| f64::from(group.0) >= threshold);
        let true_positive: u64 = self.groups[..kept].iter().map(|group| group.1).sum();
        let false_positive: u64 = self.groups[..kept].iter().map(|group| group.2).sum();
        let kept = true_positive + false_positive;
        Row {
            threshold,
            true_positive,
            false_positive,
            false_negative: self.positive - true_positive,
            true_negative: self.negative - false_positive,
            precision: (kept > 0).then(|| true_positive as f64 / kept as f64),
            recall: ratio(true_positive, self.positive),
            f1: ratio(2 * true_positive, kept + self.positive),
        }
    }

    fn roc_auc(&self) -> f64 {
        let mut above = 0;
        let mut won = 0.0;
        for (_, positive, negative) in &self.groups {
            won += *negative as f64 * (above as f64 + *positive as f64 / 2.0);
            above += positive;
        }
        won / (self.positive as f64 * self.negative as f64)
    }

    fn average_precision(&self) -> f64 {
        let (mut kept, mut right, mut sum) = (0, 0, 0.0);
        for (_, positive, negative) in &self.groups {
            kept += positive + negative;
            right += positive;
            sum += *positive as f64 * ratio(right, kept);
        }
        sum / self.positive as f64
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The threshold of the best F1, halfway between the last score that it keeps and the first that it drops; the highest of
/// equal ones.
fn best_threshold(ranked: &Ranked) -> f64 {
    let (mut kept, mut right) = (0, 0);
    let mut best = (0.0, 0.5);
    for (at, (score, positive, negative)) in ranked.groups.iter().enumerate() {
        kept += positive + negative;
        right += positive;
        let f1 = ratio(2 * right, kept + ranked.positive);
        if f1 > best.0 {
            let below = ranked.groups.get(at + 1).map_or(0.0, |group| f64::from(group.0));
            best = (f1, f64::midpoint(f64::from(*score), below));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_figures_of_a_known_ranking_are_those_computed_by_hand() {
        let ranked = Ranked::new(&[(0.9, true), (0.8, false), (0.7, true), (0.7, false), (0.1, false)]);
        // Pairs: 0.9 beats three; 0.7 beats one, ties with one.
        assert_eq!(ranked.roc_auc(), 4.5 / 6.0);
        // 1 of 1 at the first positive document, 2 of 4 at the second.
        assert_eq!(ranked.average_precision(), f64::midpoint(1.0, 0.5));
        let row = ranked.row(0.75);
        assert_eq!((row.true_positive, row.false_positive, row.false_negative, row.true_negative), (1, 1, 1, 2));
        assert_eq!((row.precision, row.recall, row.f1), (Some(0.5), 0.5, 0.5));
        assert_eq!(ranked.row(0.95).precision, None);
        // F1 is 2/3 from the first document alone and from the first four: the higher threshold is taken.
        assert!((best_threshold(&ranked) - 0.85).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn a_row_counts_what_counting_one_by_one_does(
            scored in prop::collection::vec((0.0_f32..=1.0, any::<bool>()), 1..50),
            step in 0_u32..=20,
        ) {
            let threshold = f64::from(step) / 20.0;
            let row = Ranked::new(&scored).row(threshold);
            let count = |kept: bool, positive: bool| {
                scored.iter().filter(|(score, is)| (f64::from(*score) >= threshold) == kept && *is == positive).count() as u64
            };
            prop_assert_eq!(
                (row.true_positive, row.false_positive, row.false_negative, row.true_negative),
                (count(true, true), count(true, false), count(false, true), count(false, false))
            );
        }

        #[test]
        fn the_area_is_the_share_of_pairs_in_the_right_order(
            scored in prop::collection::vec(((0_u8..5).prop_map(|s| f32::from(s) / 4.0), any::<bool>()), 2..40),
        ) {
            let of = |class: bool| scored.iter().filter(move |(_, is)| *is == class).map(|(score, _)| *score);
            let pairs = of(true).count() * of(false).count();
            prop_assume!(pairs > 0);
            let won: f64 = of(true)
                .flat_map(|p| of(false).map(move |n| if p > n { 1.0 } else if p == n { 0.5 } else { 0.0 }))
                .sum();
            prop_assert!((Ranked::new(&scored).roc_auc() - won / pairs as f64).abs() < 1e-12);
        }
    }
}
