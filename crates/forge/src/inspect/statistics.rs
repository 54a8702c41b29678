//! How long the documents of a corpus are.

use std::io::Write;

use hephaestus_core::corpus::Corpus;
use hephaestus_core::figures::thousands;

use super::InspectError;
use crate::report::histogram::Histogram;

/// Width of the histogram's longest bar, in columns.
const BAR: usize = 40;
/// Loss weights read together.
const AT_ONCE: usize = 1 << 20;

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
    if corpus.has_weights() { learned(corpus, out) } else { Ok(()) }
}

/// Prints how many tokens are learned, how many in part, how many not.
fn learned(corpus: &Corpus, out: &mut dyn Write) -> Result<(), InspectError> {
    let (mut whole, mut part, mut sum, mut weights) = (0_u64, 0_u64, 0.0, Vec::new());
    for start in (0..corpus.tokens()).step_by(AT_ONCE) {
        weights.clear();
        corpus.read_weights(start..(start + AT_ONCE as u64).min(corpus.tokens()), &mut weights)?;
        for weight in &weights {
            whole += u64::from(*weight >= 1.0);
            part += u64::from(*weight > 0.0 && *weight < 1.0);
            sum += f64::from(*weight);
        }
    }
    let all = corpus.tokens();
    let share = |count: f64| format!("{:.1} %", 100.0 * count / all.max(1) as f64);
    writeln!(out, "\ntokens learned")?;
    let [not, part, whole] = [all - whole - part, part, whole].map(|count| share(count as f64));
    writeln!(out, "  whole {whole}   in part {part}   not {not}   loss weights together {}", share(sum))?;
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
