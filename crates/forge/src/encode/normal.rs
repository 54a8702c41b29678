//! NFC, without what it costs where the text has it already, which nearly all text has.

use std::borrow::Cow;

use tokenizers::{NormalizedString, Normalizer};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use super::weights::{self, Run};

/// Text is looked at, and normalized where it has to be, in blocks of so many bytes or a few more: the library's normalizer
/// takes some fifty times the memory of what it works on.
const BLOCK: usize = 1 << 14;

/// A text in NFC and its runs of weights. An error is the normalizer's.
pub(super) fn nfc<'a>(text: &'a str, runs: &'a [Run]) -> Result<(Cow<'a, str>, Cow<'a, [Run]>), String> {
    if is_nfc(text) {
        return Ok((Cow::Borrowed(text), Cow::Borrowed(runs)));
    }
    let (mut made, mut made_runs) = (String::with_capacity(text.len()), Vec::new());
    let mut start = 0;
    while start < text.len() {
        let end = boundary(text, start + BLOCK);
        let block = &text[start..end];
        let base = made.len();
        let mut block_runs = if runs.is_empty() { Vec::new() } else { weights::within(runs, start..end) };
        if is_nfc(block) {
            made.push_str(block);
        } else {
            let mut normalized = NormalizedString::from(block);
            tokenizers::normalizers::NFC.normalize(&mut normalized).map_err(|error| error.to_string())?;
            made.push_str(normalized.get());
            if !block_runs.is_empty() {
                block_runs = weights::normalized(&block_runs, &normalized);
            }
        }
        made_runs.extend(block_runs.into_iter().map(|(end, weight)| (base + end, weight)));
        start = end;
    }
    Ok((Cow::Owned(made), Cow::Owned(made_runs)))
}

/// Whether a text is certainly in NFC: a quick look at each character.
fn is_nfc(text: &str) -> bool {
    text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// The first place from `at` on where a text may be cut without changing its NFC: before an ASCII character, which starts
/// anew whatever came before it and composes with nothing there.
fn boundary(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or(&[]);
    rest.iter().position(u8::is_ascii).map_or(text.len(), |offset| at + offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> String {
        let mut normalized = NormalizedString::from(text);
        tokenizers::normalizers::NFC.normalize(&mut normalized).unwrap();
        normalized.get().to_owned()
    }

    #[test]
    fn every_character_alone_and_after_a_letter_becomes_what_the_library_makes_of_it() {
        for character in '\0'..=char::MAX {
            for text in [character.to_string(), format!("e{character}\u{301}")] {
                assert_eq!(nfc(&text, &[]).unwrap().0, whole(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn blocks_are_cut_where_it_does_not_matter() {
        for place in BLOCK - 3..BLOCK + 3 {
            let text = format!("{}e\u{327}\u{301}a\u{308}한e\u{301}", "x".repeat(place)).repeat(3);
            assert_eq!(nfc(&text, &[]).unwrap().0, whole(&text), "{place}");
        }
    }

    proptest! {
        #[test]
        fn weights_stay_with_their_characters(
            runs in proptest::collection::vec((prop_oneof!["[ae\u{301}\u{308}\u{327}한 ]{1,9}", "\\PC{1,3}"], 0_u8..4), 1..12),
        ) {
            let mut text = crate::document::Text::default();
            runs.iter().for_each(|(run, weight)| text.push(run, *weight));
            let (made, made_runs) = nfc(&text.text, &text.weights).unwrap();
            prop_assert_eq!(&made, &whole(&text.text));
            prop_assert_eq!(made_runs.last().map(|run| run.0), Some(made.len()));
            prop_assert!(made_runs.iter().all(|(end, _)| made.is_char_boundary(*end)));
            let lowest = |runs: &[Run]| runs.iter().map(|run| run.1).min();
            prop_assert_eq!(lowest(&made_runs), lowest(&text.weights));
        }
    }
}
