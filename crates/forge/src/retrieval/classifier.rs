//! A learned classifier: the score of a text.

use super::ngrams::{Shape, each, head};

/// Tells documents like the positive ones from others.
///
/// A text's raw score is the mean of its n-grams' weights, which are whole numbers, so that no order of summing matters;
/// `slope` and `intercept` make a probability of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    pub(super) shape: Shape,
    pub(super) max_bytes: u64,
    /// Of the raw score; 0 or more.
    pub(super) slope: f64,
    pub(super) intercept: f64,
    /// A bucket each.
    pub(super) weights: Vec<i16>,
}

impl Classifier {
    /// How likely a text is like the positive ones, if those were as frequent as the others: 0 to 1, calibrated on
    /// documents that the weights were not learned from. A text without an n-gram gets what nothing speaks for or against.
    pub fn score(&self, text: &str) -> f32 {
        self.score_bytes(text.as_bytes())
    }

    pub(super) fn score_bytes(&self, text: &[u8]) -> f32 {
        probability(self.slope * self.mean(text) + self.intercept) as f32
    }

    /// The mean of the weights of a text's n-grams; 0 where it has none.
    pub(super) fn mean(&self, text: &[u8]) -> f64 {
        let (mut sum, mut count) = (0_i64, 0_u64);
        each(head(text, self.max_bytes), &self.shape, |gram| {
            sum += i64::from(self.weights[gram.bucket]);
            count += 1;
        });
        if count == 0 { 0.0 } else { sum as f64 / count as f64 }
    }
}

/// The logistic function.
pub(super) fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
