//! Reads documents of a corpus one after another: where they are, their tokens and their loss weights. What follows one
//! another is read from the files at once, as a read costs more than what it brings.

use std::ops::{Range, RangeBounds};

use super::storage::Ahead;
use super::{Corpus, CorpusError};

/// Reads tokens and loss weights.
pub(super) struct Reader<'a> {
    corpus: &'a Corpus,
    tokens: Ahead<'a>,
    weights: Option<Ahead<'a>>,
    /// Tokens to read at once.
    ahead: u64,
}

impl<'a> Reader<'a> {
    /// A reader that reads no more than it is asked for.
    pub(super) fn new(corpus: &'a Corpus) -> Self {
        let (tokens, weights) = corpus.files();
        Self { corpus, tokens: Ahead::new(tokens), weights: weights.map(Ahead::new), ahead: 0 }
    }

    /// A reader that reads `tokens` tokens at once.
    pub(super) fn ahead(corpus: &'a Corpus, tokens: u64) -> Self {
        Self { ahead: tokens, ..Self::new(corpus) }
    }

    /// The corpus that it reads.
    pub(super) fn corpus(&self) -> &'a Corpus {
        self.corpus
    }

    /// The tokens of `range`.
    ///
    /// # Errors
    /// The range lies outside the corpus, or the file cannot be read.
    pub(super) fn tokens(&mut self, range: Range<u64>) -> Result<Stored<'_>, CorpusError> {
        self.within(&range)?;
        let size = self.corpus.token_size();
        let raw = self.tokens.bytes(range.start * size..range.end * size, self.ahead.saturating_mul(size))?;
        Ok(Stored { raw, size })
    }

    /// Appends the loss weights of `range` to `out`: 0 to 1, and 1 throughout where the corpus has no `.loss`.
    ///
    /// # Errors
    /// The range lies outside the corpus, or the file cannot be read.
    pub(super) fn weights(&mut self, range: Range<u64>, out: &mut Vec<f32>) -> Result<(), CorpusError> {
        self.within(&range)?;
        match &mut self.weights {
            Some(weights) => {
                out.extend(weights.bytes(range, self.ahead)?.iter().map(|weight| f32::from(*weight) / 255.0));
            }
            None => out.resize(out.len() + (range.end - range.start) as usize, 1.0),
        }
        Ok(())
    }

    fn within(&self, range: &Range<u64>) -> Result<(), CorpusError> {
        if range.start <= range.end && range.end <= self.corpus.tokens() {
            return Ok(());
        }
        let (file, held) = (self.corpus.path().to_owned(), self.corpus.tokens());
        Err(CorpusError::OutOfRange { file, start: range.start, end: range.end, held })
    }
}

/// Tokens as a corpus stores them.
pub(super) struct Stored<'a> {
    raw: &'a [u8],
    size: u64,
}

impl Stored<'_> {
    /// Appends the tokens of `places` to `out`.
    pub(super) fn append(&self, places: impl RangeBounds<usize>, out: &mut Vec<i64>) {
        let places = (places.start_bound().cloned(), places.end_bound().cloned());
        if self.size == 2 {
            out.extend(self.raw.as_chunks().0[places].iter().map(|b| i64::from(u16::from_le_bytes(*b))));
        } else {
            out.extend(self.raw.as_chunks().0[places].iter().map(|b| i64::from(i32::from_le_bytes(*b))));
        }
    }

    /// The first token that is below 0 or not below `limit`, with its place.
    pub(super) fn outside(&self, limit: i64) -> Option<(u64, i64)> {
        // First whether there is any, by the signs of all of them at once; which one only if so.
        let last = limit - 1;
        let signs = if self.size == 2 {
            let last = last.min(i64::from(u16::MAX)) as i32;
            let tokens = self.raw.as_chunks().0.iter().map(|b| i32::from(u16::from_le_bytes(*b)));
            tokens.fold(0, |signs, token| signs | (last - token))
        } else {
            // No difference overflows: a negative token has its own sign, whatever the sum wraps to.
            let last = last.min(i64::from(i32::MAX)) as i32;
            let tokens = self.raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b));
            tokens.fold(0, |signs, token| signs | token | last.wrapping_sub(token))
        };
        if signs >= 0 {
            return None;
        }
        let mut all = Vec::new();
        self.append(.., &mut all);
        (0..).zip(all).find(|(_, token)| !(0..limit).contains(token))
    }
}

/// Documents in order, each as its tokens.
pub(super) struct Ranges<'a> {
    corpus: &'a Corpus,
    /// Those that are not read yet.
    documents: Range<u64>,
    block: u64,
    /// Where the documents that are read end.
    starts: std::vec::IntoIter<u64>,
    /// Where the next one begins.
    start: u64,
}

impl<'a> Ranges<'a> {
    /// The documents of `documents`; the index is read `block` documents at a time.
    pub(super) fn new(corpus: &'a Corpus, documents: Range<u64>, block: u64) -> Self {
        Self { corpus, documents, block, starts: Vec::new().into_iter(), start: 0 }
    }

    /// The next document with its tokens.
    pub(super) fn next(&mut self) -> Option<Result<(u64, Range<u64>), CorpusError>> {
        if self.starts.len() == 0 {
            if self.documents.is_empty() {
                return None;
            }
            let end = self.documents.end.min(self.documents.start.saturating_add(self.block.max(1)));
            match self.corpus.starts(self.documents.start..end) {
                Ok(starts) => self.starts = starts.into_iter(),
                Err(error) => return Some(Err(error)),
            }
            self.documents.start = end;
            self.start = self.starts.next()?;
        }
        let document = self.documents.start - self.starts.len() as u64;
        let end = self.starts.next()?;
        let tokens = std::mem::replace(&mut self.start, end)..end;
        if tokens.start > tokens.end {
            return Some(Err(self.corpus.out_of_order(document)));
        }
        Some(Ok((document, tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::sample;

    #[test]
    fn documents_read_in_blocks_are_those_read_one_by_one() {
        let lengths: Vec<usize> = (0..40).map(|i| i * i % 7).collect();
        let (_folder, prefix) = sample::corpus(&lengths, None);
        let corpus = Corpus::open(&prefix).unwrap();
        for (documents, block) in [(0..40, 1), (0..40, 7), (3..40, 40), (5..29, 1 << 40), (9..9, 4)] {
            let mut ranges = Ranges::new(&corpus, documents.clone(), block);
            for document in documents {
                assert_eq!(ranges.next().unwrap().unwrap(), (document, corpus.document_range(document).unwrap()));
            }
            assert!(ranges.next().is_none());
        }
        let mut beyond = Ranges::new(&corpus, 38..42, 4);
        assert!(beyond.next().unwrap().is_err());
    }

    #[test]
    fn tokens_outside_of_a_vocabulary_are_found_in_both_widths() {
        let narrow: Vec<u8> = [1_u16, 40_000, 65_535].iter().flat_map(|token| token.to_le_bytes()).collect();
        let stored = Stored { raw: &narrow, size: 2 };
        let found = [65_536, 65_535, 40_000, 1, 0].map(|limit| stored.outside(limit));
        assert_eq!(found, [None, Some((2, 65_535)), Some((1, 40_000)), Some((0, 1)), Some((0, 1))]);
        let wide: Vec<u8> = [7, i32::MAX, 8, i32::MIN].iter().flat_map(|token| token.to_le_bytes()).collect();
        let outside = |from: usize, limit| Stored { raw: &wide[4 * from..], size: 4 }.outside(limit);
        let last = i64::from(i32::MAX);
        assert_eq!(outside(0, last), Some((1, last)));
        assert_eq!(outside(2, i64::from(u32::MAX)), Some((1, i64::from(i32::MIN))));
        assert_eq!(
            (Stored { raw: &wide[..12], size: 4 }.outside(last + 1), outside(0, last + 1).map(|f| f.0)),
            (None, Some(3))
        );
    }
}
