//! Text of documents as it may be shown: what would steer a terminal or a browser is shown instead of obeyed.

use std::borrow::Cow;

/// The text with control characters as their pictures (`␛` for escape) and invisible marks of writing direction as `�`;
/// line feeds and tabs stay.
#[must_use]
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().all(|character| picture(character).is_none()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|character| picture(character).unwrap_or(character)).collect())
}

/// What is shown in a character's place, if it is not shown itself.
fn picture(character: char) -> Option<char> {
    match character {
        '\n' | '\t' => None,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)),
        '\x7f' => Some('␡'),
        '\u{80}'..='\u{9f}' => Some('�'),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some('�'),
        '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}' => Some('�'),
        _ => None,
    }
}

/// The first so many characters, and whether there are more.
#[must_use]
pub(crate) fn beginning(text: &str, characters: usize) -> (&str, bool) {
    match text.char_indices().nth(characters) {
        Some((end, _)) => (text.get(..end).unwrap_or(text), true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_or_reorder_a_line_is_shown_instead() {
        assert_eq!(visible("a\tb\nnaïve 世界"), "a\tb\nnaïve 世界");
        assert_eq!(visible("\u{1b}[2J\r\0\u{7f}\u{9b}\u{202e}"), "␛[2J␍␀␡��");
    }

    #[test]
    fn a_beginning_is_counted_in_characters() {
        assert_eq!(beginning("世界", 1), ("世", true));
        assert_eq!(beginning("世界", 2), ("世界", false));
    }
}
