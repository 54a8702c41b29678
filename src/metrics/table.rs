//! What was learned and what was forgotten: held-out losses before and after, source by source.

use super::{SourceLoss, Validation};

/// A loss has changed when it moved by so many nats: when perplexity moved by one percent.
const CHANGED: f64 = 0.01;

/// A table of the losses of each source, with a word on what became of it:
///
/// - `learned`: perplexity fell by at least one percent.
/// - `kept`: it moved less than that.
/// - `forgotten`: it rose by at least one percent, or is no number any more.
///
/// Sources stand in the order of `after`; then those that only `before` has. Every line ends with a line break.
#[must_use]
pub fn before_and_after(before: &Validation, after: &Validation) -> String {
    let find = |of: &Validation, name: &str| of.sources.iter().find(|source| source.name == name).cloned();
    let only_before = before.sources.iter().filter(|source| find(after, &source.name).is_none());
    let names = after.sources.iter().chain(only_before).map(|source| source.name.as_str());

    let header = ["source", "loss before", "after", "change", "perplexity before", "after", ""].map(str::to_owned);
    let mut rows = vec![header];
    rows.extend(names.map(|name| row(name, find(before, name).as_ref(), find(after, name).as_ref())));
    layout(&rows)
}

fn row(name: &str, before: Option<&SourceLoss>, after: Option<&SourceLoss>) -> [String; 7] {
    let loss = |of: Option<&SourceLoss>| of.map_or_else(missing, |source| format!("{:.4}", source.loss));
    let perplexity = |of: Option<&SourceLoss>| of.map_or_else(missing, |source| self::perplexity(source.perplexity()));
    let change = before.zip(after).map(|(before, after)| after.loss - before.loss);
    [
        name.to_owned(),
        loss(before),
        loss(after),
        change.map_or_else(missing, |change| format!("{change:+.4}")),
        perplexity(before),
        perplexity(after),
        change.map_or("", word).to_owned(),
    ]
}

fn word(change: f64) -> &'static str {
    if change <= -CHANGED {
        "learned"
    } else if change < CHANGED {
        "kept"
    } else {
        "forgotten"
    }
}

fn missing() -> String {
    "-".to_owned()
}

/// A perplexity to four digits or more: `8.187`, `61.77`, `1234`, `1.2e7`.
pub(super) fn perplexity(value: f64) -> String {
    match value {
        _ if !value.is_finite() => format!("{value}"),
        _ if value < 9.9995 => format!("{value:.3}"),
        _ if value < 99.995 => format!("{value:.2}"),
        _ if value < 999.95 => format!("{value:.1}"),
        _ if value < 999_999.5 => format!("{value:.0}"),
        _ => format!("{value:.1e}"),
    }
}

/// The first and last columns to the left, numbers to the right, a rule under the header.
fn layout(rows: &[[String; 7]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for column in 1..6 {
            line += &format!("   {:>width$}", row[column], width = widths[column]);
        }
        line += &format!("   {}", row[6]);
        out += line.trim_end();
        out.push('\n');
        if at == 0 {
            out += &"─".repeat(widths.iter().sum::<usize>() + 3 * 6);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validation(losses: &[(&str, f64)]) -> Validation {
        let sources = losses.iter().map(|(name, loss)| SourceLoss { name: (*name).to_owned(), loss: *loss, tokens: 1 });
        Validation { step: 0, tokens: 0, sources: sources.collect() }
    }

    #[test]
    fn the_table_says_what_was_learned_kept_and_forgotten() {
        let before = validation(&[("tool_docs", 4.1234), ("code", 2.5), ("text", 3.0), ("gone", 1.0)]);
        let after = validation(&[("tool_docs", 2.0), ("code", 2.505), ("text", 3.02), ("new", 12.5)]);
        insta::assert_snapshot!(before_and_after(&before, &after), @r"
        source      loss before     after    change   perplexity before    after
        ────────────────────────────────────────────────────────────────────────────────────
        tool_docs        4.1234    2.0000   -2.1234               61.77    7.389   learned
        code             2.5000    2.5050   +0.0050               12.18    12.24   kept
        text             3.0000    3.0200   +0.0200               20.09    20.49   forgotten
        new                   -   12.5000         -                   -   268337
        gone             1.0000         -         -               2.718        -
        ");
    }

    #[test]
    fn a_loss_that_is_no_number_is_forgotten() {
        let table = before_and_after(&validation(&[("code", 2.0)]), &validation(&[("code", f64::NAN)]));
        assert!(table.ends_with("NaN   forgotten\n"), "{table}");
    }

    #[test]
    fn perplexities_keep_four_digits_at_any_size() {
        let shown = [1.0, 8.1871, 9.9999, 61.771, 123.44, 1234.4, 268_337.0, 1e9, f64::INFINITY].map(perplexity);
        let expected = ["1.000", "8.187", "10.00", "61.77", "123.4", "1234", "268337", "1.0e9", "inf"];
        assert_eq!(shown.each_ref().map(String::as_str), expected);
    }
}
