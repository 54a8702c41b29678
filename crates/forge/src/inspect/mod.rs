//! A corpus back as text, and what it looks like in numbers.

use std::io::Write;
use std::path::{Path, PathBuf};

use hephaestus_core::corpus::{Corpus, CorpusError};
use hephaestus_core::figures::{size, thousands};
use hephaestus_core::vocabulary::{Vocabulary, VocabularyError};

/// Token ids shown of a document when there is no tokenizer to decode them.
const IDS: usize = 64;
/// Width of the histogram's longest bar, in columns.
const BAR: usize = 40;

/// Which documents to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first so many.
    First(u64),
    /// This one, counted from 0.
    One(u64),
    /// So many, drawn with this seed.
    Sample {
        /// How many.
        count: u64,
        /// The seed.
        seed: u64,
    },
}

/// What to show.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The corpus' path without extension.
    pub prefix: PathBuf,
    /// Decodes the tokens; ids are printed without it.
    pub tokenizer: Option<PathBuf>,
    /// Which documents to print.
    pub documents: Choice,
    /// Whether to print statistics.
    pub statistics: bool,
}

/// Why a corpus cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The corpus.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The tokenizer.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// A document that is not there.
    #[error("--document {asked}: {} has {documents} documents, numbered from 0", prefix.display())]
    NoDocument {
        /// As asked.
        asked: u64,
        /// The corpus.
        prefix: PathBuf,
        /// How many there are.
        documents: u64,
    },
    /// A tokenizer other than the one the corpus was made with.
    #[error("{}: another tokenizer than the one {} was made with ({found} here, {expected} there, SHA-256 of tokenizer.json)", tokenizer.display(), prefix.display())]
    OtherTokenizer {
        /// The tokenizer given.
        tokenizer: PathBuf,
        /// The corpus.
        prefix: PathBuf,
        /// The tokenizer's fingerprint, shortened.
        found: String,
        /// The corpus' fingerprint, shortened.
        expected: String,
    },
    /// Tokens that do not decode.
    #[error("document {document}: {reason}")]
    Decode {
        /// The document.
        document: u64,
        /// What the tokenizer says.
        reason: String,
    },
    /// The output.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Prints a corpus to `out`.
pub fn inspect(settings: &Settings, out: &mut dyn Write) -> Result<(), InspectError> {
    let corpus = Corpus::open(&settings.prefix)?;
    let vocabulary = settings.tokenizer.as_deref().map(|path| decoder(path, &corpus, &settings.prefix)).transpose()?;
    let chosen = choose(settings, corpus.documents())?;
    summary(&corpus, &settings.prefix, out)?;
    if settings.statistics {
        statistics(&corpus, out)?;
    }
    for document in chosen {
        print(&corpus, document, vocabulary.as_ref(), out)?;
    }
    Ok(())
}

fn decoder(path: &Path, corpus: &Corpus, prefix: &Path) -> Result<Vocabulary, InspectError> {
    let vocabulary = Vocabulary::load(path)?;
    match corpus.manifest() {
        Some(manifest) if !manifest.tokenizer.is_empty() && manifest.tokenizer != vocabulary.fingerprint => {
            let short = |fingerprint: &str| fingerprint.chars().take(12).collect();
            Err(InspectError::OtherTokenizer {
                tokenizer: path.to_owned(),
                prefix: prefix.to_owned(),
                found: short(&vocabulary.fingerprint),
                expected: short(&manifest.tokenizer),
            })
        }
        _ => Ok(vocabulary),
    }
}

fn choose(settings: &Settings, documents: u64) -> Result<Vec<u64>, InspectError> {
    match settings.documents {
        Choice::First(count) => Ok((0..documents.min(count)).collect()),
        Choice::One(asked) if asked >= documents => {
            Err(InspectError::NoDocument { asked, prefix: settings.prefix.clone(), documents })
        }
        Choice::One(asked) => Ok(vec![asked]),
        Choice::Sample { count, seed } => Ok(sample(documents, count, seed)),
    }
}

/// `count` different numbers below `documents`, sorted (Floyd's algorithm).
fn sample(documents: u64, count: u64, seed: u64) -> Vec<u64> {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut chosen = std::collections::BTreeSet::new();
    for last in documents.saturating_sub(count)..documents {
        let drawn = random.random_range(0..=last);
        chosen.insert(if chosen.contains(&drawn) { last } else { drawn });
    }
    chosen.into_iter().collect()
}

fn summary(corpus: &Corpus, prefix: &Path, out: &mut dyn Write) -> Result<(), InspectError> {
    writeln!(out, "corpus      {}", prefix.display())?;
    if let Some(manifest) = corpus.manifest() {
        writeln!(out, "source      {}", manifest.source)?;
        let tokenizer: String = manifest.tokenizer.chars().take(12).collect();
        writeln!(out, "vocabulary  {} tokens, tokenizer {tokenizer}", thousands(u64::from(manifest.vocab_size)))?;
    }
    let width = corpus.token_size();
    let bytes = size(corpus.tokens() * width);
    writeln!(out, "tokens      {} ({bytes}, {width} bytes each)", thousands(corpus.tokens()))?;
    writeln!(out, "documents   {}", thousands(corpus.documents()))?;
    Ok(())
}

fn statistics(corpus: &Corpus, out: &mut dyn Write) -> Result<(), InspectError> {
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
    for line in histogram(&lengths) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// A line for each power of two: documents of that length, and the share of all tokens they hold.
fn histogram(lengths: &[u64]) -> Vec<String> {
    let bucket = |length: u64| if length == 0 { 0 } else { length.ilog2() as usize + 1 };
    let mut buckets = [(0_u64, 0_u64); 65];
    for length in lengths {
        let (documents, tokens) = &mut buckets[bucket(*length)];
        *documents += 1;
        *tokens += length;
    }
    let used = |(documents, _): &(u64, u64)| *documents > 0;
    let (Some(first), Some(last)) = (buckets.iter().position(used), buckets.iter().rposition(used)) else {
        return Vec::new();
    };
    let most = buckets.iter().map(|(documents, _)| *documents).max().unwrap_or(1).max(1);
    let all = buckets.iter().map(|(_, tokens)| *tokens).sum::<u64>().max(1);
    let row = |(at, (documents, tokens)): (usize, &(u64, u64))| {
        let from = if at == 0 { 0 } else { 1_u64 << (at - 1) };
        let eighths = (documents * BAR as u64 * 8).div_ceil(most) as usize;
        let mut bar = "█".repeat(eighths / 8);
        bar.extend(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied());
        let share = 100.0 * *tokens as f64 / all as f64;
        format!(
            "{:>11} │{bar:<BAR$}│ {:>9} documents, {share:4.1} % of tokens",
            thousands(from) + "+",
            thousands(*documents)
        )
    };
    buckets.iter().enumerate().skip(first).take(last - first + 1).map(row).collect()
}

fn print(
    corpus: &Corpus,
    document: u64,
    vocabulary: Option<&Vocabulary>,
    out: &mut dyn Write,
) -> Result<(), InspectError> {
    let mut tokens: Vec<i64> = Vec::new();
    corpus.read(corpus.document_range(document)?, &mut tokens)?;
    let title = format!("── document {document} · {} tokens ", thousands(tokens.len() as u64));
    writeln!(out, "\n{title:─<100}")?;
    match vocabulary {
        Some(vocabulary) => {
            let ids: Vec<u32> = tokens.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)).collect();
            let text = vocabulary.tokenizer.decode(&ids, false);
            let text = text.map_err(|error| InspectError::Decode { document, reason: error.to_string() })?;
            writeln!(out, "{}", text.trim_end_matches('\n'))?;
        }
        None => {
            let shown: Vec<String> = tokens.iter().take(IDS).map(i64::to_string).collect();
            let more = if tokens.len() > IDS { " …" } else { "" };
            writeln!(out, "{}{more}", shown.join(" "))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_different_documents_and_follows_its_seed() {
        let drawn = sample(1000, 10, 7);
        assert_eq!(drawn.len(), 10);
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn.iter().all(|document| *document < 1000));
        assert_eq!(drawn, sample(1000, 10, 7));
        assert_ne!(drawn, sample(1000, 10, 8));
        assert_eq!(sample(3, 10, 7), [0, 1, 2]);
    }

    #[test]
    fn the_histogram_counts_by_powers_of_two() {
        let lines = histogram(&[0, 1, 3, 3, 9]);
        assert_eq!(lines.len(), 5);
        assert!(
            lines[2].contains("2+ │████████████████████████████████████████│")
                && lines[2].contains("2 documents, 37.5 %")
        );
    }
}
