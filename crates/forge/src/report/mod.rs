//! What a build did, for a person and for a program: `report.md`, `report.html`, `report.json`.
//!
//! Each part of a source counts into a [`Tally`]; tallies merge, in any order, into one a source, and a [`Report`] is
//! made of those. It holds no time and nothing of the machine: the same build gives the same bytes.

mod chart;
pub mod distinct;
pub mod examples;
pub mod histogram;
mod markdown;
mod page;
pub mod tally;

use std::path::Path;

use hephaestus_core::whole;
use serde::{Deserialize, Serialize};

use distinct::Name;
use histogram::Histogram;
pub use tally::{Amount, Figures, Tally};

/// Version of `report.json`.
const VERSION: u32 = 1;
/// Providers named for each source.
const PROVIDERS: usize = 12;

/// What a build did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this format: 1.
    pub version: u32,
    /// What was built.
    pub title: String,
    /// The recipe as it was written.
    pub recipe: String,
    /// SHA-256 of the `tokenizer.json` that made the tokens.
    pub tokenizer: String,
    /// Source by source, in order.
    pub sources: Vec<Source>,
    /// All sources together; APIs and providers that several have count once.
    pub total: Source,
    /// Equal and nearly equal documents.
    pub duplicates: Duplicates,
    /// The classifiers that sources were selected by.
    pub classifiers: Vec<Classifier>,
}

/// One source, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its counts.
    pub figures: Figures,
    /// Different APIs among its documents.
    pub apis: u64,
    /// Different providers of them.
    pub providers: u64,
    /// The providers with the most documents.
    pub largest_providers: Vec<Name>,
    /// Documents dropped because their text came before, byte for byte.
    pub exact: Amount,
    /// Documents dropped because they are nearly the same as one before.
    pub near: Amount,
}

/// Groups of documents that are alike, of which one was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicates {
    /// Sizes of the groups, in documents.
    pub sizes: Histogram,
    /// The largest of them, largest first.
    pub largest: Vec<Cluster>,
}

/// One group of documents that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Where the document came from that was kept.
    pub kept: String,
    /// Documents in it, with the one that was kept.
    pub documents: u64,
}

/// A classifier, as documents judge it that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// Its name in the recipe.
    pub name: String,
    /// Held-out documents such as are to be found.
    pub positive: u64,
    /// Held-out documents such as are not.
    pub negative: u64,
    /// The threshold that the figures below are for: the one with the best F1.
    pub threshold: f64,
    /// Of the documents it takes, the share that should be.
    pub precision: f64,
    /// Of the documents that should be taken, the share that it takes.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Area under the receiver operating characteristic.
    pub auc: f64,
    /// Threshold by threshold, ascending.
    pub sweep: Vec<Sweep>,
    /// N-grams that tell most for a document, the most telling first.
    pub telling_for: Vec<String>,
    /// N-grams that tell most against a document, the most telling first.
    pub telling_against: Vec<String>,
}

/// A classifier at one threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Least score of a document that is taken.
    pub threshold: f64,
    /// Of the documents it takes, the share that should be.
    pub precision: f64,
    /// Of the documents that should be taken, the share that it takes.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
    /// Share of all held-out documents that it takes.
    pub kept: f64,
}

/// A source's name, what its parts counted together, and its duplicates.
#[derive(Clone, Debug, Default)]
pub struct SourceTally {
    /// Its name.
    pub name: String,
    /// What its parts counted.
    pub tally: Tally,
    /// Documents dropped because their text came before, byte for byte.
    pub exact: Amount,
    /// Documents dropped because they are nearly the same as one before.
    pub near: Amount,
}

/// Why a report is not written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A figure that cannot be put into words.
    #[error("report.json: {0}")]
    Json(#[from] serde_json::Error),
    /// The page's template fails.
    #[error("report.html: {0:#}")]
    Page(#[from] minijinja::Error),
}

impl Report {
    /// A report of these sources, without duplicates' groups and classifiers, which have fields of their own.
    #[must_use]
    pub fn new(title: &str, recipe: &str, tokenizer: &str, sources: &[SourceTally]) -> Self {
        let mut all = SourceTally { name: "all".to_owned(), ..SourceTally::default() };
        for source in sources {
            all.tally.merge(&source.tally);
            all.exact.merge(source.exact);
            all.near.merge(source.near);
        }
        Self {
            version: VERSION,
            title: title.to_owned(),
            recipe: recipe.to_owned(),
            tokenizer: tokenizer.to_owned(),
            sources: sources.iter().map(Source::new).collect(),
            total: Source::new(&all),
            duplicates: Duplicates::default(),
            classifiers: Vec::new(),
        }
    }

    /// Writes `report.json`, `report.md` and `report.html` into `folder`, each of them whole or not at all.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        fs_err::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        let files = [("report.json", json), ("report.md", self.markdown()), ("report.html", self.html()?)];
        for (name, text) in files {
            whole::write(&folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// The report as Markdown, with tables that are as readable as they stand.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::of(self)
    }

    /// The report as one HTML page that needs no other file, no network and no script.
    ///
    /// # Errors
    /// The template fails, which would be an error of this program.
    pub fn html(&self) -> Result<String, ReportError> {
        Ok(page::of(self)?)
    }

    /// Rules that dropped something, those that dropped the most documents first.
    fn rules(&self) -> Vec<&str> {
        let mut rules: Vec<_> = self.total.figures.dropped.iter().collect();
        rules.sort_by(|(a, one), (b, other)| other.amount.documents.cmp(&one.amount.documents).then_with(|| a.cmp(b)));
        rules.into_iter().map(|(rule, _)| rule.as_str()).collect()
    }
}

impl Source {
    fn new(counted: &SourceTally) -> Self {
        let SourceTally { name, tally, exact, near } = counted;
        Self {
            name: name.clone(),
            figures: tally.figures.clone(),
            apis: tally.apis.count(),
            providers: tally.providers.count(),
            largest_providers: tally.providers.most_frequent(PROVIDERS),
            exact: *exact,
            near: *near,
        }
    }

    /// Bytes of text a token stands for; 0 without tokens.
    fn bytes_a_token(&self) -> f64 {
        self.figures.kept.bytes as f64 / self.figures.tokens.max(1) as f64
    }

    /// The share of tokens that is learned, weights counted as parts; 0 without tokens.
    fn learned_share(&self) -> f64 {
        self.figures.learned() / self.figures.tokens.max(1) as f64
    }
}

impl Duplicates {
    /// Counts a group of so many documents.
    pub fn add(&mut self, documents: u64) {
        self.sizes.add(documents);
    }
}

#[cfg(test)]
mod sample;
