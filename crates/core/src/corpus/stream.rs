//! Documents one after another, cut into rows of T tokens: concatenate-and-split packing.
//!
//! Documents cross rows and no token is lost. Row n is found by two searches, in the ranges of documents and in the index,
//! so any row costs about the same and nothing is kept in memory.

use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;
use super::reader::{Ranges, Reader};
use super::row::{Document, fragment, pad};
use super::{Corpus, CorpusError};

/// The documents of some ranges of a corpus as one stream of tokens.
#[derive(Debug)]
pub struct Stream {
    corpus: Arc<Corpus>,
    /// Ranges of documents, each with the place in the stream where it begins.
    parts: Vec<(u64, Range<u64>)>,
    length: u64,
    /// Token that follows each document.
    end: Option<i64>,
    /// Tokens are below this.
    vocab_size: u32,
}

/// Documents whose places are read from the index at once: those of a row, and those of a window of rows.
const OF_A_ROW: u64 = 16;
const OF_A_WINDOW: u64 = 4096;

impl Stream {
    /// The documents of `ranges`, in order; `end` is added after each of them. Rows with a token that is not below
    /// `vocab_size` are errors.
    ///
    /// # Errors
    /// A range outside the corpus, or an index that contradicts itself there.
    pub fn new(
        corpus: &Arc<Corpus>,
        ranges: &[Range<u64>],
        end: Option<u32>,
        vocab_size: u32,
    ) -> Result<Self, CorpusError> {
        let corpus = Arc::clone(corpus);
        let mut stream = Self { corpus, parts: Vec::new(), length: 0, end: end.map(i64::from), vocab_size };
        for range in ranges.iter().filter(|range| range.start < range.end) {
            let (first, last) =
                (stream.corpus.document_range(range.start)?, stream.corpus.document_range(range.end - 1)?);
            stream.parts.push((stream.length, range.clone()));
            stream.length += last.end.saturating_sub(first.start) + stream.added(range.end - range.start);
        }
        Ok(stream)
    }

    /// Tokens in it.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Rows of `length` tokens it fills; the last one perhaps not wholly.
    #[must_use]
    pub fn rows(&self, length: usize) -> u64 {
        self.length.div_ceil(length as u64)
    }

    /// Whether a document has a token after its first, so that there is something to predict. It looks at the documents until
    /// one has.
    ///
    /// # Errors
    /// An index that contradicts itself, or a file that cannot be read.
    pub fn predicts(&self) -> Result<bool, CorpusError> {
        for (_, documents) in &self.parts {
            let mut ranges = Ranges::new(&self.corpus, documents.clone(), OF_A_WINDOW);
            while let Some(document) = ranges.next() {
                let (_, tokens) = document?;
                if tokens.end - tokens.start + self.added(1) > 1 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Appends row `row` of `length` tokens to `batch`.
    ///
    /// A target is the next token of the same document, also where that is in the next row. Positions and segments
    /// restart with each document, and with the row. What the last row lacks is filled with the end token, or 0, as a
    /// segment of its own that nothing is learned from.
    ///
    /// # Errors
    /// An index that contradicts itself, or a file that cannot be read.
    pub fn row(&self, row: u64, length: usize, batch: &mut Batch) -> Result<(), CorpusError> {
        let filled = batch.tokens.len() + length;
        let at = row.saturating_mul(length as u64);
        if at < self.length {
            let missing = (self.length - at).min(length as u64);
            self.append(at, batch.tokens.len() + missing as usize, batch)?;
        }
        pad(filled, self.end.unwrap_or(0), batch);
        (batch.rows, batch.length) = (batch.rows + 1, length);
        Ok(())
    }

    /// Appends what follows place `at` of the stream, until the batch has `filled` tokens.
    fn append(&self, at: u64, filled: usize, batch: &mut Batch) -> Result<(), CorpusError> {
        let (part, first, mut offset) = self.find(at)?;
        let mut last = first;
        // One more than the row has, as the last target.
        let mut reader = Reader::ahead(&self.corpus, (filled - batch.tokens.len()) as u64 + 1);
        for (number, (_, documents)) in self.parts[part..].iter().enumerate() {
            let begin = if number == 0 { first } else { documents.start };
            let mut ranges = Ranges::new(&self.corpus, begin..documents.end, OF_A_ROW);
            while let Some(document) = ranges.next() {
                let (document, tokens) = document?;
                let places = tokens.end - tokens.start + self.added(1);
                // Where the index is out of order, the search may end in a document that lies elsewhere.
                let left = places.checked_sub(offset).ok_or_else(|| self.corpus.out_of_order(document))?;
                let count = left.min((filled - batch.tokens.len()) as u64);
                if count > 0 {
                    self.fragment(&mut reader, (document, tokens), offset..offset + count, batch)?;
                }
                if batch.tokens.len() == filled {
                    return Ok(());
                }
                (last, offset) = (document, 0);
            }
        }
        Err(self.corpus.out_of_order(last))
    }

    fn fragment(
        &self,
        reader: &mut Reader<'_>,
        document: Document,
        places: Range<u64>,
        batch: &mut Batch,
    ) -> Result<(), CorpusError> {
        fragment(reader, document, places, self.end, self.vocab_size, batch)
    }

    /// Appends a row of `length` tokens made of pieces, each a document and the place in it where the piece begins. A piece
    /// ends with its document or with the row; what the row lacks is filled as in [`Self::row`].
    pub(super) fn pieces(
        &self,
        pieces: impl IntoIterator<Item = (u64, u64)>,
        length: usize,
        batch: &mut Batch,
    ) -> Result<(), CorpusError> {
        let filled = batch.tokens.len() + length;
        let mut reader = Reader::new(&self.corpus);
        for (document, from) in pieces {
            let tokens = self.corpus.document_range(document)?;
            let places = tokens.end - tokens.start + self.added(1);
            // The index was read through when the rows were made; it can only be otherwise if it changed since.
            let left = places.checked_sub(from).ok_or_else(|| self.corpus.out_of_order(document))?;
            let count = left.min((filled - batch.tokens.len()) as u64);
            self.fragment(&mut reader, (document, tokens), from..from + count, batch)?;
        }
        pad(filled, self.end.unwrap_or(0), batch);
        (batch.rows, batch.length) = (batch.rows + 1, length);
        Ok(())
    }

    /// Calls `each` with every document that begins in `range` of the stream, and the places that it has there; documents
    /// without any are passed over.
    pub(super) fn beginning_in(&self, range: Range<u64>, mut each: impl FnMut(u64, u64)) -> Result<(), CorpusError> {
        if range.start >= self.length {
            return Ok(());
        }
        let (part, first, offset) = self.find(range.start)?;
        let mut at = range.start - offset;
        for (number, (start, documents)) in self.parts[part..].iter().enumerate() {
            let begin = if number == 0 { first } else { documents.start };
            if number > 0 {
                at = *start;
            }
            let mut ranges = Ranges::new(&self.corpus, begin..documents.end, OF_A_WINDOW);
            while at < range.end
                && let Some(document) = ranges.next()
            {
                let (document, tokens) = document?;
                let places = tokens.end - tokens.start + self.added(1);
                if at >= range.start && places > 0 {
                    each(document, places);
                }
                at += places;
            }
            if at >= range.end {
                break;
            }
        }
        Ok(())
    }

    /// The part and the document that hold place `at` of the stream, and the place in that document.
    fn find(&self, at: u64) -> Result<(usize, u64, u64), CorpusError> {
        let part = self.parts.partition_point(|(start, _)| *start <= at) - 1;
        let (start, documents) = &self.parts[part];
        let base = self.corpus.document_start(documents.start)?;
        let begins = |document: u64| -> Result<u64, CorpusError> {
            let tokens = self.corpus.document_start(document)?.saturating_sub(base);
            Ok(start + tokens + self.added(document - documents.start))
        };
        // The last document that begins at or before `at`: empty ones before it begin at the same place. Every other probe
        // is where it would lie if all were as long, which is near; those between bound the search whatever their lengths.
        let (mut low, mut high) = (documents.start, documents.end);
        let (mut first, mut last) = (*start, self.parts.get(part + 1).map_or(self.length, |(start, _)| *start));
        let mut guess = true;
        while high - low > 1 {
            let even = u128::from(at - first) * u128::from(high - low) / u128::from(last - first);
            let middle = if guess { low + (even as u64).max(1) } else { low + (high - low) / 2 };
            let place = begins(middle)?;
            if place <= at {
                (low, first) = (middle, place)
            } else {
                (high, last) = (middle, place)
            }
            guess = !guess;
        }
        Ok((part, low, at - first))
    }

    fn added(&self, documents: u64) -> u64 {
        if self.end.is_some() { documents } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::corpus::batch::IGNORE;
    use crate::corpus::best_fit::BestFit;
    use crate::corpus::format::TokenType;
    use crate::corpus::{ManifestInfo, Writer};

    const END: u32 = 9;

    /// A corpus of documents of these lengths; every token is different.
    fn corpus(lengths: &[usize]) -> (tempfile::TempDir, Arc<Corpus>) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("c");
        let mut writer = Writer::create(&prefix, TokenType::U16).unwrap();
        let mut next = 100..;
        for length in lengths {
            writer.document(&next.by_ref().take(*length).collect::<Vec<_>>(), None).unwrap();
        }
        let info = ManifestInfo { vocab_size: 60_000, ..ManifestInfo::default() };
        writer.finish(info).unwrap();
        let corpus = Corpus::open(&prefix).unwrap();
        (folder, Arc::new(corpus))
    }

    #[test]
    fn documents_cross_rows_and_targets_do_not_cross_documents() {
        let (_folder, corpus) = corpus(&[3, 0, 4]);
        let stream = Stream::new(&corpus, &[0..2, 2..3], Some(END), 60_000).unwrap();
        // 100 101 102 END | END | 103 104 105 106 END
        assert_eq!((stream.length(), stream.rows(4)), (10, 3));
        let mut batch = Batch::default();
        (0..3).for_each(|row| stream.row(row, 4, &mut batch).unwrap());
        assert_eq!((batch.rows, batch.length), (3, 4));
        assert_eq!(batch.tokens, [100, 101, 102, 9, 9, 103, 104, 105, 106, 9, 9, 9]);
        let none = IGNORE;
        assert_eq!(batch.targets, [101, 102, 9, none, none, 104, 105, 106, 9, none, none, none]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 0, 0, 1, 2, 0, 1, 0, 1]);
        assert_eq!(batch.segments, [4, 1, 3, 2, 2]);
        assert!(batch.targets.iter().zip(&batch.weights).all(|(target, weight)| (*target >= 0) == (*weight == 1.0)));
    }

    proptest! {
        #[test]
        fn a_lying_index_is_an_error_or_other_tokens_but_never_a_panic(
            lengths in prop::collection::vec(0_usize..12, 1..30),
            lies in prop::collection::vec((34_usize..600, 0_u8..20), 1..4),
            ended: bool,
        ) {
            let (folder, corpus) = corpus(&lengths);
            let path = folder.path().join("c.idx");
            let mut index = fs_err::read(&path).unwrap();
            for (at, value) in lies {
                let at = at % index.len();
                index[at] = value;
            }
            fs_err::write(&path, index).unwrap();
            // Opened before the lie, so that what opening checks does not stop it here.
            let documents = 0..corpus.documents();
            if let Ok(stream) = Stream::new(&corpus, std::slice::from_ref(&documents), ended.then_some(END), 60_000) {
                for row in 0..stream.rows(7).min(200) {
                    let mut batch = Batch::default();
                    if stream.row(row, 7, &mut batch).is_ok() {
                        prop_assert_eq!((batch.tokens.len(), batch.segments.iter().sum::<i64>()), (7, 7));
                    }
                }
                if let Ok(packed) = BestFit::new(stream, 7) {
                    for row in 0..packed.rows().min(200) {
                        let mut batch = Batch::default();
                        if packed.row(row, &mut batch).is_ok() {
                            prop_assert_eq!((batch.tokens.len(), batch.segments.iter().sum::<i64>()), (7, 7));
                        }
                    }
                }
            }
        }

        #[test]
        fn nothing_is_lost_and_every_token_but_a_documents_first_is_a_target_once(
            lengths in prop::collection::vec(0_usize..12, 1..30),
            cut in 0_u64..30,
            hole in 0_u64..5,
            length in 1_usize..20,
            ended: bool,
        ) {
            let (_folder, corpus) = corpus(&lengths);
            let documents = lengths.len() as u64;
            let ranges = [0..cut.min(documents), (cut + hole).min(documents)..documents];
            let end = ended.then_some(END);
            let stream = Stream::new(&corpus, &ranges, end, 60_000).unwrap();
            let (mut expected, mut targets) = (Vec::new(), Vec::<i64>::new());
            for document in ranges.into_iter().flatten() {
                let mut tokens = Vec::new();
                corpus.read(corpus.document_range(document).unwrap(), &mut tokens).unwrap();
                tokens.extend(end.map(i64::from));
                targets.extend(tokens.iter().skip(1));
                expected.extend(tokens);
            }
            prop_assert_eq!(stream.length(), expected.len() as u64);
            let mut batch = Batch::default();
            for row in 0..stream.rows(length) {
                stream.row(row, length, &mut batch).unwrap();
                let sum: i64 = batch.segments.iter().sum();
                prop_assert_eq!(sum as usize, length * batch.rows);
            }
            prop_assert_eq!(&batch.tokens[..expected.len()], &expected);
            let found: Vec<_> = batch.targets.iter().copied().filter(|target| *target != IGNORE).collect();
            prop_assert_eq!(found, targets);
        }
    }
}
