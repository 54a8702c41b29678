//! Words, as near-duplicates are compared by: what FineWeb's pipeline (datatrove's `simplify_text`) makes of a text, with
//! what it takes from web prose adapted to code and JSON.
//!
//! As there: letters are lowered, whitespace separates, a run of digits counts as `0`, punctuation does not count, and
//! accents written as combining marks do not either. Unlike there: punctuation separates too, or compact JSON would be
//! one word (apostrophes inside a word, and points and commas between digits, are left out as there); accents that are
//! part of a letter stay; and scripts written without spaces (Han, kana, Thai, Lao, Khmer, Myanmar) are cut into single
//! characters where FineWeb runs a tokenizer for each language. Words are known by a 64-bit hash only.

/// What a byte is to a word: its lowered letter, or one of the classes below.
const BYTES: [u8; 256] = classes();
const SEPARATOR: u8 = 0;
const DIGIT: u8 = 1;
const APOSTROPHE: u8 = 2;
const POINT: u8 = 3;
const WIDE: u8 = 4;

/// FNV-1a's 64-bit offset and prime (RFC 9923); the result is mixed once more where it is used.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

const fn classes() -> [u8; 256] {
    let mut table = [SEPARATOR; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        table[at] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => byte.to_ascii_lowercase(),
            b'0'..=b'9' => DIGIT,
            b'\'' => APOSTROPHE,
            b'.' | b',' => POINT,
            0x80..=0xff => WIDE,
            _ => SEPARATOR,
        };
        at += 1;
    }
    table
}

/// The word being read.
struct Word {
    hash: u64,
    empty: bool,
    digits: bool,
}

impl Word {
    const NEW: Self = Self { hash: OFFSET, empty: true, digits: false };

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(PRIME);
        self.empty = false;
    }

    #[inline]
    fn letter(&mut self, byte: u8) {
        self.byte(byte);
        self.digits = false;
    }

    #[inline]
    fn digit(&mut self) {
        if !self.digits {
            self.byte(b'0');
            self.digits = true;
        }
    }

    fn character(&mut self, character: char) {
        for lowered in character.to_lowercase() {
            for byte in lowered.encode_utf8(&mut [0; 4]).bytes() {
                self.letter(byte);
            }
        }
    }

    #[inline]
    fn end(&mut self, each: &mut impl FnMut(u64)) {
        if !self.empty {
            each(self.hash);
            *self = Self::NEW;
        }
    }
}

/// Calls `each` with the hash of every word of `text`, in order.
pub fn words(text: &str, each: &mut impl FnMut(u64)) {
    let bytes = text.as_bytes();
    let (mut at, mut word) = (0, Word::NEW);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match BYTES[usize::from(*byte)] {
            SEPARATOR => word.end(each),
            DIGIT => word.digit(),
            APOSTROPHE => {}
            POINT => {
                if !(word.digits && bytes.get(at).is_some_and(u8::is_ascii_digit)) {
                    word.end(each);
                }
            }
            WIDE => {
                let Some(character) = text.get(at - 1..).and_then(|rest| rest.chars().next()) else { continue };
                at += character.len_utf8() - 1;
                if alone(character) {
                    word.end(each);
                    word.character(character);
                    word.end(each);
                } else if character.is_numeric() {
                    word.digit();
                } else if character.is_alphanumeric() {
                    word.character(character);
                } else if !mark(character) {
                    word.end(each);
                }
            }
            letter => word.letter(letter),
        }
    }
    word.end(each);
}

/// Whether a character stands for a word: scripts that are written without spaces.
fn alone(character: char) -> bool {
    matches!(character,
        '\u{0e00}'..='\u{0eff}'             // Thai, Lao
        | '\u{1000}'..='\u{109f}'           // Myanmar
        | '\u{1780}'..='\u{17ff}'           // Khmer
        | '\u{3040}'..='\u{30ff}'           // kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether a character belongs to the word around it without counting: combining accents, joiners, apostrophes.
fn mark(character: char) -> bool {
    matches!(character, '\u{0300}'..='\u{036f}' | '\u{200c}' | '\u{200d}' | '\u{2018}' | '\u{2019}' | '\u{00ad}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        words(text, &mut |word| all.push(word));
        all
    }

    #[test]
    fn case_punctuation_whitespace_and_the_value_of_numbers_do_not_count() {
        let plain = hashes("the dont pay 0 for v0 api tests");
        assert_eq!(plain.len(), 8);
        assert_eq!(hashes("  The “don't” — pay: 1,234.50\tfor (V2) {api_tests}!\n"), plain);
        assert_eq!(hashes("THE don’t pay 7 for v10 api.tests"), plain);
        assert_ne!(hashes("the dont pay zero for v0 api tests"), plain);
        assert_eq!(hashes("end. 1. Begin"), hashes("end 1 begin"));
        assert!(hashes(" .,'\u{200d}\u{1f600}--").is_empty());
    }

    #[test]
    fn scripts_without_spaces_are_cut_into_characters_and_others_into_words() {
        assert_eq!(hashes("猫が好き").len(), 4);
        assert_eq!(hashes("ÉCOLE Straße"), hashes("école straße"));
        assert_eq!(hashes("e\u{301}cole"), hashes("ecole"));
        assert_eq!(hashes("число ١٢٣"), hashes("ЧИСЛО 5"));
    }
}
