//! The lines of a text, as the published rules read them, and how much of them came before.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

/// A hasher for keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        // Sums of hashes are spread over the upper bits too.
        self.0 = hash ^ hash.rotate_right(25);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Makes [`Same`] hashers.
pub(super) type BuildSame = BuildHasherDefault<Same>;

/// What of some pieces of text came before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeated {
    /// Pieces.
    pub(super) pieces: u64,
    /// Pieces that came before.
    pub(super) repeated: u64,
    /// Characters of those.
    pub(super) chars: u64,
}

/// Counts the pieces that came before.
pub(super) fn repeated<'a>(pieces: impl Iterator<Item = &'a str>) -> Repeated {
    let mut seen: HashSet<u64, BuildSame> = HashSet::default();
    let mut count = Repeated::default();
    for piece in pieces {
        count.pieces += 1;
        if !seen.insert(xxh3_64(piece.as_bytes())) {
            count.repeated += 1;
            count.chars += piece.chars().count() as u64;
        }
    }
    count
}

/// Splits at runs of at least `least` ends of line, which belong to no piece. The first and last piece may be empty.
pub(super) fn pieces(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut rest = Some(0);
    std::iter::from_fn(move || {
        let start = rest?;
        let mut from = start;
        while let Some(at) = memchr::memchr(b'\n', &bytes[from..]).map(|at| at + from) {
            let run = bytes[at..].iter().take_while(|byte| **byte == b'\n').count();
            if run >= least {
                rest = Some(at + run);
                return Some(&text[start..at]);
            }
            from = at + run;
        }
        rest = None;
        Some(&text[start..])
    })
}

/// Lines in the widest sense, as Python's `str.splitlines` has them: also at carriage returns, form feeds and the ends of
/// line and paragraph that Unicode has. An end of line at the end of the text begins no line.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = |char: char| {
        matches!(char, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((at, end)) = rest.char_indices().find(|(_, char)| ends(*char)) else {
            return Some(std::mem::take(&mut rest));
        };
        let line = &rest[..at];
        rest = &rest[at..];
        rest = rest.strip_prefix("\r\n").unwrap_or(&rest[end.len_utf8()..]);
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(lines("a\r\nb\rc\u{2028}d\n\ne\n").collect::<Vec<_>>(), ["a", "b", "c", "d", "", "e"]);
        assert_eq!(lines("").count(), 0);
    }

    #[test]
    fn pieces_are_what_stands_between_long_enough_runs_of_line_ends() {
        assert_eq!(pieces("a\nb\n\n\nc\n\n", 2).collect::<Vec<_>>(), ["a\nb", "c", ""]);
        assert_eq!(pieces("\n\na\nb", 1).collect::<Vec<_>>(), ["", "a", "b"]);
        assert_eq!(pieces("", 1).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn only_what_came_before_is_repeated() {
        let count = repeated(["é", "b", "é", "é"].into_iter());
        assert_eq!(count, Repeated { pieces: 4, repeated: 2, chars: 2 });
    }
}
