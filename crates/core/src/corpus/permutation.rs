//! A shuffled order that needs no memory: the n-th item of a keyed permutation, computed when it is asked for.
//!
//! A balanced Feistel network (Luby & Rackoff 1988) permutes the smallest even power of two that holds all items; numbers
//! beyond the items are walked on until one falls inside (Black & Rogaway 2002, "cycle walking"). The domain is less than
//! four times the items, so an index takes less than four rounds of walking on average, whatever the size.

/// Rounds of the network. Four are indistinguishable from random to anyone without the key; the other two are margin for
/// the small domains that tests and demos have.
const ROUNDS: u64 = 6;

/// A permutation of `0..items`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    items: u64,
    /// Bits of each half.
    half: u32,
    key: u64,
}

impl Permutation {
    /// The permutation of `0..items` that belongs to `key`.
    #[must_use]
    pub fn new(items: u64, key: u64) -> Self {
        let bits = u64::BITS - items.saturating_sub(1).leading_zeros();
        Self { items, half: bits.div_ceil(2).max(1), key }
    }

    /// The item at place `index`; `None` beyond the last.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<u64> {
        if index >= self.items {
            return None;
        }
        let mut item = self.scramble(index);
        while item >= self.items {
            item = self.scramble(item);
        }
        Some(item)
    }

    fn scramble(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let (mut left, mut right) = (value >> self.half, value & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ mix(&[self.key, round, right]) & mask);
        }
        left << self.half | right
    }
}

/// A key from parts, such as a seed, a hash of a name, an epoch: each part changes every bit.
#[must_use]
pub fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |state, part| finalize((state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// The finalizer of SplitMix64 (Steele, Lea & Flood 2014): a bijection in which every input bit reaches every output bit.
fn finalize(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(items: u64, key: u64) -> Vec<u64> {
        let permutation = Permutation::new(items, key);
        (0..items).map(|index| permutation.get(index).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn every_item_comes_exactly_once(items in 0_u64..3000, key: u64) {
            let mut items_seen = all(items, key);
            items_seen.sort_unstable();
            prop_assert!(items_seen.into_iter().eq(0..items));
        }

        #[test]
        fn items_stay_below_their_number_at_any_size(items in 1_u64.., index: u64, key: u64) {
            let item = Permutation::new(items, key).get(index % items);
            prop_assert!(item.is_some_and(|item| item < items));
        }
    }

    #[test]
    fn there_is_nothing_beyond_the_last_item() {
        assert_eq!(Permutation::new(5, 1).get(5), None);
        assert_eq!(Permutation::new(0, 1).get(0), None);
        assert!(Permutation::new(u64::MAX, 1).get(u64::MAX - 1).is_some());
    }

    #[test]
    fn keys_give_different_orders_and_the_same_key_the_same() {
        assert_eq!(all(1000, 7), all(1000, 7));
        let agreeing = |a: u64, b: u64| all(1000, a).iter().zip(all(1000, b)).filter(|(a, b)| **a == *b).count();
        // Two random orders agree in one place on average.
        assert!((1..40).map(|key| agreeing(0, key)).sum::<usize>() < 100);
    }

    #[test]
    fn an_order_is_as_uneven_as_a_random_one() {
        // Where the first item lands, over many keys: chi-squared over 16 bins, far beyond the 0.001 quantile at 80.
        let mut bins = [0_u32; 16];
        for key in 0..16_000 {
            bins[(Permutation::new(1000, key).get(0).unwrap() * 16 / 1000) as usize] += 1;
        }
        let chi: f64 = bins.iter().map(|count| (f64::from(*count) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 80.0, "{bins:?}");
        // Neighbours in the order are not neighbours in the corpus.
        let order = all(10_000, 3);
        let close = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 1).count();
        assert!(close < 20, "{close}");
    }
}
