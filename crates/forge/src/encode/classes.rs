//! Which characters are letters, numbers and white space, as the library's regular expressions have it.
//!
//! Unicode versions differ between regex engines, and Oniguruma's `\p{N}` is not `char::is_numeric` of the same day. So the
//! table is not written down here: the library's engine is asked about every character there is, once a process.

use std::sync::LazyLock;

use tokenizers::utils::SysRegex;

/// What a character is to a pre-tokenizer's regular expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// `\p{L}`
    Letter = 0,
    /// `\p{N}`
    Number = 1,
    /// `\s`
    Space = 2,
    /// None of them.
    Other = 3,
}

/// Every character's class: `pages[index[character / 256]][character % 256]`.
pub(super) struct Classes {
    index: Vec<u16>,
    pages: Vec<[Class; 256]>,
}

/// The one table.
pub(super) static CLASSES: LazyLock<Option<Classes>> = LazyLock::new(Classes::ask);

/// The class of ASCII characters, as everyone has it; the table agrees (a test).
const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

impl Classes {
    /// Asks the engine. `None` where it has no such classes.
    fn ask() -> Option<Self> {
        let mut flat = vec![Class::Other; 0x11_0000];
        // In pieces, for the engine counts its steps.
        let characters: Vec<char> = ('\0'..=char::MAX).collect();
        for (pattern, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)] {
            let regex = SysRegex::new(&format!("{pattern}+")).ok()?;
            for piece in characters.chunks(1 << 14) {
                let text: String = piece.iter().collect();
                for (start, end) in regex.find_iter(&text) {
                    text[start..end].chars().for_each(|found| flat[found as usize] = class);
                }
            }
        }
        let (mut index, mut pages) = (Vec::with_capacity(0x1100), Vec::<[Class; 256]>::new());
        for page in flat.chunks_exact(256) {
            let page: [Class; 256] = page.try_into().ok()?;
            let at = pages.iter().position(|known| *known == page).unwrap_or_else(|| {
                pages.push(page);
                pages.len() - 1
            });
            index.push(at as u16);
        }
        Some(Self { index, pages })
    }

    /// A character's class.
    pub(super) fn of(&self, character: char) -> Class {
        let code = character as usize;
        let page = self.index.get(code >> 8).and_then(|page| self.pages.get(usize::from(*page)));
        page.map_or(Class::Other, |page| page[code & 255])
    }

    /// The class and the length in bytes of the character that starts at `at`, which lies within `text`.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize) -> (Class, usize) {
        let first = text[at];
        if first < 128 { (ASCII[usize::from(first)], 1) } else { self.beyond_ascii(text, at) }
    }

    /// The same for a character beyond ASCII.
    fn beyond_ascii(&self, text: &[u8], at: usize) -> (Class, usize) {
        let byte = |number: usize| u32::from(text.get(at + number).copied().unwrap_or(0));
        let rest = |number: usize| byte(number) & 0x3f;
        let (code, length) = match byte(0) {
            first @ ..0xe0 => ((first & 0x1f) << 6 | rest(1), 2),
            first @ 0xe0..0xf0 => ((first & 0x0f) << 12 | rest(1) << 6 | rest(2), 3),
            first => ((first & 0x07) << 18 | rest(1) << 12 | rest(2) << 6 | rest(3), 4),
        };
        (char::from_u32(code).map_or(Class::Other, |character| self.of(character)), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_the_class_that_the_engine_gives_it_alone() {
        let classes = CLASSES.as_ref().expect("classes");
        let pattern = |pattern| SysRegex::new(pattern).expect(pattern);
        let (letter, number, space) = (pattern(r"\p{L}"), pattern(r"\p{N}"), pattern(r"\s"));
        let mut differ_from_std = 0;
        for character in '\0'..=char::MAX {
            let mut buffer = [0; 4];
            let text: &str = character.encode_utf8(&mut buffer);
            let is = |regex: &SysRegex| regex.find_iter(text).next().is_some();
            let expected = match (is(&letter), is(&number), is(&space)) {
                (true, false, false) => Class::Letter,
                (false, true, false) => Class::Number,
                (false, false, true) => Class::Space,
                (false, false, false) => Class::Other,
                several => panic!("{character:?} is {several:?}"),
            };
            assert_eq!(classes.of(character), expected, "{character:?}");
            assert_eq!(classes.at(text.as_bytes(), 0), (expected, text.len()), "{character:?}");
            let std = match character {
                _ if character.is_whitespace() => Class::Space,
                _ if character.is_numeric() => Class::Number,
                _ if character.is_alphabetic() => Class::Letter,
                _ => Class::Other,
            };
            differ_from_std += u32::from(std != expected);
        }
        assert!(differ_from_std > 0, "std's methods would do, and the table is not needed");
    }
}
