//! The merges of a byte-level BPE: bytes of a word into tokens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Symbols up to which the best pair is looked for one by one; beyond, a heap has it.
const SHORT: usize = 48;
/// Room that is kept from word to word, in symbols.
const KEPT: usize = 1 << 16;
/// No merge: its rank is behind all others.
const NONE: u32 = u32::MAX;

/// Which pairs of tokens become one, and which goes first.
pub(super) struct Merges {
    /// The token of a byte.
    bytes: [u32; 256],
    /// The rank and the token of two bytes, by the first times 256 and the second: most of what is looked up.
    pairs: Vec<(u32, u32)>,
    /// Open addressing: `[pair, rank and token]`, a power of two long, at most half full.
    table: Vec<[u64; 2]>,
    shift: u32,
}

/// Room to work in.
#[derive(Default)]
pub(super) struct Room {
    symbols: Vec<Symbol>,
    ranks: Vec<(u32, u32)>,
    queue: BinaryHeap<Reverse<u64>>,
}

/// A token in a long word, and its neighbours' places.
#[derive(Clone, Copy)]
struct Symbol {
    token: u32,
    previous: u32,
    next: u32,
}

/// The place before the first and after the last, and after one that was merged into its left neighbour.
const NOWHERE: u32 = u32::MAX;

impl Merges {
    /// From the bytes' tokens and the merges: two tokens and what they become, the first merge the most urgent. Of two for
    /// the same pair the later counts, as in the library.
    pub(super) fn new(bytes: [u32; 256], merges: &[(u32, u32, u32)]) -> Self {
        let size = (merges.len() * 2).next_power_of_two().max(2);
        let mut this =
            Self { bytes, pairs: Vec::new(), table: vec![[u64::MAX; 2]; size], shift: 64 - size.trailing_zeros() };
        for (rank, (left, right, token)) in merges.iter().enumerate() {
            let pair = pair(*left, *right);
            let mut at = this.home(pair);
            while this.table[at][0] != u64::MAX && this.table[at][0] != pair {
                at = (at + 1) & (size - 1);
            }
            this.table[at] = [pair, (rank as u64) << 32 | u64::from(*token)];
        }
        this.pairs = (0..1 << 16).map(|pair| this.get(bytes[pair >> 8], bytes[pair & 255])).collect();
        this
    }

    fn home(&self, pair: u64) -> usize {
        (pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// The rank of a pair and the token it becomes.
    #[inline]
    fn get(&self, left: u32, right: u32) -> (u32, u32) {
        let pair = pair(left, right);
        let mut at = self.home(pair);
        loop {
            let [found, value] = self.table[at];
            if found == pair {
                return ((value >> 32) as u32, value as u32);
            }
            if found == u64::MAX {
                return (NONE, 0);
            }
            at = (at + 1) & (self.table.len() - 1);
        }
    }

    /// Appends the tokens of a word. It errs where the word has 4 GiB.
    pub(super) fn encode(&self, word: &[u8], room: &mut Room, tokens: &mut Vec<u32>) -> Result<(), String> {
        match word.len() {
            0 => {}
            1 => tokens.push(self.bytes[usize::from(word[0])]),
            2..=SHORT => self.short(word, room, tokens),
            length if length >= NOWHERE as usize => return Err(format!("a word of {length} bytes: at most 4 GiB")),
            _ => self.long(word, room, tokens),
        }
        Ok(())
    }

    /// The best pair is looked for anew each time; the work grows with the square of the length.
    fn short(&self, word: &[u8], room: &mut Room, tokens: &mut Vec<u32>) {
        let base = tokens.len();
        tokens.extend(word.iter().map(|byte| self.bytes[usize::from(*byte)]));
        let ranks = &mut room.ranks;
        ranks.clear();
        ranks.extend(word.windows(2).map(|two| self.pairs[usize::from(two[0]) << 8 | usize::from(two[1])]));
        loop {
            let mut best = (NONE, 0);
            for (at, (rank, _)) in ranks.iter().enumerate() {
                if *rank < best.0 {
                    best = (*rank, at);
                }
            }
            let (rank, at) = best;
            if rank == NONE {
                return;
            }
            tokens[base + at] = ranks[at].1;
            tokens.remove(base + at + 1);
            ranks.remove(at);
            if at > 0 {
                ranks[at - 1] = self.get(tokens[base + at - 1], tokens[base + at]);
            }
            if at < ranks.len() {
                ranks[at] = self.get(tokens[base + at], tokens[base + at + 1]);
            }
        }
    }

    /// A heap of pairs by rank, then place. Entries of pairs that are no more are passed over: a rank belongs to one pair.
    fn long(&self, word: &[u8], room: &mut Room, tokens: &mut Vec<u32>) {
        let Room { symbols, queue, .. } = room;
        symbols.clear();
        symbols.extend(word.iter().enumerate().map(|(at, byte)| Symbol {
            token: self.bytes[usize::from(*byte)],
            previous: (at as u32).wrapping_sub(1),
            next: if at + 1 < word.len() { at as u32 + 1 } else { NOWHERE },
        }));
        let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        let mut entries = std::mem::take(queue).into_vec();
        entries.clear();
        entries.extend(word.windows(2).enumerate().filter_map(|(at, two)| {
            let (rank, _) = self.pairs[usize::from(two[0]) << 8 | usize::from(two[1])];
            (rank != NONE).then(|| entry(rank, at as u32))
        }));
        *queue = BinaryHeap::from(entries);
        while let Some(Reverse(best)) = queue.pop() {
            let (rank, at) = ((best >> 32) as u32, best as u32);
            let left = symbols[at as usize];
            if left.next == NOWHERE {
                continue;
            }
            let right = symbols[left.next as usize];
            let (current, token) = self.get(left.token, right.token);
            if current != rank {
                continue;
            }
            symbols[left.next as usize].next = NOWHERE;
            symbols[at as usize] = Symbol { token, previous: left.previous, next: right.next };
            if right.next != NOWHERE {
                symbols[right.next as usize].previous = at;
                let (rank, _) = self.get(token, symbols[right.next as usize].token);
                if rank != NONE {
                    queue.push(entry(rank, at));
                }
            }
            if left.previous != NOWHERE {
                let (rank, _) = self.get(symbols[left.previous as usize].token, token);
                if rank != NONE {
                    queue.push(entry(rank, left.previous));
                }
            }
        }
        let mut at = 0;
        while at != NOWHERE {
            let symbol = symbols[at as usize];
            tokens.push(symbol.token);
            at = symbol.next;
        }
        if symbols.len() > KEPT {
            *room = Room::default();
        }
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Merges as they are defined: the most urgent pair, the leftmost of its kind, again and again.
    fn defined(bytes: &[u32; 256], merges: &[(u32, u32, u32)], word: &[u8]) -> Vec<u32> {
        let mut tokens: Vec<u32> = word.iter().map(|byte| bytes[usize::from(*byte)]).collect();
        loop {
            let best = (0..tokens.len().saturating_sub(1))
                .filter_map(|at| {
                    let rank = merges.iter().rposition(|merge| (merge.0, merge.1) == (tokens[at], tokens[at + 1]))?;
                    Some((rank, at))
                })
                .min();
            let Some((rank, at)) = best else { return tokens };
            tokens[at] = merges[rank].2;
            tokens.remove(at + 1);
        }
    }

    proptest! {
        #[test]
        fn short_and_long_words_are_merged_as_defined(
            letters in proptest::collection::vec(0_u8..3, 1..120),
            pairs in proptest::collection::vec((0_usize..12, 0_usize..12), 0..24),
        ) {
            let bytes: [u32; 256] = std::array::from_fn(|byte| byte as u32);
            // Every token stands for one string, as in a vocabulary.
            let mut strings: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
            let mut known = vec![0, 1, 2];
            let mut merges = Vec::new();
            for (left, right) in pairs {
                let (left, right): (u32, u32) = (known[left % known.len()], known[right % known.len()]);
                let string = [&strings[left as usize][..], &strings[right as usize]].concat();
                let token = strings.iter().position(|one| *one == string).unwrap_or_else(|| {
                    strings.push(string);
                    strings.len() - 1
                }) as u32;
                known.push(token);
                merges.push((left, right, token));
            }
            // As in the library, where a map holds them, a pair has the rank of its last mention.
            let model = Merges::new(bytes, &merges);
            let expected = defined(&bytes, &merges, &letters);
            let mut room = Room::default();
            let (mut short, mut long, mut either) = (Vec::new(), Vec::new(), Vec::new());
            model.short(&letters, &mut room, &mut short);
            model.long(&letters, &mut room, &mut long);
            model.encode(&letters, &mut room, &mut either).unwrap();
            prop_assert_eq!(&short, &expected);
            prop_assert_eq!(&long, &expected);
            prop_assert_eq!(&either, &expected);
        }
    }
}
