//! Rows are made of fragments of documents: what both ways of packing append to a batch.

use std::ops::Range;

use super::CorpusError;
use super::batch::{Batch, IGNORE};
use super::reader::Reader;

/// A document, by its number and its tokens in the corpus.
pub(super) type Document = (u64, Range<u64>);

/// Appends `places` of a document. A document's places are its tokens in the corpus, then the
/// `end` token where there is one. A target is the next place, also where that is in another row. A token that is not below
/// `vocab_size` is an error.
pub(super) fn fragment(
    reader: &mut Reader<'_>,
    (document, tokens): Document,
    places: Range<u64>,
    end: Option<i64>,
    vocab_size: u32,
    batch: &mut Batch,
) -> Result<(), CorpusError> {
    let first = batch.tokens.len();
    let (from, count) = (places.start, places.end - places.start);
    let start = tokens.start.saturating_add(from);
    // Places of this fragment that are tokens of the corpus, and one more as the last target.
    let stop = tokens.end.min(start.saturating_add(count)).max(start);
    let beyond = tokens.end.min(start.saturating_add(count + 1)).max(start);
    let corpus = reader.corpus();
    let stored = reader.tokens(start..beyond)?;
    if let Some((place, token)) = stored.outside(i64::from(vocab_size)) {
        if token < 0 {
            return Err(corpus.negative(start + place, token));
        }
        let (file, place) = (corpus.path().to_owned(), from + place);
        return Err(CorpusError::BeyondVocabulary { file, document, place, token, vocab_size });
    }
    stored.append(..(stop - start) as usize, &mut batch.tokens);
    // Out of what is stored, not of the tokens: it has a quarter to a half of their bytes.
    stored.append(1.min((beyond - start) as usize).., &mut batch.targets);
    if beyond == stop && stop > start {
        batch.targets.push(end.unwrap_or(IGNORE));
    }
    if let Some(end) = end.filter(|_| stop - start < count) {
        batch.tokens.push(end);
        batch.targets.push(IGNORE);
    }
    let found = batch.tokens.len() - first;
    // The weight of a target is that of the token it is; the end token has weight 1.
    reader.weights((start + 1).min(beyond)..beyond, &mut batch.weights)?;
    batch.weights.resize(first + found, 1.0);
    if let (Some(&IGNORE), Some(last)) = (batch.targets[first..].last(), batch.weights[first..].last_mut()) {
        *last = 0.0;
    }
    batch.positions.extend(0..found as i64);
    batch.segments.extend((found > 0).then_some(found as i64));
    Ok(())
}

/// Fills a batch up to `filled` tokens with a segment of its own that nothing is learned from.
pub(super) fn pad(filled: usize, token: i64, batch: &mut Batch) {
    let missing = filled - batch.tokens.len();
    if missing > 0 {
        batch.tokens.resize(filled, token);
        batch.targets.resize(filled, IGNORE);
        batch.weights.resize(filled, 0.0);
        batch.positions.extend(0..missing as i64);
        batch.segments.push(missing as i64);
    }
}
