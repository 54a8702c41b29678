//! Which source each row of a stage comes from: declared shares, kept to within one row from the first row to the last.
//!
//! Handing each row to the source that is furthest behind does not do that: with many sources, one of them can fall more
//! than a row behind. Tijdeman's algorithm for the chairman assignment problem (Discrete Mathematics 32, 1980) does: of the
//! `k` sources, those take part that are at least `1 / (2k - 2)` of a row behind, and the one goes first that could wait
//! for the fewest further rows. No source is then ever more than `1 - 1 / (2k - 2)` rows from its share. The only state is
//! how many rows each source has given, so a mixture goes on from those counts alone.

use super::CorpusError;

/// Units that shares are counted in. A share is rounded by less than one of them: less than a hundredth of a row in any
/// run of fewer than 10^11 rows, which is below the margin of Tijdeman's bound for up to fifty sources.
const UNITS: u64 = 1 << 44;

/// The shares of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixture {
    /// Units of each source; they sum to [`UNITS`].
    units: Vec<u64>,
    /// `2k - 2` for the `k` sources that have a share.
    grain: u128,
}

impl Mixture {
    /// The mixture with these shares, one a source; they are divided by their sum.
    ///
    /// # Errors
    /// A share that is negative or not a number, or none above 0.
    pub fn new(shares: &[f64]) -> Result<Self, CorpusError> {
        let sum: f64 = shares.iter().sum();
        if !(sum.is_finite() && sum > 0.0 && shares.iter().all(|share| *share >= 0.0)) {
            let reason = format!("a mixture of {shares:?}: expected shares of 0 or more, one of them above 0");
            return Err(CorpusError::Order { reason });
        }
        let exact: Vec<f64> = shares.iter().map(|share| share / sum * UNITS as f64).collect();
        let mut units: Vec<u64> = exact.iter().map(|units| units.floor() as u64).collect();
        // What rounding down leaves goes where it took most, and never to a source without a share.
        let mut order: Vec<usize> = (0..shares.len()).filter(|i| shares[*i] > 0.0).collect();
        order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()).then(a.cmp(b)));
        let rest = UNITS.saturating_sub(units.iter().sum());
        order.iter().cycle().take(rest as usize).for_each(|i| units[*i] += 1);
        let sources = units.iter().filter(|units| **units > 0).count() as u128;
        Ok(Self { units, grain: (2 * sources).saturating_sub(2) })
    }

    /// The source of the next row, given the rows that each source has given in this stage; adds it to them.
    ///
    /// `drawn` has one count a source.
    pub fn draw(&self, drawn: &mut [u64]) -> usize {
        let row = drawn.iter().map(|count| u128::from(*count)).sum::<u128>() + 1;
        let (grain, whole) = (self.grain, u128::from(UNITS));
        let mut best: Option<(u128, usize)> = None;
        for (source, (units, count)) in self.units.iter().zip(drawn.iter()).enumerate() {
            let (units, given) = (u128::from(*units), u128::from(*count) * whole);
            if units == 0 || grain * units * row < grain * given + whole {
                continue;
            }
            // The last row that may pass before the source is too far behind.
            let latest = (grain * given + (grain.max(1) - 1) * whole) / (grain.max(1) * units);
            if best.is_none_or(|(least, _)| latest < least) {
                best = Some((latest, source));
            }
        }
        let source = best.map_or_else(|| self.furthest_behind(drawn, row), |(_, source)| source);
        drawn[source] += 1;
        source
    }

    /// For one source, and for counts that other shares led to: the source whose next row is due first.
    fn furthest_behind(&self, drawn: &[u64], row: u128) -> usize {
        let behind = |source: usize| {
            let (asked, given) = (row * u128::from(self.units[source]), u128::from(drawn[source]) * u128::from(UNITS));
            asked as i128 - given as i128
        };
        let sources = (0..self.units.len()).filter(|source| self.units[*source] > 0);
        sources.rev().max_by_key(|source| behind(*source)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest distance of any source from its share after any of the first `rows` rows.
    fn worst(shares: &[f64], rows: u64) -> f64 {
        let mixture = Mixture::new(shares).unwrap();
        let (sum, mut drawn, mut worst): (f64, _, f64) = (shares.iter().sum(), vec![0; shares.len()], 0.0);
        for row in 1..=rows {
            mixture.draw(&mut drawn);
            for (share, count) in shares.iter().zip(&drawn) {
                worst = worst.max((share / sum * row as f64 - *count as f64).abs());
            }
        }
        worst
    }

    fn share() -> impl Strategy<Value = f64> {
        prop_oneof![4 => 0.01_f64..1.0, 1 => 1e-9_f64..1e-3, 1 => Just(0.0), 1 => (1_u32..6).prop_map(f64::from)]
    }

    proptest! {
        #[test]
        fn every_source_is_within_one_row_of_its_share_after_every_row(
            shares in prop::collection::vec(share(), 1..=12).prop_filter("all 0", |all| all.iter().any(|s| *s > 0.0)),
        ) {
            let with_a_share = shares.iter().filter(|share| **share > 0.0).count() as f64;
            let bound = if with_a_share == 1.0 { 1e-6 } else { 1.0 - 1.0 / (2.0 * with_a_share - 2.0) + 1e-6 };
            let worst = worst(&shares, 3000);
            prop_assert!(worst <= bound, "{worst} rows from its share, allowed {bound}");
        }

        #[test]
        fn a_mixture_goes_on_from_its_counts_alone(
            shares in prop::collection::vec(0.01_f64..1.0, 1..8),
            cut in 0_usize..200,
        ) {
            let mixture = Mixture::new(&shares).unwrap();
            let mut drawn = vec![0; shares.len()];
            let whole: Vec<_> = (0..300).map(|_| mixture.draw(&mut drawn)).collect();
            let mut counts = vec![0; shares.len()];
            whole[..cut].iter().for_each(|source| counts[*source] += 1);
            let rest: Vec<_> = (cut..300).map(|_| mixture.draw(&mut counts)).collect();
            prop_assert_eq!(&whole[cut..], &rest);
        }

        #[test]
        fn counts_that_other_shares_led_to_are_gone_on_from(
            shares in prop::collection::vec(share(), 1..6).prop_filter("all 0", |all| all.iter().any(|s| *s > 0.0)),
            counts in prop::collection::vec(0_u64..1 << 62, 6),
        ) {
            let mut counts = counts[..shares.len()].to_vec();
            let source = Mixture::new(&shares).unwrap().draw(&mut counts);
            prop_assert!(shares[source] > 0.0);
        }
    }

    #[test]
    fn a_source_without_a_share_gives_no_row_and_a_million_rows_are_exact() {
        let mut drawn = [0; 4];
        let mixture = Mixture::new(&[0.5, 0.0, 0.3, 0.2]).unwrap();
        (0..1_000_000).for_each(|_| _ = mixture.draw(&mut drawn));
        assert_eq!(drawn, [500_000, 0, 300_000, 200_000]);
    }

    #[test]
    fn shares_that_are_none_are_refused() {
        for shares in [&[][..], &[0.0, 0.0], &[1.0, -0.5], &[f64::NAN], &[f64::INFINITY]] {
            assert!(Mixture::new(shares).is_err(), "{shares:?}");
        }
        let error = Mixture::new(&[1.0, -0.5]).unwrap_err().to_string();
        assert_eq!(error, "a mixture of [1.0, -0.5]: expected shares of 0 or more, one of them above 0");
    }
}
