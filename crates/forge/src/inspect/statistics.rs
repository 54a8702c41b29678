//! How long the documents of a corpus are.

use std::io::Write;

use hephaestus_core::corpus::Corpus;
use hephaestus_core::figures::thousands;

use super::InspectError;
use crate::report::histogram::Histogram;

/// Width of the histogram's longest bar, in columns.
const BAR: usize = 40;

/// Prints the mean, quantiles and a histogram.
pub(super) fn statistics(corpus: &Corpus, out: &mut dyn Write) -> Result<(), InspectError> {
    let mut lengths: Vec<u64> = Vec::new();
    for document in 0..corpus.documents() {
        let range = corpus.document_range(document)?;
        lengths.push(range.end - range.start);
    }
    lengths.sort_unstable();
    let (Some(least), Some(most)) = (lengths.first(), lengths.last()) else { return Ok(()) };
    let quantile = |share: f64| thousands(lengths[((lengths.len() - 1) as f64 * share).round() as usize]);
    let total: u64 = lengths.iter().sum();
    writeln!(out, "\ntokens a document")?;
    writeln!(
        out,
        "  mean {:.1}   least {}   most {}",
        total as f64 / lengths.len() as f64,
        thousands(*least),
        thousands(*most)
    )?;
    let shown = [("5 %", 0.05), ("25 %", 0.25), ("50 %", 0.5), ("75 %", 0.75), ("95 %", 0.95), ("99 %", 0.99)];
    let shown: Vec<String> = shown.iter().map(|(name, share)| format!("{name} {}", quantile(*share))).collect();
    writeln!(out, "  {}", shown.join("   "))?;
    let mut histogram = Histogram::default();
    lengths.iter().for_each(|length| histogram.add(*length));
    for line in lines(&histogram) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// A line for each power of two: documents of that length, and the share of all tokens they hold.
fn lines(histogram: &Histogram) -> Vec<String> {
    let rows = histogram.rows();
    let most = rows.iter().map(|(_, bucket)| bucket.count).max().unwrap_or(1).max(1);
    let all = histogram.sum().max(1) as f64;
    let line = |(least, bucket): &(u64, crate::report::histogram::Bucket)| {
        let eighths = (bucket.count as f64 / most as f64 * 8.0 * BAR as f64).ceil() as usize;
        let mut bar = "█".repeat(eighths / 8);
        bar.extend(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied());
        let share = 100.0 * bucket.sum as f64 / all;
        let (least, documents) = (thousands(*least) + "+", thousands(bucket.count));
        format!("{least:>11} │{bar:<BAR$}│ {documents:>9} documents, {share:4.1} % of tokens")
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_counts_by_powers_of_two() {
        let mut histogram = Histogram::default();
        [0, 1, 3, 3, 9].into_iter().for_each(|length| histogram.add(length));
        let lines = lines(&histogram);
        assert_eq!(lines.len(), 5);
        assert!(
            lines[2].contains("2+ │████████████████████████████████████████│")
                && lines[2].contains("2 documents, 37.5 %")
        );
    }
}
