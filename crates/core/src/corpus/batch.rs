//! One packed batch: what the loader hands to training, in plain vectors.

/// A target that is not learned.
pub const IGNORE: i64 = -100;

/// `rows` rows of `length` tokens each, flattened row after row (N = rows x length).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// B: rows.
    pub rows: usize,
    /// T: tokens a row.
    pub length: usize,
    /// `[N]` token ids.
    pub tokens: Vec<i64>,
    /// `[N]` the next token of the same document, or [`IGNORE`].
    pub targets: Vec<i64>,
    /// `[N]` loss weight of each target, 0 where there is none.
    pub weights: Vec<f32>,
    /// `[N]` position inside the document (or inside the row, when documents are not masked).
    pub positions: Vec<i64>,
    /// Lengths of the attention segments in order; they sum to N and none crosses a row.
    pub segments: Vec<i64>,
    /// `[B]` the source each row was drawn from, as an index into the plan's sources.
    pub sources: Vec<u16>,
}

impl Batch {
    /// No rows yet, and room for `rows` of `length` tokens.
    #[must_use]
    pub fn with_capacity(rows: usize, length: usize) -> Self {
        let places = rows * length;
        Self {
            tokens: Vec::with_capacity(places + 1),
            targets: Vec::with_capacity(places),
            weights: Vec::with_capacity(places),
            positions: Vec::with_capacity(places),
            sources: Vec::with_capacity(rows),
            ..Self::default()
        }
    }

    /// Takes all rows out; what they were kept in stays, for the rows that come next.
    pub fn clear(&mut self) {
        let Self { rows, length, tokens, targets, weights, positions, segments, sources } = self;
        (*rows, *length) = (0, 0);
        tokens.clear();
        targets.clear();
        weights.clear();
        positions.clear();
        segments.clear();
        sources.clear();
    }
}
