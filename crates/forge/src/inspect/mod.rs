//! A corpus back as text, and what it looks like in numbers.

mod decoded;
pub mod paint;
pub mod search;
mod statistics;
mod view;

use std::io::Write;
use std::path::{Path, PathBuf};

use hephaestus_core::corpus::{Corpus, CorpusError};
use hephaestus_core::figures::{size, thousands};
use hephaestus_core::vocabulary::{Vocabulary, VocabularyError};

use paint::Paint;
use search::Pattern;
use view::View;

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
    /// Only documents that hold this.
    pub search: Option<Pattern>,
    /// How text is set off.
    pub paint: Paint,
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
    /// Something to look for that is not.
    #[error("--search: {0}")]
    Pattern(String),
    /// Something to look for in a corpus that nothing decodes.
    #[error("--search looks for text: give the tokenizer that {} was made with (--tokenizer DIR)", .0.display())]
    NoTokenizer(PathBuf),
    /// The output.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Prints a corpus to `out`.
///
/// # Errors
/// The corpus or the tokenizer is not sound or do not belong together, a document is not there, or `out` fails.
pub fn inspect(settings: &Settings, out: &mut dyn Write) -> Result<(), InspectError> {
    let corpus = Corpus::open(&settings.prefix)?;
    let vocabulary = settings.tokenizer.as_deref().map(|path| decoder(path, &corpus, &settings.prefix)).transpose()?;
    let view = View { corpus: &corpus, vocabulary: vocabulary.as_ref(), settings };
    let searched = settings.search.as_ref().zip(settings.documents.count());
    if searched.is_some() && vocabulary.is_none() {
        return Err(InspectError::NoTokenizer(settings.prefix.clone()));
    }
    let chosen = if searched.is_some() { Vec::new() } else { choose(settings, corpus.documents())? };
    summary(&corpus, &settings.prefix, out)?;
    if corpus.has_weights() {
        settings.paint.legend(out)?;
    }
    if settings.statistics {
        statistics::statistics(&corpus, out)?;
    }
    if let (Some((pattern, count)), Some(vocabulary)) = (searched, &vocabulary) {
        return view.search(pattern, vocabulary, count, out);
    }
    for document in chosen {
        view.print(document, out)?;
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

/// The tokens of a document.
fn ids(corpus: &Corpus, document: u64) -> Result<Vec<u32>, InspectError> {
    let mut tokens: Vec<i64> = Vec::new();
    corpus.read(corpus.document_range(document)?, &mut tokens)?;
    Ok(tokens.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)).collect())
}

impl Choice {
    /// How many documents are printed at most, unless it is one that is named.
    fn count(self) -> Option<u64> {
        match self {
            Self::First(count) | Self::Sample { count, .. } => Some(count),
            Self::One(_) => None,
        }
    }
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

    /// The vocabulary of GPT-2, where it is.
    pub(super) fn gpt2(test: &str) -> Option<Vocabulary> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers/gpt2");
        if !folder.is_dir() {
            crate::skipped(test, &format!("{} is absent", folder.display()));
            return None;
        }
        Some(Vocabulary::load(&folder).unwrap())
    }

    /// A corpus of conversations in which only the answers are learned, and one long document.
    fn corpus(folder: &Path, vocabulary: &Vocabulary) -> PathBuf {
        use hephaestus_core::corpus::format::TokenType;
        use hephaestus_core::corpus::{ManifestInfo, Writer};
        let prefix = folder.join("c");
        let mut writer = Writer::create(&prefix, TokenType::U16).unwrap();
        for number in 0..200 {
            let parts = [
                (format!("user: what is {number} times 7?\n"), 0),
                (format!("assistant: {}\u{1b}[1m\n", number * 7), 255),
                ("tool: 世界 \"ok\"\n".to_owned(), 102),
            ];
            let (mut ids, mut weights) = (Vec::new(), Vec::new());
            for (text, weight) in parts {
                ids.extend(vocabulary.encode(&text).unwrap());
                weights.resize(ids.len(), weight);
            }
            writer.document(&ids, Some(&weights)).unwrap();
        }
        let long = format!("{}needle{}", "hay ".repeat(3_000), " hay".repeat(3_000));
        writer.document(&vocabulary.encode(&long).unwrap(), None).unwrap();
        let (source, tokenizer) = ("talk".to_owned(), vocabulary.fingerprint.clone());
        writer
            .finish(ManifestInfo { source, tokenizer, vocab_size: vocabulary.size, ..ManifestInfo::default() })
            .unwrap();
        prefix
    }

    fn shown(test: &str, change: impl Fn(&mut Settings)) -> Option<String> {
        let vocabulary = gpt2(test)?;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            prefix: corpus(folder.path(), &vocabulary),
            tokenizer: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers/gpt2")),
            documents: Choice::First(2),
            statistics: false,
            search: None,
            paint: Paint::default(),
        };
        change(&mut settings);
        let mut out = Vec::new();
        inspect(&settings, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        Some(out.replace(&folder.path().display().to_string(), "FOLDER"))
    }

    #[test]
    fn documents_are_shown_with_their_loss_weights() {
        let with_statistics = |settings: &mut Settings| settings.statistics = true;
        let Some(out) = shown("documents_are_shown_with_their_loss_weights", with_statistics) else { return };
        insta::assert_snapshot!(out);
    }

    #[test]
    fn tokens_are_told_apart_where_asked_and_ids_shown_without_a_tokenizer() {
        let test = "tokens_are_told_apart_where_asked_and_ids_shown_without_a_tokenizer";
        let tokens = shown(test, |settings| settings.paint.tokens = true);
        let ids = shown(test, |settings| settings.tokenizer = None);
        let (Some(tokens), Some(ids)) = (tokens, ids) else { return };
        insta::assert_snapshot!(format!("{tokens}\n{ids}"));
    }

    #[test]
    fn a_search_finds_the_documents_that_hold_it_and_no_others() {
        let test = "a_search_finds_the_documents_that_hold_it_and_no_others";
        let search = |pattern: &'static str, is_regex: bool, documents: Choice| {
            shown(test, |settings| {
                settings.search = Some(Pattern::new(pattern, is_regex, false).unwrap());
                settings.documents = documents;
            })
        };
        let Some(all) = search("is 1[0-9]*3 times", true, Choice::First(1_000)) else { return };
        let titles: Vec<&str> = all.lines().filter(|line| line.starts_with("──")).collect();
        let number = |title: &&str| title.split(' ').nth(2).unwrap().parse::<u64>().unwrap();
        let expected: Vec<u64> = [13].into_iter().chain((10..20).map(|ten| ten * 10 + 3)).collect();
        assert_eq!(titles.iter().map(number).collect::<Vec<_>>(), expected);
        assert!(all.ends_with("11 documents, 201 of 201 searched\n"), "{all}");
        // A match that runs over several loss weights, the first of many.
        let first = search("7?\nassistant: 4", false, Choice::First(1)).unwrap();
        // A long document, shown around its match.
        let long = search("needle", false, Choice::First(3)).unwrap();
        let none = search("absent", false, Choice::First(3)).unwrap();
        insta::assert_snapshot!([first, long, none].join("\n"));
        let drawn = |seed| search("times", false, Choice::Sample { count: 2, seed }).unwrap();
        assert!(drawn(1) == drawn(1) && drawn(1) != drawn(2));
    }

    #[test]
    fn a_search_without_a_tokenizer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let Some(vocabulary) = gpt2("a_search_without_a_tokenizer_is_refused") else { return };
        let settings = Settings {
            prefix: corpus(folder.path(), &vocabulary),
            tokenizer: None,
            documents: Choice::First(1),
            statistics: false,
            search: Some(Pattern::new("x", false, false).unwrap()),
            paint: Paint::default(),
        };
        let error = inspect(&settings, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.ends_with("c was made with (--tokenizer DIR)"), "{error}");
    }
}
