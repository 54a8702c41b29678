//! The units in which ranks share a model: what is gathered, and whose gradients are reduced, in one collective each.

use crate::hf::names;
use crate::model::config::ModelConfig;

/// The units of a model: its embedding; each layer; the final norm with the head. Where the head is the embedding, the final
/// norm belongs to that one's unit, which is then the first and the last in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    /// Elements of the embedding's.
    pub embedding: u64,
    /// Elements of one layer's.
    pub layer: u64,
    /// How many layers there are.
    pub layers: usize,
    /// Elements of the final norm's and the head's; `None` where they are the embedding's.
    pub head: Option<u64>,
}

impl Units {
    /// Those of a model.
    #[must_use]
    pub fn of(config: &ModelConfig) -> Self {
        let (table, norm) = ((config.vocab_size * config.hidden_size) as u64, config.hidden_size as u64);
        let (embedding, head) = if config.tied_embeddings { (table + norm, None) } else { (table, Some(norm + table)) };
        let in_layers = names::total(config) - embedding - head.unwrap_or(0);
        Self { embedding, layer: in_layers / (config.layers as u64).max(1), layers: config.layers, head }
    }

    /// The same, each filled up to a multiple of `ranks`, so that as many share it evenly.
    #[must_use]
    pub fn padded(self, ranks: usize) -> Self {
        let even = |elements: u64| elements.next_multiple_of((ranks as u64).max(1));
        let Self { embedding, layer, layers, head } = self;
        Self { embedding: even(embedding), layer: even(layer), layers, head: head.map(even) }
    }

    /// Elements of all units.
    #[must_use]
    pub fn total(self) -> u64 {
        self.embedding + self.layer * self.layers as u64 + self.head.unwrap_or(0)
    }

    /// Elements of each, in the order in which their backward passes are done.
    #[must_use]
    pub fn backward(self) -> Vec<u64> {
        let layers = std::iter::repeat_n(self.layer, self.layers);
        self.head.into_iter().chain(layers).chain([self.embedding]).collect()
    }

    /// Most elements that are gathered at a time: of two units side by side, of which one is computed and the other comes;
    /// a tied embedding is there besides all the while.
    #[must_use]
    pub fn gathered(self) -> u64 {
        let all = self.backward();
        let (tied, others) = match self.head {
            Some(_) => (0, all.as_slice()),
            None => (self.embedding, &all[..self.layers]),
        };
        tied + others.windows(2).map(|two| two.iter().sum::<u64>()).max().unwrap_or(others.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units { embedding: 50, layer: 31, layers: 3, head: Some(54) };

    #[test]
    fn units_are_filled_up_each_by_itself() {
        assert_eq!(UNITS.total(), 50 + 93 + 54);
        assert_eq!(UNITS.padded(8), Units { embedding: 56, layer: 32, layers: 3, head: Some(56) });
        assert_eq!(UNITS.padded(1), UNITS);
    }

    #[test]
    fn two_units_side_by_side_are_gathered_and_a_tied_embedding_besides() {
        assert_eq!(UNITS.gathered(), 54 + 31);
        assert_eq!(Units { head: None, ..UNITS }.gathered(), 50 + 2 * 31);
        assert_eq!(Units { head: None, layers: 1, ..UNITS }.gathered(), 50 + 31);
        assert_eq!(Units { layers: 0, ..UNITS }.gathered(), 104);
        assert_eq!(UNITS.backward(), [54, 31, 31, 31, 50]);
        assert_eq!(Units { head: None, ..UNITS }.backward(), [31, 31, 31, 50]);
    }
}
