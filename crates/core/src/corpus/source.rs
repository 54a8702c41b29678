//! One corpus ready to give rows: some documents held out, the others packed.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::best_fit::BestFit;
use super::stream::Stream;
use super::{Corpus, CorpusError, held_out};

/// How documents become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One after another, cut every `sequence_length` tokens: nothing is lost, documents cross rows.
    #[default]
    Split,
    /// Documents kept whole where they fit, each in the row that it fills best (Ding et al. 2024, arXiv 2404.10830).
    BestFit,
}

/// How a corpus becomes rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Share of the documents that is never trained on, 0 to 1.
    pub held_out: f64,
    /// How documents become training rows; held-out ones are always split, so that each of their tokens counts once.
    pub packing: Packing,
    /// T: tokens a row.
    pub length: usize,
    /// Token added after each document; `None` to add nothing.
    pub end: Option<u32>,
    /// Size of the model's vocabulary: a row with a token that is not below it is an error.
    pub vocab_size: u32,
    /// Whether attention stays inside a document. If not, a row is one segment with positions 0 to T - 1; targets still
    /// never cross a document.
    pub document_mask: bool,
}

/// A corpus, its training rows and its held-out rows.
#[derive(Debug)]
pub struct Source {
    corpus: Arc<Corpus>,
    train: Train,
    held_out: Stream,
    settings: Settings,
}

/// The training documents as rows.
#[derive(Debug)]
enum Train {
    Split(Stream),
    BestFit(BestFit),
}

/// Most tokens a row.
const LONGEST: usize = 1 << 22;

impl Source {
    /// Opens `prefix.bin` and `prefix.idx`. With [`Packing::Split`] that costs the same whatever the size; with
    /// [`Packing::BestFit`] the index is read through once, on all cores.
    ///
    /// # Errors
    /// What [`Corpus::open`] refuses, an index that contradicts itself, or rows of no tokens or far too many.
    pub fn open(prefix: &Path, settings: &Settings) -> Result<Self, CorpusError> {
        let corpus = Arc::new(Corpus::open(prefix)?);
        if !(1..=LONGEST).contains(&settings.length) {
            let reason = format!("rows of {} tokens: expected 1 to {LONGEST}", settings.length);
            return Err(CorpusError::Order { reason });
        }
        let split = held_out::split(corpus.documents(), settings.held_out);
        let train = Stream::new(&corpus, &split.train, settings.end, settings.vocab_size)?;
        let held_out = Stream::new(&corpus, &split.held_out, settings.end, settings.vocab_size)?;
        let train = match settings.packing {
            Packing::Split => Train::Split(train),
            Packing::BestFit => Train::BestFit(BestFit::new(train, settings.length)?),
        };
        Ok(Self { corpus, train, held_out, settings: *settings })
    }

    /// The corpus.
    #[must_use]
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// T: tokens a row.
    #[must_use]
    pub fn length(&self) -> usize {
        self.settings.length
    }

    /// Training rows of one epoch.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match &self.train {
            Train::Split(stream) => stream.rows(self.settings.length),
            Train::BestFit(packed) => packed.rows(),
        }
    }

    /// Returns whether a training document has a token after its first, so that there is something to predict.
    ///
    /// # Errors
    /// An index that contradicts itself, or a file that cannot be read.
    pub fn predicts(&self) -> Result<bool, CorpusError> {
        match &self.train {
            Train::Split(stream) => stream.predicts(),
            Train::BestFit(packed) => packed.stream().predicts(),
        }
    }

    /// Rows of the held-out documents.
    #[must_use]
    pub fn held_out_rows(&self) -> u64 {
        self.held_out.rows(self.settings.length)
    }

    /// Appends training row `row` to `batch`.
    ///
    /// # Errors
    /// There is no such row, an index that contradicts itself, a token beyond the vocabulary, or a file that cannot be read.
    pub fn row(&self, row: u64, batch: &mut Batch) -> Result<(), CorpusError> {
        self.within(row, self.rows())?;
        let before = (batch.tokens.len(), batch.segments.len());
        match &self.train {
            Train::Split(stream) => stream.row(row, self.settings.length, batch)?,
            Train::BestFit(packed) => packed.row(row, batch)?,
        }
        self.unmask(before, batch);
        Ok(())
    }

    /// Appends held-out row `row` to `batch`.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub fn held_out_row(&self, row: u64, batch: &mut Batch) -> Result<(), CorpusError> {
        self.within(row, self.held_out_rows())?;
        let before = (batch.tokens.len(), batch.segments.len());
        self.held_out.row(row, self.settings.length, batch)?;
        self.unmask(before, batch);
        Ok(())
    }

    fn within(&self, row: u64, rows: u64) -> Result<(), CorpusError> {
        if row < rows {
            return Ok(());
        }
        let reason = format!("row {row} asked for, of {rows}");
        Err(CorpusError::Invalid { file: self.corpus.path().to_owned(), reason })
    }

    /// Makes the row just appended one segment, where documents are not masked.
    fn unmask(&self, (tokens, segments): (usize, usize), batch: &mut Batch) {
        if !self.settings.document_mask {
            batch.segments.truncate(segments);
            batch.segments.push(self.settings.length as i64);
            batch.positions.truncate(tokens);
            batch.positions.extend(0..self.settings.length as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::corpus::batch::IGNORE;
    use crate::corpus::sample;

    fn settings() -> Settings {
        Settings {
            held_out: 0.2,
            packing: Packing::Split,
            length: 8,
            end: Some(1),
            vocab_size: 1 << 30,
            document_mask: true,
        }
    }

    /// The tokens of all training rows, or of all held-out ones, that are no end token and no padding.
    fn tokens(source: &Source, held_out: bool) -> Vec<i64> {
        let mut batch = Batch::default();
        if held_out {
            (0..source.held_out_rows()).for_each(|row| source.held_out_row(row, &mut batch).unwrap());
        } else {
            (0..source.rows()).for_each(|row| source.row(row, &mut batch).unwrap());
        }
        batch.tokens.into_iter().filter(|token| *token >= sample::FIRST).collect()
    }

    #[test]
    fn without_a_document_mask_a_row_is_one_segment_and_targets_still_do_not_cross_documents() {
        let (_folder, prefix) = sample::corpus(&[3, 2, 5, 4], None);
        let open = |document_mask| Source::open(&prefix, &Settings { document_mask, held_out: 0.0, ..settings() });
        let (masked, unmasked) = (open(true).unwrap(), open(false).unwrap());
        assert_eq!((unmasked.rows(), unmasked.held_out_rows()), (3, 0));
        let (mut a, mut b) = (Batch::default(), Batch::default());
        for row in 0..3 {
            masked.row(row, &mut a).unwrap();
            unmasked.row(row, &mut b).unwrap();
        }
        assert_eq!((&a.tokens, &a.targets, &a.weights), (&b.tokens, &b.targets, &b.weights));
        assert!(a.targets[..8].contains(&IGNORE));
        assert_eq!((b.segments, b.positions), (vec![8; 3], (0..8).cycle().take(24).collect()));
    }

    #[test]
    fn a_row_beyond_the_last_is_an_error_that_says_how_many_there_are() {
        let (_folder, prefix) = sample::corpus(&[30; 5], None);
        let source = Source::open(&prefix, &settings()).unwrap();
        let error = source.row(16, &mut Batch::default()).unwrap_err().to_string();
        assert!(error.ends_with("c.bin: row 16 asked for, of 16"), "{error}");
        assert!(source.held_out_row(4, &mut Batch::default()).is_err());
        let error = Source::open(&prefix, &Settings { length: 0, ..settings() }).unwrap_err().to_string();
        assert_eq!(error, "rows of 0 tokens: expected 1 to 4194304");
    }

    proptest! {
        #[test]
        fn held_out_documents_are_never_trained_on_and_no_other_token_is_lost(
            lengths in prop::collection::vec(0_usize..40, 1..40),
            share in 0.0..0.9,
            document_mask: bool,
            best_fit: bool,
        ) {
            let (_folder, prefix) = sample::corpus(&lengths, None);
            let packing = if best_fit { Packing::BestFit } else { Packing::Split };
            let settings = Settings { held_out: share, document_mask, packing, ..settings() };
            let source = Source::open(&prefix, &settings).unwrap();
            let mut all = tokens(&source, false);
            all.extend(tokens(&source, true));
            all.sort_unstable();
            let count = lengths.iter().sum::<usize>() as i64;
            prop_assert!(all.into_iter().eq(sample::FIRST..sample::FIRST + count));
        }
    }
}
