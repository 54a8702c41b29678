//! A histogram by powers of two: as fine for ten as for ten million, and at most 65 buckets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts by powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    /// By the least value of a bucket: 0, 1, 2, 4, 8, …; only buckets that hold something.
    buckets: BTreeMap<u64, Bucket>,
}

/// What fell into one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.add_bucket(value, Bucket { count: 1, sum: value });
    }

    /// Counts what another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        other.buckets.iter().for_each(|(least, bucket)| self.add_bucket(*least, *bucket));
    }

    fn add_bucket(&mut self, value: u64, added: Bucket) {
        let least = value.checked_ilog2().map_or(0, |power| 1 << power);
        let bucket = self.buckets.entry(least).or_default();
        bucket.count = bucket.count.saturating_add(added.count);
        bucket.sum = bucket.sum.saturating_add(added.sum);
    }

    /// Values counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.values().fold(0, |count, bucket| count.saturating_add(bucket.count))
    }

    /// The sum of the values counted.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.buckets.values().fold(0, |sum, bucket| sum.saturating_add(bucket.sum))
    }

    /// Its buckets with their least values, ascending, from the first that holds something to the last.
    #[must_use]
    pub fn rows(&self) -> Vec<(u64, Bucket)> {
        let (Some((first, _)), Some((last, _))) = (self.buckets.first_key_value(), self.buckets.last_key_value())
        else {
            return Vec::new();
        };
        let leasts = std::iter::once(0).chain((0..u64::BITS).map(|power| 1 << power));
        let within = leasts.filter(|least| (first..=last).contains(&least));
        within.map(|least| (least, self.buckets.get(&least).copied().unwrap_or_default())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_powers_of_two() {
        let mut histogram = Histogram::default();
        [0, 1, 3, 3, 9].into_iter().for_each(|value| histogram.add(value));
        let rows: Vec<_> = histogram.rows().iter().map(|(least, b)| (*least, b.count, b.sum)).collect();
        assert_eq!(rows, [(0, 1, 0), (1, 1, 1), (2, 2, 6), (4, 0, 0), (8, 1, 9)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, 16));
        histogram.add(u64::MAX);
        assert_eq!(histogram.rows().len(), 65);
        assert!(Histogram::default().rows().is_empty());
    }
}
