//! The loss weight of a token: the lowest of the runs that its bytes lie in.

use std::ops::Range;

use tokenizers::NormalizedString;
use tokenizers::tokenizer::normalizer::Range as Referential;

use crate::document::LEARNED;

/// Runs of one weight, as [`crate::document::Text::weights`] has them.
pub(super) type Run = (usize, u8);

/// Walks along a text's runs.
pub(super) struct Walk<'a> {
    runs: &'a [Run],
}

impl<'a> Walk<'a> {
    /// Starts at a byte of the text.
    pub(super) fn from(runs: &'a [Run], start: usize) -> Self {
        Self { runs: &runs[runs.partition_point(|run| run.0 <= start)..] }
    }

    /// The lowest weight in a range, which starts no earlier than the one before. An empty range has that of its place; what
    /// lies behind the last run is learned.
    pub(super) fn lowest(&mut self, range: Range<usize>) -> u8 {
        while let [(end, _), rest @ ..] = self.runs
            && *end <= range.start
        {
            self.runs = rest;
        }
        let mut lowest = LEARNED;
        for (end, weight) in self.runs {
            lowest = lowest.min(*weight);
            if *end >= range.end {
                break;
            }
        }
        lowest
    }
}

/// The runs of `range` of a text, counted from its start.
pub(super) fn within(runs: &[Run], range: Range<usize>) -> Vec<Run> {
    let mut cut = Vec::new();
    for (end, weight) in &runs[runs.partition_point(|run| run.0 <= range.start)..] {
        cut.push((end.min(&range.end) - range.start, *weight));
        if *end >= range.end {
            break;
        }
    }
    cut
}

/// The runs of a normalized text: a character has the lowest weight of what it was made of. `runs` are the original's.
pub(super) fn normalized(runs: &[Run], text: &NormalizedString) -> Vec<Run> {
    let original = |range| text.convert_offsets(Referential::Normalized(range)).unwrap_or(0..0);
    let mut made: Vec<Run> = Vec::new();
    let mut characters = text.get().char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let from = original(at..end);
        // The library says where a composed character begins, not which marks went into it: those up to the next one.
        let next =
            characters.peek().map_or(text.len_original(), |(at, next)| original(*at..at + next.len_utf8()).start);
        let weight = Walk::from(runs, from.start).lowest(from.start..from.end.max(next));
        match made.last_mut() {
            Some((last, same)) if *same == weight => *last = end,
            _ => made.push((end, weight)),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_the_runs_that_a_range_touches_counts() {
        let runs = [(2, 9), (4, 5), (5, 7)];
        let mut walk = Walk::from(&runs, 0);
        let ranges = [0..1, 0..2, 1..3, 2..4, 3..5, 4..5, 4..9, 5..9];
        assert_eq!(ranges.map(|range| walk.lowest(range)), [9, 9, 5, 5, 5, 7, 7, LEARNED]);
        assert_eq!(within(&runs, 1..4), [(1, 9), (3, 5)]);
        assert_eq!(within(&runs, 4..9), [(1, 7)]);
    }
}
