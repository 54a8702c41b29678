//! What a classifier finds and misses, over its threshold: curves from 0 to 1 on both axes.

use std::fmt::Write as _;

use super::{open, text};
use crate::report::Classifier;
use crate::report::Sweep;

/// Size of the picture and what lies around the plot, in SVG units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 100.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Least distance between the names of two curves.
const APART: f64 = 15.0;

/// A name, a class, and what of a row it shows.
type Curve = (&'static str, &'static str, fn(&Sweep) -> f64);
const CURVES: [Curve; 4] = [
    ("precision", "c0", |row| row.precision),
    ("recall", "c1", |row| row.recall),
    ("F1", "c2", |row| row.f1),
    ("kept", "c3", |row| row.kept),
];

/// Draws a classifier's sweep.
pub(in crate::report) fn sweep(classifier: &Classifier) -> String {
    let mut out = open(WIDTH, HEIGHT, "precision, recall, F1 and share kept by threshold");
    let x = |share: f64| LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - TOP);
    for fifth in 0..=5 {
        let value = f64::from(fifth) / 5.0;
        let (across, down) = (y(value), x(value));
        let (left, right) = (x(0.0), x(1.0));
        let _ = write!(out, r#"<line class="grid" x1="{left:.1}" y1="{across:.1}" x2="{right:.1}" y2="{across:.1}"/>"#);
        text(&mut out, (LEFT - 8.0, across + 4.0), "end", "soft", &format!("{value:.1}"));
        text(&mut out, (down, HEIGHT - BOTTOM + 17.0), "middle", "soft", &format!("{value:.1}"));
    }
    text(&mut out, (x(0.5), HEIGHT - 5.0), "middle", "soft", "threshold");
    if classifier.threshold.is_finite() {
        let (at, top, base) = (x(classifier.threshold), y(1.0), y(0.0));
        let _ = write!(out, r#"<line class="mark" x1="{at:.1}" y1="{top:.1}" x2="{at:.1}" y2="{base:.1}"/>"#);
    }
    let mut names = Vec::new();
    for (name, class, value) in CURVES {
        let rows = classifier.sweep.iter().map(|row| (row.threshold, value(row)));
        let points: Vec<_> = rows.filter(|(threshold, value)| threshold.is_finite() && value.is_finite()).collect();
        let mut path = String::new();
        for (at, (threshold, value)) in points.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, x(*threshold), y(*value));
        }
        let _ = write!(out, r#"<path class="curve {class}" d="{path}"/>"#);
        names.extend(points.last().map(|(threshold, value)| (y(*value), x(*threshold), name, class)));
    }
    // Names stand where their curves end, from above, apart from each other and within the plot.
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = f64::NEG_INFINITY;
    for (at, (end, right, name, class)) in names.iter().enumerate() {
        let below = (names.len() - 1 - at) as f64 * APART;
        let place = end.max(lowest + APART).min(HEIGHT - BOTTOM - below);
        lowest = place;
        text(&mut out, (right + 8.0, place + 4.0), "start", &format!("label {class}"), name);
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_runs_through_its_rows_and_leaves_out_what_is_no_number() {
        let row = |threshold, precision| Sweep { threshold, precision, recall: 0.0, f1: 0.0, kept: 0.0 };
        let classifier = Classifier {
            name: "c".to_owned(),
            positive: 1,
            negative: 1,
            threshold: 0.5,
            precision: 1.0,
            recall: 1.0,
            f1: 1.0,
            auc: 1.0,
            sweep: vec![row(0.0, 0.0), row(0.5, f64::NAN), row(1.0, 1.0)],
            telling_for: Vec::new(),
            telling_against: Vec::new(),
        };
        let drawn = sweep(&classifier);
        assert!(drawn.contains(r#"<path class="curve c0" d="M40.0 230.0L540.0 12.0"/>"#), "{drawn}");
        assert!(!drawn.contains("NaN"));
    }
}
