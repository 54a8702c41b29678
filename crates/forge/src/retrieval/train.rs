//! Learning: logistic regression by AdaGrad, one document at a time, then the scale of its scores.

use hephaestus_core::corpus::permutation::mix;

use super::classifier::{Classifier, probability};
use super::evaluation::{self, Class, Documents, Evaluation};
use super::ngrams::{Shape, each};
use super::sample::{Held, Parts, Sample};
use super::telling;
use super::{LEAST_DOCUMENTS, RetrievalError, Settings};

/// Rounds without a better validation loss after which training ends.
const PATIENCE: u32 = 2;

/// Where AdaGrad's sums of squares begin: a step's size is damped for n-grams that make up less than about a thousandth of
/// the text so far, so that what one document alone has is not learned at once.
const DAMPING: f32 = 1e-6;

/// L2 penalty on the weights that a document touches.
const PENALTY: f32 = 1e-7;

/// Learns from samples of the two classes.
pub(super) fn train(
    positive: Sample,
    mut negative: Sample,
    settings: &Settings,
    seed: u64,
) -> Result<(Classifier, Evaluation), RetrievalError> {
    let in_both = negative.without(&positive);
    for (class, sample) in [("positive", &positive), ("negative", &negative)] {
        if sample.len() < LEAST_DOCUMENTS {
            return Err(RetrievalError::Few { class, found: sample.len() });
        }
    }
    let counts = [positive.counts(), negative.counts()];
    let shape = Shape {
        buckets: settings.buckets.0,
        words: settings.word_ngrams,
        from: settings.char_ngrams.from,
        to: settings.char_ngrams.to,
    };
    let parts = [positive.parts(settings.held_out.0), negative.parts(settings.held_out.0)];
    let examples = |part: fn(&Parts) -> &Vec<Held>| -> Vec<Example<'_>> {
        let [positive, negative] = &parts;
        let (positive, negative) = (part(positive), part(negative));
        // Both classes weigh the same together, and a document 1 on average.
        let all = (positive.len() + negative.len()) as f32;
        let class = |held: &'_ [Held], positive| {
            let weight = all / (2.0 * held.len() as f32);
            held.iter().map(move |held| (held.key, weight, positive)).collect::<Vec<_>>()
        };
        let keys = class(positive, true).into_iter().chain(class(negative, false));
        let texts = positive.iter().chain(negative).map(|held| &*held.text);
        keys.zip(texts).map(|((key, weight, positive), text)| Example { key, text, weight, positive }).collect()
    };
    let (mut learned_from, validation) = (examples(|parts| &parts.train), examples(|parts| &parts.validation));
    let held_out = examples(|parts| &parts.held_out);

    let mut learner = Learner::new(shape, settings.learning_rate as f32);
    let mut best: Option<(f64, u32, Classifier)> = None;
    let mut rounds = 0;
    for epoch in 0..settings.epochs {
        rounds = epoch + 1;
        learned_from.sort_by_key(|example| (mix(&[seed, u64::from(epoch), example.key]), example.positive));
        learned_from.iter().for_each(|example| learner.learn(example));
        let (classifier, loss) = learner.calibrated(&validation, settings.max_bytes.0);
        if best.as_ref().is_none_or(|(least, ..)| loss < *least) {
            best = Some((loss, epoch, classifier));
        } else if best.as_ref().is_some_and(|(_, since, _)| epoch - since >= PATIENCE) {
            break;
        }
    }
    // There is at least one epoch; a loss that is no number is never the best, and then nothing was learned.
    let classifier =
        best.map_or_else(|| Learner::new(shape, 0.0).calibrated(&validation, settings.max_bytes.0).0, |best| best.2);

    let scores = |examples: &[Example<'_>]| -> Vec<(f32, bool)> {
        examples.iter().map(|example| (classifier.score_bytes(example.text), example.positive)).collect()
    };
    let class = |at: usize| Class {
        read: counts[at].0,
        bad: counts[at].1,
        trained: parts[at].train.len() as u64,
        validated: parts[at].validation.len() as u64,
        held_out: parts[at].held_out.len() as u64,
    };
    let documents = Documents { positive: class(0), negative: class(1), in_both };
    let telling = telling::of(&classifier, &learned_from);
    let evaluation = evaluation::of(documents, rounds, &scores(&validation), &scores(&held_out), telling);
    Ok((classifier, evaluation))
}

/// A document to learn from or to judge by.
pub(super) struct Example<'a> {
    key: u64,
    /// As it is seen.
    pub(super) text: &'a [u8],
    /// So that both classes weigh the same together.
    pub(super) weight: f32,
    pub(super) positive: bool,
}

/// The state of learning.
struct Learner {
    shape: Shape,
    rate: f32,
    bias: f32,
    bias_square: f32,
    /// A bucket each: its weight, and the sum of its gradients' squares.
    weights: Vec<[f32; 2]>,
    /// A bucket each: how often the document at hand has it; zero between documents.
    counts: Vec<u32>,
    /// The buckets that the document at hand has.
    touched: Vec<u32>,
}

impl Learner {
    fn new(shape: Shape, rate: f32) -> Self {
        let buckets = shape.buckets as usize;
        let weights = vec![[0.0, DAMPING]; buckets];
        Self { shape, rate, bias: 0.0, bias_square: DAMPING, weights, counts: vec![0; buckets], touched: Vec::new() }
    }

    /// One step against the gradient of the logistic loss.
    fn learn(&mut self, example: &Example<'_>) {
        let (counts, touched) = (&mut self.counts, &mut self.touched);
        let mut total = 0_u32;
        each(example.text, &self.shape, |gram| {
            let count = &mut counts[gram.bucket];
            if *count == 0 {
                touched.push(gram.bucket as u32);
            }
            *count = count.saturating_add(1);
            total = total.saturating_add(1);
        });
        let share = 1.0 / total.max(1) as f32;
        let logit = touched.iter().fold(self.bias, |sum, bucket| {
            let bucket = *bucket as usize;
            sum + self.weights[bucket][0] * counts[bucket] as f32 * share
        });
        let error = probability(f64::from(logit)) as f32 - f32::from(u8::from(example.positive));
        let error = error * example.weight;
        for bucket in touched.drain(..) {
            let bucket = bucket as usize;
            let [weight, square] = &mut self.weights[bucket];
            let gradient = error * counts[bucket] as f32 * share + PENALTY * *weight;
            *square += gradient * gradient;
            *weight -= self.rate * gradient / square.sqrt();
            counts[bucket] = 0;
        }
        self.bias_square += error * error;
        self.bias -= self.rate * error / self.bias_square.sqrt();
    }

    /// The classifier as it stands, its scores calibrated on `validation`, with its mean loss there.
    fn calibrated(&self, validation: &[Example<'_>], max_bytes: u64) -> (Classifier, f64) {
        let largest = self.weights.iter().fold(0.0_f32, |largest, [weight, _]| largest.max(weight.abs()));
        let scale = if largest > 0.0 { f32::from(i16::MAX) / largest } else { 0.0 };
        // `as` saturates, and makes 0 of what is no number.
        let weights = self.weights.iter().map(|[weight, _]| (weight * scale).round() as i16).collect();
        let mut classifier = Classifier { shape: self.shape, max_bytes, slope: 0.0, intercept: 0.0, weights };
        let means: Vec<f64> = validation.iter().map(|example| classifier.mean(example.text)).collect();
        // In units of their spread, so that Newton's steps are well conditioned.
        let spread = (means.iter().map(|mean| mean * mean).sum::<f64>() / means.len().max(1) as f64).sqrt();
        let unit = if spread > 0.0 { 1.0 / spread } else { 0.0 };
        let points: Vec<Point> = means
            .iter()
            .zip(validation)
            .map(|(mean, example)| Point {
                x: mean * unit,
                weight: f64::from(example.weight),
                positive: example.positive,
            })
            .collect();
        let (slope, intercept, loss) = platt(&points);
        (classifier.slope, classifier.intercept) = (slope * unit, intercept);
        (classifier, loss)
    }
}

/// A raw score of a known document.
struct Point {
    x: f64,
    weight: f64,
    positive: bool,
}

/// The logistic curve through points, its slope 0 at least, and its mean loss. The targets are not quite 0 and 1, so that
/// separable points have a finite slope (Platt 1999; Newton's method with halving as in Lin, Lin and Weng 2007).
fn platt(points: &[Point]) -> (f64, f64, f64) {
    let count = |positive: bool| points.iter().filter(|point| point.positive == positive).count() as f64;
    let (high, low) = ((count(true) + 1.0) / (count(true) + 2.0), 1.0 / (count(false) + 2.0));
    let total: f64 = points.iter().map(|point| point.weight).sum::<f64>().max(f64::MIN_POSITIVE);
    let target = |point: &Point| if point.positive { high } else { low };
    let loss = |slope: f64, intercept: f64| {
        let of = |point: &Point| {
            let logit = slope * point.x + intercept;
            // log(1 + exp(-logit)) + (1 - target) * logit, without overflow.
            point.weight * ((-logit.abs()).exp().ln_1p() + (-logit).max(0.0) + (1.0 - target(point)) * logit)
        };
        points.iter().map(of).sum::<f64>() / total
    };
    let (mut slope, mut intercept) = (0.0, 0.0);
    let mut least = loss(slope, intercept);
    for _ in 0..100 {
        let (mut gradient, mut hessian) = ([0.0; 2], [1e-12, 0.0, 1e-12]);
        for point in points {
            let p = probability(slope * point.x + intercept);
            let (error, curve) = (point.weight * (p - target(point)), point.weight * p * (1.0 - p));
            gradient = [gradient[0] + error * point.x, gradient[1] + error];
            hessian = [hessian[0] + curve * point.x * point.x, hessian[1] + curve * point.x, hessian[2] + curve];
        }
        let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
        let step = [
            (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant,
            (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant,
        ];
        let mut size = 1.0;
        let better = loop {
            let next = (slope - size * step[0], intercept - size * step[1]);
            let found = loss(next.0, next.1);
            if found < least {
                break Some((next, found));
            }
            size *= 0.5;
            if size < 1e-10 || found.is_nan() {
                break None;
            }
        };
        let Some((next, found)) = better else { break };
        let gained = least - found;
        ((slope, intercept), least) = (next, found);
        if gained < 1e-12 {
            break;
        }
    }
    // Raw scores that speak against their classes say nothing.
    if slope > 0.0 { (slope, intercept, least) } else { (0.0, 0.0, loss(0.0, 0.0)) }
}
