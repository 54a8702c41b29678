//! Where the documents of a packed batch begin and end.

/// Lengths of consecutive runs of tokens that attend only to themselves; they sum to N.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    lengths: Vec<i64>,
}

impl Segments {
    /// Segments of these lengths, in order.
    #[must_use]
    pub fn new(lengths: Vec<i64>) -> Self {
        Self { lengths }
    }

    /// Their lengths, in order.
    #[must_use]
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// The length all of them share, if they do.
    #[must_use]
    pub fn uniform(&self) -> Option<i64> {
        let first = *self.lengths.first()?;
        self.lengths.iter().all(|length| *length == first).then_some(first)
    }
}
