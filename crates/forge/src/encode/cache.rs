//! Words that were met before, and their tokens: what makes encoding fast, since few words are met for the first time.
//!
//! Words of up to 15 bytes and 4 tokens lie in a table of 64-byte lines, each with the two latest words that hash to it, so a
//! word costs one line of memory. Longer words lie in an arena that is emptied when full. Nothing grows beyond a bound (11 MiB
//! together), and nothing in here changes a result.

use xxhash_rust::xxh3::xxh3_64;

/// Lines of the table of short words, 64 bytes each.
const LINES: usize = 1 << 16;
/// Places for longer words, 24 bytes each.
const PLACES: usize = 1 << 15;
/// Bytes and tokens of longer words that are kept.
const ARENA: usize = 1 << 21;
/// The longest word that is kept.
const LONGEST: usize = 256;

/// No token: the rest of a short word's four places.
const NONE: u32 = u32::MAX;

/// Two short words: a key of 16 bytes (the word, and its length in the last byte) and four tokens each.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line([Short; 2]);

#[derive(Clone, Copy, Default)]
struct Short {
    key: u128,
    tokens: [u32; 4],
}

/// A longer word's place in the arenas.
#[derive(Clone, Copy, Default)]
struct Long {
    hash: u64,
    bytes: u32,
    tokens: u32,
    length: u16,
    count: u16,
}

/// One thread's words.
pub(super) struct Cache {
    lines: Vec<Line>,
    places: Vec<Long>,
    bytes: Vec<u8>,
    tokens: Vec<u32>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            lines: vec![Line::default(); LINES],
            places: vec![Long::default(); PLACES],
            bytes: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

impl Cache {
    /// Appends the tokens of the word at `start..end` of `text`, which `encode` appends where they are not known.
    #[inline(always)]
    pub(super) fn tokens<E>(
        &mut self,
        text: &[u8],
        start: usize,
        end: usize,
        into: &mut Vec<u32>,
        encode: impl FnOnce(&[u8], &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        if end - start > 15 {
            return self.long(&text[start..end], into, encode);
        }
        let key = key(text, start, end);
        let at = home(key);
        let [first, second] = self.lines[at].0;
        let found = if first.key == key {
            first.tokens
        } else if second.key == key {
            second.tokens
        } else {
            return self.unknown(&text[start..end], key, into, encode);
        };
        // Four tokens are copied at once, then those that are none taken back.
        let count = 1 + usize::from(found[1] != NONE) + usize::from(found[2] != NONE) + usize::from(found[3] != NONE);
        let length = into.len() + count;
        into.extend_from_slice(&found);
        into.truncate(length);
        Ok(())
    }

    /// A short word that the table does not hold.
    #[inline(never)]
    fn unknown<E>(
        &mut self,
        word: &[u8],
        key: u128,
        into: &mut Vec<u32>,
        encode: impl FnOnce(&[u8], &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = into.len();
        encode(word, into)?;
        let found = &into[before..];
        if found.is_empty() || found.len() > 4 {
            return Ok(());
        }
        let mut tokens = [NONE; 4];
        tokens[..found.len()].copy_from_slice(found);
        let Line([first, second]) = &mut self.lines[home(key)];
        *second = *first;
        *first = Short { key, tokens };
        Ok(())
    }

    /// A longer word.
    #[inline(never)]
    fn long<E>(
        &mut self,
        word: &[u8],
        into: &mut Vec<u32>,
        encode: impl FnOnce(&[u8], &mut Vec<u32>) -> Result<(), E>,
    ) -> Result<(), E> {
        if word.len() > LONGEST {
            return encode(word, into);
        }
        let hash = xxh3_64(word);
        let at = hash as usize % PLACES;
        let Long { bytes, tokens, length, count, .. } = self.places[at];
        if self.places[at].hash == hash && self.bytes.get(bytes as usize..).is_some_and(|rest| rest.starts_with(word)) {
            let from = tokens as usize;
            if let Some(tokens) = self.tokens.get(from..from + usize::from(count))
                && usize::from(length) == word.len()
            {
                into.extend_from_slice(tokens);
                return Ok(());
            }
        }
        let before = into.len();
        encode(word, into)?;
        let found = &into[before..];
        if found.len() > LONGEST {
            return Ok(());
        }
        if self.bytes.len() + word.len() > ARENA || self.tokens.len() + found.len() > ARENA / 2 {
            self.places.fill(Long::default());
            self.bytes.clear();
            self.tokens.clear();
        }
        self.places[at] = Long {
            hash,
            bytes: self.bytes.len() as u32,
            tokens: self.tokens.len() as u32,
            length: word.len() as u16,
            count: found.len() as u16,
        };
        self.bytes.extend_from_slice(word);
        self.tokens.extend_from_slice(found);
        Ok(())
    }
}

/// A word of up to 15 bytes and its length.
#[inline(always)]
fn key(text: &[u8], start: usize, end: usize) -> u128 {
    let length = end - start;
    let sixteen = match text.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
        Some(sixteen) => u128::from_le_bytes(*sixteen),
        None => {
            let mut padded = [0; 16];
            padded[..length].copy_from_slice(&text[start..end]);
            u128::from_le_bytes(padded)
        }
    };
    let word = sixteen & ((1 << (8 * length)) - 1);
    word | (length as u128) << 120
}

/// The line where a word lies.
#[inline(always)]
fn home(key: u128) -> usize {
    let (low, high) = (key as u64, (key >> 64) as u64);
    let mixed = (low ^ 0x9e37_79b9_7f4a_7c15) as u128 * (high ^ 0xd6e8_feb8_6659_fd93) as u128;
    ((mixed ^ mixed >> 64) as u64 >> 20) as usize % LINES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens that tell the word: its length, and its bytes.
    fn spell(word: &[u8], into: &mut Vec<u32>) -> Result<(), String> {
        into.push(word.len() as u32);
        into.extend(word.iter().step_by(7).map(|byte| u32::from(*byte)));
        Ok(())
    }

    #[test]
    fn a_word_is_itself_wherever_it_lies_and_however_full_the_cache_is() {
        let mut cache = Cache::default();
        for round in 0..3_usize {
            for number in 0..200_000_usize {
                let word = format!("{number}{}", "x\0".repeat(number % 40));
                let text = format!("{word}{}", " y".repeat(round * 10)).into_bytes();
                let (mut found, mut expected) = (vec![7], vec![7]);
                cache.tokens(&text, 0, word.len(), &mut found, spell).unwrap();
                spell(word.as_bytes(), &mut expected).unwrap();
                assert_eq!(found, expected, "{word:?}");
            }
        }
        let taken = cache.lines.len() * size_of::<Line>()
            + cache.places.len() * size_of::<Long>()
            + cache.bytes.len()
            + cache.tokens.len() * 4;
        assert!(taken <= 11 << 20, "{taken} bytes");
    }

    #[test]
    fn a_word_that_is_met_again_is_not_encoded_again() {
        let mut cache = Cache::default();
        let mut tokens = Vec::new();
        let nine = |_: &[u8], into: &mut Vec<u32>| {
            into.push(9);
            Ok::<_, String>(())
        };
        for word in ["short", "a word of more than fifteen bytes", "fifteen bytes!!"] {
            cache.tokens(word.as_bytes(), 0, word.len(), &mut tokens, nine).unwrap();
            let unknown = |_: &[u8], _: &mut Vec<u32>| Err("encoded again".to_owned());
            assert_eq!(cache.tokens(word.as_bytes(), 0, word.len(), &mut tokens, unknown), Ok(()), "{word}");
        }
        assert_eq!(tokens, [9; 6]);
    }

    #[test]
    fn bytes_that_are_zero_count() {
        let mut cache = Cache::default();
        let mut tokens = Vec::new();
        let count = |word: &[u8], into: &mut Vec<u32>| {
            into.push(word.len() as u32);
            Ok::<_, String>(())
        };
        for length in 1..=15 {
            cache.tokens(&vec![0; length], 0, length, &mut tokens, count).unwrap();
        }
        assert_eq!(tokens, (1..=15).collect::<Vec<u32>>());
    }
}
