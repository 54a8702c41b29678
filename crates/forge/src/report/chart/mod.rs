//! The page's charts as SVG. Colours are classes: the page's style sheet says what they are in light and in dark.

mod columns;
mod flow;
mod sweep;

use std::fmt::Write as _;

use hephaestus_core::figures::{size, thousands};
use serde::Serialize;

pub(super) use columns::columns;
pub(super) use flow::flow;
pub(super) use sweep::sweep;

use super::{Amount, Report, Source};
use crate::visible::{beginning, visible};

/// Rules with a colour of their own; the others share one.
const COLOURS: usize = 6;

/// What became of documents: kept, or dropped and why.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// In words.
    pub(super) name: String,
    /// Its colour's class.
    pub(super) class: String,
    /// How much, a source.
    pub(super) amounts: Vec<Amount>,
}

/// What became of the documents of each source. What most came to comes first, after what was kept.
pub(super) fn outcomes(report: &Report) -> Vec<Outcome> {
    let each = |amount: &dyn Fn(&Source) -> Amount| report.sources.iter().map(amount).collect::<Vec<_>>();
    let outcome =
        |name: &str, class: &str, amounts| Outcome { name: name.to_owned(), class: class.to_owned(), amounts };
    let mut outcomes = vec![outcome("kept", "kept", each(&|source| source.figures.kept))];
    let rules = report.rules();
    let by = |source: &Source, rule: &str| source.figures.dropped.get(rule).map_or(Amount::default(), |d| d.amount);
    for (at, rule) in rules.iter().take(COLOURS).enumerate() {
        outcomes.push(outcome(rule, &format!("d{at}"), each(&|source| by(source, rule))));
    }
    if let Some(others) = rules.get(COLOURS..).filter(|others| !others.is_empty()) {
        let together = |source: &Source| {
            let mut amount = Amount::default();
            others.iter().for_each(|rule| amount.merge(by(source, rule)));
            amount
        };
        outcomes.push(outcome("other rules", "other", each(&together)));
    }
    outcomes.push(outcome("equal documents", "exact", each(&|source| source.exact)));
    outcomes.push(outcome("nearly equal documents", "near", each(&|source| source.near)));
    outcomes.retain(|outcome| outcome.class == "kept" || outcome.amounts.iter().any(|amount| amount.documents > 0));
    outcomes
}

/// A bar as wide as the page lets it be, cut into shares of `whole`; each part has a class, a value and words.
pub(super) fn bar(parts: &[(&str, f64, String)], whole: f64) -> String {
    let mut out =
        String::from(r#"<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">"#);
    let mut left = 0.0;
    for (class, value, title) in parts {
        let width = share(*value, whole) * 1000.0;
        if width > 0.0 {
            let title = escape(title);
            let _ = write!(
                out,
                r#"<rect class="{class}" x="{left:.2}" width="{width:.2}" height="10"><title>{title}</title></rect>"#
            );
        }
        left += width;
    }
    out + "</svg>"
}

/// What became of one source's documents, as a bar.
pub(super) fn fate(outcomes: &[Outcome], source: usize) -> String {
    let amount = |outcome: &Outcome| outcome.amounts.get(source).copied().unwrap_or_default();
    let whole: f64 = outcomes.iter().map(|outcome| amount(outcome).documents as f64).sum();
    let parts: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let Amount { documents, bytes } = amount(outcome);
            let title = format!("{}: {} documents, {}", outcome.name, thousands(documents), size(bytes));
            (outcome.class.as_str(), documents as f64, title)
        })
        .collect();
    bar(&parts, whole)
}

/// A source's tokens among those of the largest, learned and not.
pub(super) fn tokens(source: &Source, most: u64) -> String {
    let (tokens, learned) = (source.figures.tokens as f64, source.figures.learned().min(source.figures.tokens as f64));
    let words = |what: &str, count: f64| format!("{} tokens {what}", thousands(count.round() as u64));
    let parts = [
        ("kept", learned, words("learned", learned)),
        ("unlearned", tokens - learned, words("only read", tokens - learned)),
    ];
    bar(&parts, most as f64)
}

/// `part` of `whole`, from 0 to 1 whatever they are.
fn share(part: f64, whole: f64) -> f64 {
    let share = part / whole;
    if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
}

/// Opens a chart of this size, which says `label` to those who cannot see it.
fn open(width: f64, height: f64, label: &str) -> String {
    format!(r#"<svg class="chart" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="{}">"#, escape(label))
}

/// Words at a place: `start`, `middle` or `end` of them there.
fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
    let text = escape(text);
    let _ = write!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

/// At most so many characters of a name.
fn short(name: &str, characters: usize) -> String {
    match beginning(name, characters) {
        (start, true) => format!("{start}…"),
        (whole, false) => whole.to_owned(),
    }
}

/// A count in at most four characters: `640`, `1.2k`, `35M`.
fn compact(count: u64) -> String {
    let (value, unit) = scaled(count);
    let decimals = usize::from(!unit.is_empty() && value < 9.95 && (value * 10.0).round() % 10.0 != 0.0);
    format!("{value:.decimals$}{unit}")
}

/// A count to three digits where it is a million or more: `347,624`, `35.1M`, `104B`.
pub(super) fn rounded(count: u64) -> String {
    if count < 1_000_000 {
        return thousands(count);
    }
    let (value, unit) = scaled(count);
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$}{unit}")
}

/// A count in thousands, millions and so on, whichever makes it one to three digits, and the letter for it.
fn scaled(count: u64) -> (f64, &'static str) {
    let units = [(1e0, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T")];
    let fits = units.into_iter().find(|(unit, _)| (count as f64) / unit < 999.5);
    let (unit, letter) = fits.unwrap_or((1e12, "T"));
    (count as f64 / unit, letter)
}

/// Hostile words as they may stand in SVG.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        let counts = [0, 999, 1_000, 1_250, 12_345, 999_499, 999_500, 1_048_576, 103_000_000_000];
        assert_eq!(counts.map(compact), ["0", "999", "1k", "1.2k", "12k", "999k", "1M", "1M", "103B"]);
        let counts = [0, 347_624, 1_000_000, 35_149_999, 103_732_371_147, u64::MAX];
        assert_eq!(counts.map(rounded), ["0", "347,624", "1.00M", "35.1M", "104B", "18446744T"]);
    }

    #[test]
    fn a_bar_is_cut_by_shares_and_nothing_makes_it_other_than_numbers() {
        let drawn = bar(&[("kept", 1.0, "<a>".to_owned()), ("d0", 3.0, String::new())], 4.0);
        assert!(drawn.contains(r#"class="kept" x="0.00" width="250.00""#) && drawn.contains("&lt;a&gt;"), "{drawn}");
        assert!(drawn.contains(r#"class="d0" x="250.00" width="750.00""#), "{drawn}");
        for whole in [0.0, f64::NAN] {
            assert!(!bar(&[("kept", 0.0, String::new())], whole).contains("rect"));
        }
    }
}
