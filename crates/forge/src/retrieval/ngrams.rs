//! The features of a text: its hashed n-grams of words and of characters.
//!
//! Texts are compared without regard to ASCII case, to which digits a number has, and to how much white space stands where
//! there is some. Characters are counted in bytes of UTF-8, so that an n-gram is a few bits of one word that slides over the
//! text and nothing is allocated for it.

/// Longest n-gram of characters, in bytes: what one `u64` holds.
pub(super) const MAX_CHARACTERS: u32 = 8;

/// Longest n-gram of words.
pub(super) const MAX_WORDS: u32 = 4;

/// Odd, and its bits are those of the golden ratio: products with it spread evenly (Knuth, volume 3, section 6.4).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a byte counts as; never 0, so that n-grams of different lengths differ as numbers.
static SEEN_AS: [u8; 256] = seen_as();

/// Which bytes, as they are seen, make words.
static IN_WORD: [bool; 256] = in_word();

const fn seen_as() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            0..=b' ' | 0x7F => b' ',
            b'0'..=b'9' => b'0',
            other => other.to_ascii_lowercase(),
        };
        byte += 1;
    }
    table
}

const fn in_word() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'0' | b'_' | 0x80..);
        byte += 1;
    }
    table
}

/// Which n-grams there are, and how many buckets they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Buckets: indices are below it; 2^32 at most.
    pub(super) buckets: u64,
    /// Words of the longest n-gram of words; none where 0.
    pub(super) words: u32,
    /// Bytes of the shortest n-gram of characters.
    pub(super) from: u32,
    /// Bytes of the longest.
    pub(super) to: u32,
}

/// An n-gram of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gram {
    /// Its bucket.
    pub(super) bucket: usize,
    /// Whether it is of words rather than of characters.
    pub(super) words: bool,
    /// Where it begins, in bytes, if the text is as [`seen`] makes it.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
}

/// The part of a text that counts: its first `max_bytes`, without white space at the end.
pub(super) fn head(text: &[u8], max_bytes: u64) -> &[u8] {
    let limit = usize::try_from(max_bytes).unwrap_or(usize::MAX).min(text.len());
    let cut = &text[..limit];
    let end = cut.iter().rposition(|byte| SEEN_AS[usize::from(*byte)] != b' ').map_or(0, |last| last + 1);
    &cut[..end]
}

/// A text as it is seen: texts of the same form have the same n-grams, and so has the form itself.
pub(super) fn seen(text: &[u8]) -> Vec<u8> {
    let mut seen = Vec::with_capacity(text.len());
    let mut last = b' ';
    for byte in text {
        let byte = SEEN_AS[usize::from(*byte)];
        if byte != b' ' || last != b' ' {
            seen.push(byte);
        }
        last = byte;
    }
    seen
}

/// Calls `take` for every n-gram of a text, in order of their ends.
pub(super) fn each(text: &[u8], shape: &Shape, mut take: impl FnMut(Gram)) {
    // The usual lengths are unrolled.
    match (shape.from, shape.to) {
        (3, 5) => each_of::<3, 5>(text, shape, 3, 5, &mut take),
        (from, to) => each_of::<0, 0>(text, shape, from, to, &mut take),
    }
}

/// `FROM` and `TO` are the lengths where they are known beforehand, else 0.
#[inline(always)]
fn each_of<const FROM: u32, const TO: u32>(
    text: &[u8],
    shape: &Shape,
    from: u32,
    to: u32,
    take: &mut impl FnMut(Gram),
) {
    let (from, to) = if TO == 0 { (from, to) } else { (FROM, TO) };
    let mut window = 0_u64;
    let mut length = 0_u32;
    let mut last = b' ';
    let mut words = Words::default();
    for (at, byte) in text.iter().enumerate() {
        let byte = SEEN_AS[usize::from(*byte)];
        if byte == b' ' && last == b' ' {
            continue;
        }
        last = byte;
        window = window << 8 | u64::from(byte);
        if length < to {
            length += 1;
        }
        for n in from..=to {
            if n <= length {
                let gram = window & (u64::MAX >> (64 - 8 * n));
                let bucket = bucket(gram.wrapping_mul(SPREAD), shape.buckets);
                take(Gram { bucket, words: false, start: (at + 1).saturating_sub(n as usize), end: at + 1 });
            }
        }
        if IN_WORD[usize::from(byte)] {
            words.letter(byte, at);
        } else if words.open {
            words.close(shape, at, take);
        }
    }
    if words.open {
        words.close(shape, text.len(), take);
    }
}

/// The bucket of a hash, by its upper half.
#[inline(always)]
fn bucket(hash: u64, buckets: u64) -> usize {
    (((hash >> 32) * buckets) >> 32) as usize
}

/// The words so far, as far as n-grams reach back.
#[derive(Default)]
struct Words {
    /// Whether the text is within a word.
    open: bool,
    /// Hash of the word so far.
    hash: u64,
    /// Where it began.
    start: usize,
    /// Hashes and beginnings of the words before it, the nearest first.
    before: [(u64, usize); MAX_WORDS as usize - 1],
    /// How many of those there are.
    count: u32,
}

impl Words {
    #[inline(always)]
    fn letter(&mut self, byte: u8, at: usize) {
        if !self.open {
            (self.open, self.hash, self.start) = (true, SPREAD, at);
        }
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(SPREAD).rotate_left(23);
    }

    /// Ends a word at `end`: gives the n-grams that end with it.
    #[inline(always)]
    fn close(&mut self, shape: &Shape, end: usize, take: &mut impl FnMut(Gram)) {
        let (mut hash, mut start) = (self.hash, self.start);
        for n in 1..=shape.words.min(MAX_WORDS) {
            if n > 1 {
                if n - 1 > self.count {
                    break;
                }
                let (before, began) = self.before[n as usize - 2];
                hash = hash.rotate_left(31) ^ before.wrapping_mul(SPREAD);
                start = began;
            }
            take(Gram { bucket: bucket(hash.wrapping_mul(SPREAD), shape.buckets), words: true, start, end });
        }
        self.before.rotate_right(1);
        self.before[0] = (self.hash, self.start);
        self.count = (self.count + 1).min(MAX_WORDS - 1);
        self.open = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape { buckets: 1 << 20, words: 2, from: 3, to: 5 };

    fn grams(text: &str, shape: &Shape) -> Vec<String> {
        let mut grams = Vec::new();
        each(text.as_bytes(), shape, |gram| grams.push(text[gram.start..gram.end].to_owned()));
        grams
    }

    fn buckets(text: &[u8], shape: &Shape) -> Vec<usize> {
        let mut buckets = Vec::new();
        each(text, shape, |gram| buckets.push(gram.bucket));
        buckets
    }

    #[test]
    fn a_short_text_has_these_n_grams_and_no_other() {
        assert_eq!(
            grams("to be, or", &Shape { words: 3, from: 4, to: 4, ..SHAPE }),
            ["to", "to b", "o be", " be,", "be", "to be", "be, ", "e, o", ", or", "or", "be, or", "to be, or"]
        );
        assert_eq!(grams("ab", &Shape { words: 0, ..SHAPE }), Vec::<String>::new());
        assert_eq!(grams("abcd", &Shape { words: 0, ..SHAPE }), ["abc", "bcd", "abcd"]);
    }

    #[test]
    fn case_digits_and_white_space_make_no_difference_and_letters_do() {
        assert_eq!(buckets(b"GET  /v1\n\tPets", &SHAPE), buckets(b"get /v7 pets", &SHAPE));
        assert_ne!(buckets(b"get /v1 pets", &SHAPE), buckets(b"get /v1 pest", &SHAPE));
    }

    #[test]
    fn only_the_head_counts_and_white_space_at_its_end_does_not() {
        assert_eq!(head(b"one two \n", u64::MAX), b"one two");
        assert_eq!(head(b"one two", 4), b"one");
        assert_eq!(head(b" \0\n", 9), b"");
    }

    #[test]
    fn different_n_grams_rarely_share_a_bucket() {
        let mut taken: Vec<usize> = (0..26_u8)
            .flat_map(|a| (0..26).flat_map(move |b| (0..26).map(move |c| [b'a' + a, b'a' + b, b'a' + c])))
            .flat_map(|word| buckets(&word, &Shape { words: 0, from: 3, to: 3, ..SHAPE }))
            .collect();
        let all = taken.len();
        taken.sort_unstable();
        taken.dedup();
        // Chance alone would have about 150 of 17,576 share one.
        assert!(all == 17_576 && taken.len() > all - 300, "{} of {all}", taken.len());
    }

    proptest! {
        #[test]
        fn a_text_as_it_is_seen_has_the_n_grams_of_the_text(text in "\\PC{0,40}[ \\n\\t]{0,3}\\PC{0,20}") {
            let text = head(text.as_bytes(), u64::MAX);
            prop_assert_eq!(buckets(text, &SHAPE), buckets(&seen(text), &SHAPE));
        }

        #[test]
        fn unrolled_lengths_give_what_others_give(text in "[a-z ]{0,40}") {
            let mut unrolled = Vec::new();
            each_of::<3, 5>(text.as_bytes(), &SHAPE, 3, 5, &mut |gram| unrolled.push(gram));
            let mut looped = Vec::new();
            each_of::<0, 0>(text.as_bytes(), &SHAPE, 3, 5, &mut |gram| looped.push(gram));
            prop_assert_eq!(unrolled, looped);
        }
    }
}
