//! Documents kept whole where they fit: best-fit-decreasing packing (Ding et al. 2024, arXiv 2404.10830).
//!
//! A document of T places or more is cut into rows of its own; what is left of it is packed like a document. The longest
//! goes first, each into the row with the least room that still holds it.
//!
//! Documents are packed in windows, those that begin in the same [`WINDOW`] rows' worth of the stream, so that any row is
//! found without keeping where each document went; about 0.3 % of the tokens end as padding. Costs: opening reads the
//! whole index once, on all cores, and keeps 8 bytes a window. A row of a window that was not packed lately packs it again.
//! What was packed lately takes [`KEPT`] bytes on average.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::CorpusError;
use super::batch::Batch;
use super::stream::Stream;

/// Rows' worth of tokens that are packed together.
const WINDOW: u64 = 256;

/// Bytes of packed windows kept in memory.
const KEPT: u64 = 64 << 20;

/// A window and its number.
type Kept = Option<(u64, Arc<Window>)>;

/// The documents of a stream, packed.
#[derive(Debug)]
pub(super) struct BestFit {
    stream: Stream,
    /// T, at most `u32::MAX`.
    length: usize,
    /// Rows before each window; the last entry is the number of all rows.
    starts: Vec<u64>,
    /// Windows packed lately: window w is kept in slot w modulo their number.
    kept: Vec<Mutex<Kept>>,
}

impl BestFit {
    /// Packs the documents of `stream` into rows of `length` tokens, at most `u32::MAX`.
    pub(super) fn new(stream: Stream, length: usize) -> Result<Self, CorpusError> {
        let windows = stream.length().div_ceil(WINDOW * length as u64);
        let mut packed = Self { stream, length, starts: vec![0], kept: Vec::new() };
        let sizes = (0..windows).into_par_iter().map(|window| {
            let window = packed.pack(window)?;
            Ok((window.rows(), window.bytes()))
        });
        let sizes = sizes.collect::<Result<Vec<_>, CorpusError>>()?;
        let (mut rows, mut bytes) = (0, 0);
        for (own_rows, own_bytes) in sizes {
            (rows, bytes) = (rows + own_rows, bytes + own_bytes);
            packed.starts.push(rows);
        }
        let slots = KEPT.checked_div(bytes / windows.max(1)).unwrap_or(1).clamp(1, windows.max(1));
        packed.kept = (0..slots).map(|_| Mutex::default()).collect();
        Ok(packed)
    }

    /// The documents.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Rows of all documents.
    pub(super) fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Appends row `row`, which is below [`Self::rows`], to `batch`.
    pub(super) fn row(&self, row: u64, batch: &mut Batch) -> Result<(), CorpusError> {
        let window = self.starts.partition_point(|start| *start <= row) - 1;
        let row = row - self.starts[window];
        let window = self.window(window as u64)?;
        let full = self.length as u64;
        if let Some((document, from)) = window.long_row(row, full) {
            return self.stream.pieces([(document, from)], self.length, batch);
        }
        let row = (row - window.full_rows) as usize;
        let first = row.checked_sub(1).map_or(0, |before| window.ends[before]);
        self.stream.pieces(window.pieces[first as usize..window.ends[row] as usize].iter().copied(), self.length, batch)
    }

    /// Window `number`, packed again if it was not lately.
    fn window(&self, number: u64) -> Result<Arc<Window>, CorpusError> {
        let slot = &self.kept[(number % self.kept.len() as u64) as usize];
        let kept = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, window)) = kept.filter(|(kept, _)| *kept == number) {
            return Ok(window);
        }
        // Not under the lock: two workers may pack the same window, but none waits for another.
        let window = Arc::new(self.pack(number)?);
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, Arc::clone(&window)));
        Ok(window)
    }

    fn pack(&self, number: u64) -> Result<Window, CorpusError> {
        let (length, places) = (self.length as u64, WINDOW * self.length as u64);
        let (mut long, mut full_rows, mut rests) = (Vec::new(), 0, Vec::new());
        let start = number * places;
        self.stream.beginning_in(start..start.saturating_add(places), |document, places| {
            if places >= length {
                long.push((full_rows, document));
                full_rows += places / length;
            }
            let rest = places % length;
            if rest > 0 {
                rests.push((rest as u32, (document, places - rest)));
            }
        })?;
        let (pieces, ends) = best_fit_decreasing(&rests, self.length as u32);
        Ok(Window { long, full_rows, pieces, ends })
    }
}

/// Where a piece of a document begins: the document, and the place in it. It ends with the document, or after T places.
type Piece = (u64, u64);

/// Rows packed together: first those that pieces of long documents fill, then those of all other pieces.
#[derive(Debug)]
struct Window {
    /// Documents of T places or more, each with the rows that those before it fill.
    long: Vec<(u64, u64)>,
    /// Rows that these fill.
    full_rows: u64,
    /// Pieces shorter than T, row after row.
    pieces: Vec<Piece>,
    /// Pieces up to the end of each row.
    ends: Vec<u32>,
}

impl Window {
    fn rows(&self) -> u64 {
        self.full_rows + self.ends.len() as u64
    }

    fn bytes(&self) -> u64 {
        let bytes = size_of::<Self>() + size_of_val(&self.long[..]) + size_of_val(&self.pieces[..]);
        (bytes + size_of_val(&self.ends[..])) as u64
    }

    /// The piece of a long document that fills `row`, if one does.
    fn long_row(&self, row: u64, length: u64) -> Option<Piece> {
        if row >= self.full_rows {
            return None;
        }
        let (first, document) = self.long[self.long.partition_point(|(first, _)| *first <= row) - 1];
        Some((document, (row - first) * length))
    }
}

/// Packs pieces of 1 to `length` - 1 places into rows: their pieces row after row, and where each row ends in these.
fn best_fit_decreasing(rests: &[(u32, Piece)], length: u32) -> (Vec<Piece>, Vec<u32>) {
    // Longest first, and the earlier of two that are as long.
    let mut order: Vec<u64> =
        (0_u64..).zip(rests).map(|(i, (places, _))| u64::from(length - places) << 32 | i).collect();
    order.sort_unstable();
    // Rows with room left and how much, sorted. They are few: a window's worth at most, twice over.
    let mut open: Vec<(u32, u32)> = Vec::new();
    let (mut row_of, mut ends) = (vec![0_u32; rests.len()], Vec::<u32>::new());
    for item in &order {
        let item = *item as u32 as usize;
        let places = rests[item].0;
        let best = open.partition_point(|(room, _)| *room < places);
        let (room, row) = match open.get(best) {
            Some(found) => *found,
            None => {
                ends.push(0);
                open.push((length, ends.len() as u32 - 1));
                open[best]
            }
        };
        (row_of[item], ends[row as usize]) = (row, ends[row as usize] + 1);
        let left = (room - places, row);
        let to = open[..best].partition_point(|other| *other < left);
        open[to..=best].rotate_right(1);
        open[to] = left;
        if left.0 == 0 {
            open.remove(to);
        }
    }
    // From the pieces of each row to where they end, and each piece to its row.
    let mut next = Vec::with_capacity(ends.len());
    let mut sum = 0;
    for end in &mut ends {
        next.push(sum);
        sum += *end;
        *end = sum;
    }
    let mut pieces = vec![(0, 0); rests.len()];
    for item in order {
        let item = item as u32 as usize;
        let place = &mut next[row_of[item] as usize];
        pieces[*place as usize] = rests[item].1;
        *place += 1;
    }
    (pieces, ends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::corpus::batch::IGNORE;
    use crate::corpus::{Corpus, sample};

    fn packed(lengths: &[usize], length: usize, end: Option<u32>) -> BestFit {
        let (_folder, prefix) = sample::corpus(lengths, None);
        let corpus = Arc::new(Corpus::open(&prefix).unwrap());
        let all = 0..corpus.documents();
        BestFit::new(Stream::new(&corpus, std::slice::from_ref(&all), end, 1 << 30).unwrap(), length).unwrap()
    }

    fn rows(packed: &BestFit) -> Batch {
        let mut batch = Batch::default();
        (0..packed.rows()).for_each(|row| packed.row(row, &mut batch).unwrap());
        batch
    }

    #[test]
    fn each_document_goes_where_it_leaves_the_least_room() {
        // Lengths 6, 5, 3 and 2 with their end tokens: 7 + 3 and 6 + 4 fill two rows of 10.
        let batch = rows(&packed(&[3, 6, 5, 2], 10, Some(1)));
        assert_eq!((batch.rows, batch.length), (2, 10));
        let expected = [103, 104, 105, 106, 107, 108, 1, 114, 115, 1, 109, 110, 111, 112, 113, 1, 100, 101, 102, 1];
        assert_eq!((batch.tokens, batch.segments), (expected.to_vec(), vec![7, 3, 6, 4]));
    }

    #[test]
    fn a_long_document_fills_rows_of_its_own_and_its_rest_is_packed() {
        let batch = rows(&packed(&[9, 1, 8], 4, None));
        let tokens: Vec<_> = batch.tokens.chunks(4).map(<[i64]>::to_vec).collect();
        let long = [[100, 101, 102, 103], [104, 105, 106, 107], [110, 111, 112, 113], [114, 115, 116, 117]];
        assert_eq!(tokens[..4], long.map(Vec::from));
        assert_eq!(tokens[4], [108, 109, 0, 0]);
        assert_eq!(batch.segments, [4, 4, 4, 4, 1, 1, 2]);
        // The target of a row's last token is in the next row.
        assert_eq!((batch.targets[3], batch.targets[7], batch.targets[11]), (104, 108, 114));
        assert_eq!(batch.targets[15..], [IGNORE; 5]);
    }

    #[test]
    fn few_tokens_are_padding_on_lengths_as_they_occur() {
        // Log-normal lengths of median 500 and mean 1000, from fixed normal deviates (Box & Muller 1958).
        let mut state = 1;
        let mut uniform = || {
            state = crate::corpus::permutation::mix(&[state]);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut length = || {
            let normal = (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
            (500.0 * (1.18 * normal).exp()).ceil() as usize
        };
        let lengths: Vec<usize> = (0..4000).map(|_| length()).collect();
        let tokens: usize = lengths.iter().map(|length| length + 1).sum();
        for length in [1024, 4096] {
            let rows = packed(&lengths, length, Some(1)).rows();
            let padding = 1.0 - tokens as f64 / (rows as usize * length) as f64;
            assert!((0.0..0.01).contains(&padding), "{padding} of rows of {length}");
        }
    }

    proptest! {
        #[test]
        fn every_token_comes_once_and_no_document_that_fits_a_row_is_cut(
            lengths in prop::collection::vec(prop_oneof![0_usize..12, 0_usize..60], 0..400),
            length in 1_usize..24,
            ended: bool,
        ) {
            let (packed, added) = (packed(&lengths, length, ended.then_some(1)), usize::from(ended));
            let batch = rows(&packed);
            prop_assert_eq!(batch.tokens.len() as u64, packed.rows() * length as u64);
            prop_assert_eq!(batch.segments.iter().sum::<i64>() as usize, batch.tokens.len());
            let mut seen: Vec<_> = batch.tokens.iter().filter(|token| **token >= sample::FIRST).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().copied().eq((sample::FIRST..).take(lengths.iter().sum())));
            // The segments of each document, from its tokens; its end token is in the last of them.
            let mut starts = lengths.iter().scan(sample::FIRST, |at, own| Some(std::mem::replace(at, *at + *own as i64)));
            let starts: Vec<i64> = starts.by_ref().collect();
            let (mut at, mut cuts, mut trained) = (0, vec![0; lengths.len()], 0);
            for segment in &batch.segments {
                let tokens = &batch.tokens[at..at + *segment as usize];
                if tokens[0] >= sample::FIRST {
                    cuts[starts.partition_point(|start| *start <= tokens[0]) - 1] += 1;
                }
                prop_assert_eq!(batch.positions[at], 0);
                at += *segment as usize;
            }
            for (own, cuts) in lengths.iter().zip(cuts) {
                let places = own + added;
                prop_assert!(cuts <= places.div_ceil(length), "{own} tokens in {cuts} segments of {length}");
                trained += places.saturating_sub(1);
            }
            prop_assert_eq!(batch.targets.iter().filter(|target| **target != IGNORE).count(), trained);
            // Any order of asking gives the same rows.
            let mut backwards = Batch::default();
            (0..packed.rows()).rev().for_each(|row| packed.row(row, &mut backwards).unwrap());
            let flipped: Vec<i64> = backwards.tokens.chunks(length).rev().flatten().copied().collect();
            prop_assert_eq!(flipped, batch.tokens);
        }
    }
}
