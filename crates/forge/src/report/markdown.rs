//! A report as Markdown: tables padded so that they are read in a terminal as well as on a forge's pages.

use std::fmt::Write as _;

use hephaestus_core::figures::{size, thousands};

use super::examples::Example;
use super::{Amount, Classifier, Report, Source};
use crate::visible::{beginning, visible};

/// Characters of an example shown here; the page shows more.
const TEXT: usize = 240;
/// Examples of each kind shown here.
const EXAMPLES: usize = 1;
/// Longest cell of a table, in characters.
const CELL: usize = 100;

/// The whole document.
pub(super) fn of(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# {}\n", words(&report.title));
    totals(report, &mut out);
    sources(report, &mut out);
    dropped(report, &mut out);
    duplicates(report, &mut out);
    benchmarks(report, &mut out);
    lengths(report, &mut out);
    providers(report, &mut out);
    for classifier in &report.classifiers {
        self::classifier(classifier, &mut out);
    }
    bad(report, &mut out);
    examples(report, &mut out);
    let _ = writeln!(out, "## Recipe\n");
    fence(&visible(report.recipe.trim_end()), "yaml", &mut out);
    out
}

fn totals(report: &Report, out: &mut String) {
    let (total, figures) = (&report.total, &report.total.figures);
    let mut table = Table::new(&["", ">"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("tokens", thousands(figures.tokens));
    row("learned", format!("{} ({})", thousands(figures.learned().round() as u64), percent(total.learned_share())));
    row("documents kept", thousands(figures.kept.documents));
    row("of documents read", thousands(figures.read.documents));
    row("text kept", size(figures.kept.bytes));
    row("of text read", size(figures.read.bytes));
    row("bytes a token", format!("{:.2}", total.bytes_a_token()));
    row("different APIs", thousands(total.apis));
    row("providers", thousands(total.providers));
    row("bad records", thousands(figures.bad.count));
    for (kind, count) in &figures.scrubbed {
        row(&format!("scrubbed: {kind}"), thousands(*count));
    }
    row("tokenizer", beginning(&report.tokenizer, 12).0.to_owned());
    table.write(out);
}

fn sources(report: &Report, out: &mut String) {
    let _ = writeln!(out, "## Sources\n");
    let heads = [
        "source",
        ">read",
        ">bad",
        ">dropped",
        ">duplicates",
        ">kept",
        ">APIs",
        ">tokens",
        ">share",
        ">bytes/token",
        ">learned",
    ];
    let mut table = Table::new(&heads);
    let all = report.total.figures.tokens.max(1) as f64;
    for source in report.sources.iter().chain([&report.total]) {
        let figures = &source.figures;
        table.row([
            source.name.clone(),
            thousands(figures.read.documents),
            thousands(figures.bad.count),
            thousands(figures.dropped_together().documents),
            thousands(source.exact.documents.saturating_add(source.near.documents)),
            thousands(figures.kept.documents),
            thousands(source.apis),
            thousands(figures.tokens),
            percent(figures.tokens as f64 / all),
            format!("{:.2}", source.bytes_a_token()),
            percent(source.learned_share()),
        ]);
    }
    table.write(out);
}

/// A row a rule, a column a source.
fn dropped(report: &Report, out: &mut String) {
    let rules = report.rules();
    if rules.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Dropped by rule\n\nDocuments, and the bytes of all sources together.\n");
    let heads: Vec<String> = report.sources.iter().map(|source| format!(">{}", source.name)).collect();
    let mut table = Table::new(
        &[&["rule"], &heads.iter().map(String::as_str).collect::<Vec<_>>()[..], &[">all", ">bytes"]].concat(),
    );
    for rule in rules {
        let amount = |source: &Source| source.figures.dropped.get(rule).map_or(Amount::default(), |found| found.amount);
        let cells = report.sources.iter().chain([&report.total]).map(|source| thousands(amount(source).documents));
        let bytes = size(amount(&report.total).bytes);
        table.row(std::iter::once(rule.to_owned()).chain(cells).chain([bytes]));
    }
    table.write(out);
}

fn duplicates(report: &Report, out: &mut String) {
    let total = &report.total;
    if total.exact.documents == 0 && total.near.documents == 0 && report.duplicates.sizes.count() == 0 {
        return;
    }
    let _ = writeln!(out, "## Duplicates\n");
    let mut table = Table::new(&["source", ">equal", ">bytes", ">nearly equal", ">bytes"]);
    for source in report.sources.iter().chain([total]) {
        let Source { exact, near, .. } = source;
        let counts = [thousands(exact.documents), size(exact.bytes), thousands(near.documents), size(near.bytes)];
        table.row(std::iter::once(source.name.clone()).chain(counts));
    }
    table.write(out);
    let mut table = Table::new(&[">documents in a group", ">groups", ">documents"]);
    let rows = report.duplicates.sizes.rows();
    for (least, bucket) in &rows {
        table.row([span(*least), thousands(bucket.count), thousands(bucket.sum)]);
    }
    table.write(out);
    let mut table = Table::new(&[">documents", "kept of the largest groups"]);
    for cluster in &report.duplicates.largest {
        table.row([thousands(cluster.documents), cluster.kept.clone()]);
    }
    table.write(out);
}

fn benchmarks(report: &Report, out: &mut String) {
    let mut table = Table::new(&["benchmark", ">documents that hold some of it"]);
    for (benchmark, documents) in &report.total.figures.benchmarks {
        table.row([benchmark.clone(), thousands(*documents)]);
    }
    if !table.rows.is_empty() {
        let _ = writeln!(out, "## Decontamination\n");
        table.write(out);
    }
}

/// A row a power of two, a column a source.
fn lengths(report: &Report, out: &mut String) {
    let rows = report.total.figures.lengths.rows();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "## Lengths\n\nDocuments kept, by their length in tokens.\n");
    let heads: Vec<String> = report.sources.iter().map(|source| format!(">{}", source.name)).collect();
    let mut table = Table::new(
        &[&[">tokens"], &heads.iter().map(String::as_str).collect::<Vec<_>>()[..], &[">all", ">share of tokens"]]
            .concat(),
    );
    let all = report.total.figures.lengths.sum().max(1) as f64;
    for (least, total) in rows {
        let count = |source: &Source| {
            let rows = source.figures.lengths.rows();
            rows.iter().find(|(other, _)| *other == least).map_or(0, |(_, bucket)| bucket.count)
        };
        let counts = report.sources.iter().map(|source| thousands(count(source)));
        let ends = [thousands(total.count), percent(total.sum as f64 / all)];
        table.row(std::iter::once(span(least)).chain(counts).chain(ends));
    }
    table.write(out);
}

fn providers(report: &Report, out: &mut String) {
    let mut table = Table::new(&["provider", ">documents"]);
    for name in &report.total.largest_providers {
        table.row([name.name.clone(), thousands(name.documents)]);
    }
    if !table.rows.is_empty() {
        let _ = writeln!(out, "## Largest providers\n");
        table.write(out);
    }
}

fn classifier(classifier: &Classifier, out: &mut String) {
    let Classifier { name, positive, negative, threshold, precision, recall, f1, auc, .. } = classifier;
    let _ = writeln!(out, "## Classifier {}\n", words(name));
    let _ = writeln!(
        out,
        "On {} held-out documents ({} to find): F1 {f1:.3} at {threshold:.2} (precision {precision:.3}, recall {recall:.3}), \
         AUC {auc:.4}.\n",
        thousands(positive.saturating_add(*negative)),
        thousands(*positive),
    );
    let mut table = Table::new(&[">threshold", ">precision", ">recall", ">F1", ">kept"]);
    for row in &classifier.sweep {
        let shares = [row.precision, row.recall, row.f1].map(|share| format!("{share:.3}"));
        table.row(std::iter::once(format!("{:.2}", row.threshold)).chain(shares).chain([percent(row.kept)]));
    }
    table.write(out);
    for (which, ngrams) in [("for", &classifier.telling_for), ("against", &classifier.telling_against)] {
        if !ngrams.is_empty() {
            let ngrams: Vec<String> = ngrams.iter().map(|ngram| format!("`{}`", code(ngram))).collect();
            let _ = writeln!(out, "Most telling {which}: {}\n", ngrams.join(", "));
        }
    }
}

fn bad(report: &Report, out: &mut String) {
    if report.total.figures.bad.count == 0 {
        return;
    }
    let _ = writeln!(out, "## Bad records\n");
    for source in &report.sources {
        let bad = &source.figures.bad;
        if bad.count == 0 {
            continue;
        }
        let shown = match bad.count.saturating_sub(bad.first.len() as u64) {
            0 => String::new(),
            _ => format!(", the first {} of them", bad.first.len()),
        };
        let _ = writeln!(out, "{}: {}{shown}\n", words(&source.name), thousands(bad.count));
        let mut table = Table::new(&["record", "what is wrong"]);
        bad.first.iter().for_each(|record| table.row([record.origin.clone(), record.reason.clone()]));
        table.write(out);
    }
}

fn examples(report: &Report, out: &mut String) {
    let _ = writeln!(out, "## Examples\n");
    for source in &report.sources {
        for example in source.figures.examples.list().iter().take(EXAMPLES) {
            let _ = writeln!(out, "Kept of {}: {}\n", words(&source.name), words(&example.origin));
            self::example(example, out);
        }
    }
    for rule in report.rules() {
        let examples = report.total.figures.dropped.get(rule).map_or(&[][..], |dropped| dropped.examples.list());
        for example in examples.iter().take(EXAMPLES) {
            let detail =
                if example.detail.is_empty() { String::new() } else { format!(" ({})", words(&example.detail)) };
            let _ = writeln!(out, "Dropped by {}{detail}: {}\n", words(rule), words(&example.origin));
            self::example(example, out);
        }
    }
}

fn example(example: &Example, out: &mut String) {
    let (text, more) = beginning(&example.text, TEXT);
    let more = if more || (text.len() as u64) < example.bytes { " …" } else { "" };
    fence(&format!("{}{more}", visible(text.trim_end())), "text", out);
}

/// A block of code, whatever is in it.
pub(super) fn fence(text: &str, language: &str, out: &mut String) {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let _ = writeln!(out, "{fence}{language}\n{text}\n{fence}\n");
}

/// Hostile words as Markdown shows them literally, on one line.
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '\n' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '[' | ']' => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    out
}

/// What stands between single backticks.
fn code(text: &str) -> String {
    visible(text).replace('`', "'").replace(['\n', '\t'], " ")
}

/// The values that a bucket holds, in words.
fn span(least: u64) -> String {
    match least {
        0 | 1 => least.to_string(),
        _ => format!("{}–{}", thousands(least), thousands(least.saturating_mul(2).saturating_sub(1))),
    }
}

/// A share as people read it.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A table whose columns line up.
struct Table {
    heads: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; `>` before a name sets a column to the right.
    fn new(heads: &[&str]) -> Self {
        let head = |head: &&str| match head.strip_prefix('>') {
            Some(name) => (words(name), true),
            None => (words(head), false),
        };
        Self { heads: heads.iter().map(head).collect(), rows: Vec::new() }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |cell: String| match beginning(&cell, CELL) {
            (start, true) => format!("{}…", words(start)),
            (whole, false) => words(whole),
        };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// Appends it, and an empty line; nothing where it has no rows.
    fn write(&self, out: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let characters = |text: &str| text.chars().count();
        let width = |(at, (head, _)): (usize, &(String, bool))| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| characters(cell));
            cells.chain([characters(head), 3]).max().unwrap_or(3)
        };
        let widths: Vec<usize> = self.heads.iter().enumerate().map(width).collect();
        let mut line = |cells: &[String]| {
            let columns = cells.iter().zip(&self.heads).zip(&widths);
            let padded = columns.map(
                |((cell, (_, right)), width)| {
                    if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            );
            let _ = writeln!(out, "| {} |", padded.collect::<Vec<_>>().join(" | "));
        };
        line(&self.heads.iter().map(|(head, _)| head.clone()).collect::<Vec<_>>());
        let rule = |((_, right), width): (&(String, bool), &usize)| {
            if *right { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(*width) }
        };
        line(&self.heads.iter().zip(&widths).map(rule).collect::<Vec<_>>());
        self.rows.iter().for_each(|row| line(row));
        out.push('\n');
    }
}
