//! A histogram by powers of two as columns.

use std::fmt::Write as _;

use hephaestus_core::figures::thousands;

use super::{compact, escape, open, text};
use crate::report::histogram::Histogram;

/// Size of the picture and what lies around the columns, in SVG units.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 132.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 20.0;
/// Columns that a label below them needs at least.
const LABEL: f64 = 34.0;

/// Draws `histogram` over the range of `all`, so that several are seen side by side; `unit` is what is counted, and `class`
/// its colour.
pub(in crate::report) fn columns(histogram: &Histogram, all: &Histogram, unit: &str, class: &str) -> String {
    let range = all.rows();
    if range.is_empty() {
        return String::new();
    }
    let rows = histogram.rows();
    let count = |least: u64| rows.iter().find(|(other, _)| *other == least).map_or(0, |(_, bucket)| bucket.count);
    let most = range.iter().map(|(least, _)| count(*least)).max().unwrap_or(0).max(1);
    let step = WIDTH / range.len() as f64;
    let every = (LABEL / step).ceil().max(1.0) as usize;
    let (base, tall) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP);
    let mut out = open(WIDTH, HEIGHT, unit);
    for (at, (least, _)) in range.iter().enumerate() {
        let (count, left) = (count(*least), step * at as f64);
        let height = tall * count as f64 / most as f64;
        // What is there at all is seen.
        let height = if count > 0 { height.max(1.5) } else { 0.0 };
        let (width, top) = ((step - 2.0).clamp(1.0, 46.0), base - height);
        let x = left + (step - width) / 2.0;
        if count > 0 {
            let upper = least.saturating_mul(2).saturating_sub(1).max(*least);
            let title = escape(&format!("{} to {}: {} {unit}", thousands(*least), thousands(upper), thousands(count)));
            let _ = write!(
                out,
                r#"<rect class="{class}" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="1"><title>{title}</title></rect>"#
            );
        }
        if count == most {
            text(&mut out, (left + step / 2.0, top - 4.0), "middle", "soft", &compact(count));
        }
        if at.is_multiple_of(every) {
            text(&mut out, (left + step / 2.0, HEIGHT - 5.0), "middle", "soft", &compact(*least));
        }
    }
    let _ = write!(out, r#"<line class="axis" x1="0" y1="{base:.1}" x2="{WIDTH}" y2="{base:.1}"/>"#);
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_tall_as_their_counts_and_the_least_is_still_seen() {
        let mut histogram = Histogram::default();
        (0..1000).for_each(|_| histogram.add(5));
        histogram.add(1);
        let drawn = columns(&histogram, &histogram, "documents", "kept");
        let tall = HEIGHT - BOTTOM - TOP;
        assert!(drawn.contains(&format!("height=\"{tall:.1}\"")) && drawn.contains("height=\"1.5\""), "{drawn}");
        assert!(drawn.contains("4 to 7: 1,000 documents"), "{drawn}");
        assert_eq!(columns(&Histogram::default(), &Histogram::default(), "documents", "kept"), "");
    }
}
