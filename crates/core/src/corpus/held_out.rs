//! Which documents are kept for validation: a fixed set that depends on nothing but their number and the share.
//!
//! They are short runs of neighbours spread evenly over the corpus, so a corpus sorted by topic or date is held out in
//! proportion, and both parts are a handful of ranges however many documents there are.

use std::ops::Range;

/// Most runs held out.
const RUNS: u64 = 64;

/// Ranges of documents: those to train on, and those to validate on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Trained on.
    pub train: Vec<Range<u64>>,
    /// Never trained on.
    pub held_out: Vec<Range<u64>>,
}

/// Holds `share` of `documents` out, rounded to whole documents: at least one where the share is not 0, and never all.
#[must_use]
pub fn split(documents: u64, share: f64) -> Split {
    let asked = (documents as f64 * share).round() as u64;
    let held = if share > 0.0 { asked.max(1).min(documents.saturating_sub(1)) } else { 0 };
    let mut split = Split::default();
    let runs = RUNS.min(held).max(1);
    let share_of =
        |whole: u64, part: u64, of: u64| (u128::from(whole) * u128::from(part) / u128::from(of.max(1))) as u64;
    for run in 0..runs {
        let (start, end) = (share_of(documents, run, runs), share_of(documents, run + 1, runs));
        // By the place in the corpus, not by run: so a run never holds out more documents than it has.
        let cut = end - (share_of(held, end, documents) - share_of(held, start, documents));
        split.train.extend((start < cut).then_some(start..cut));
        split.held_out.extend((cut < end).then_some(cut..end));
    }
    split
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_document_is_on_one_side_and_the_share_is_met(documents in 0_u64..5000, share in 0.0..1.0) {
            let Split { train, held_out } = split(documents, share);
            let mut all: Vec<_> = train.iter().chain(&held_out).cloned().flatten().collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..documents));
            let held: u64 = held_out.iter().map(|range| range.end - range.start).sum();
            if documents > 1 {
                prop_assert!((held as f64 - documents as f64 * share).abs() <= 1.0);
                prop_assert!(!train.is_empty());
            }
        }
    }

    #[test]
    fn a_corpus_of_any_size_is_cut_into_few_ranges_all_over_it() {
        let Split { train, held_out } = split(u64::MAX / 2, 0.01);
        assert_eq!((train.len(), held_out.len()), (64, 64));
        let tenths: Vec<_> = held_out.iter().map(|range| range.start / (u64::MAX / 20)).collect();
        assert!((0..10).all(|tenth| tenths.contains(&tenth)));
        for (documents, share, held) in [(10, 0.0, 0..0), (1, 0.5, 0..0), (2, 0.01, 1..2)] {
            let Split { train, held_out } = split(documents, share);
            assert!(train.into_iter().flatten().eq(0..documents - (held.end - held.start)));
            assert!(held_out.into_iter().flatten().eq(held));
        }
    }
}
