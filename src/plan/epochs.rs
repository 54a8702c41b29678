//! How a stage's rows are shared out where some sources may not be repeated further.

/// Shares of a stage, and which of them were cut.
#[derive(Debug, PartialEq)]
pub(super) struct Shares {
    /// Share of each source; sums to 1.
    pub(super) shares: Vec<f64>,
    /// Whether a source has less than its weight asks for.
    pub(super) capped: Vec<bool>,
}

/// Shares `rows` out by `weights`, with no source giving more than the rows it has `left` (`None` for no end of them). What a
/// source cannot give goes to the others by their weights, until nobody is asked for more than it has.
///
/// # Errors
/// All sources of the stage together have too few rows left: how many they have.
pub(super) fn share(weights: &[f64], rows: u64, left: &[Option<u64>]) -> Result<Shares, u64> {
    let mut capped = vec![false; weights.len()];
    loop {
        let given: u64 = left.iter().zip(&capped).filter_map(|(left, capped)| left.filter(|_| *capped)).sum();
        let open: f64 = weights.iter().zip(&capped).filter(|(_, capped)| !**capped).map(|(weight, _)| weight).sum();
        let rest = rows.saturating_sub(given) as f64;
        if open <= 0.0 && rest > 0.0 {
            return Err(given);
        }
        let asked = |at: usize| if open > 0.0 { rest * weights[at] / open } else { 0.0 };
        let over = |at: usize| !capped[at] && left[at].is_some_and(|left| asked(at) > left as f64);
        let cut: Vec<usize> = (0..weights.len()).filter(|at| over(*at)).collect();
        if cut.is_empty() {
            let shares = (0..weights.len()).map(|at| match left[at] {
                Some(left) if capped[at] => left as f64 / rows as f64,
                _ => asked(at) / rows as f64,
            });
            return Ok(Shares { shares: shares.collect(), capped });
        }
        cut.into_iter().for_each(|at| capped[at] = true);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_source_cannot_give_goes_to_the_others_by_their_weights() {
        let shares = share(&[2.0, 1.0, 1.0], 100, &[Some(20), None, None]).unwrap();
        assert_eq!((shares.shares, shares.capped), (vec![0.2, 0.4, 0.4], vec![true, false, false]));
        // The second has enough for its own weight, and not for what the first leaves to it.
        let shares = share(&[2.0, 1.0, 1.0], 100, &[Some(20), Some(30), None]).unwrap();
        assert_eq!((shares.shares, shares.capped), (vec![0.2, 0.3, 0.5], vec![true, true, false]));
        let shares = share(&[1.0, 0.0], 10, &[None, Some(0)]).unwrap();
        assert_eq!((shares.shares, shares.capped), (vec![1.0, 0.0], vec![false, false]));
        assert_eq!(share(&[1.0, 1.0], 100, &[Some(20), Some(30)]), Err(50));
        assert_eq!(share(&[1.0, 1.0], 50, &[Some(20), Some(30)]).unwrap().shares, [0.4, 0.6]);
    }

    proptest! {
        #[test]
        fn shares_sum_to_one_and_no_source_gives_more_than_it_has(
            sources in prop::collection::vec((0_u32..10, prop::option::of(0_u64..1000)), 1..6),
            rows in 1_u64..2000,
        ) {
            let weights: Vec<f64> = sources.iter().map(|(weight, _)| f64::from(*weight)).collect();
            let left: Vec<_> = sources.iter().map(|(_, left)| *left).collect();
            match share(&weights, rows, &left) {
                Ok(Shares { shares, capped }) => {
                    prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                    for (at, share) in shares.iter().enumerate() {
                        prop_assert!(left[at].is_none_or(|left| share * rows as f64 <= left as f64 + 1e-6));
                        prop_assert!(weights[at] > 0.0 || *share == 0.0);
                        prop_assert!(!capped[at] || left[at].is_some());
                    }
                }
                Err(given) => {
                    let all: Option<u64> = sources.iter().filter(|(weight, _)| *weight > 0).map(|(_, left)| *left).sum();
                    prop_assert_eq!(all, Some(given));
                    prop_assert!(given < rows);
                }
            }
        }
    }
}
