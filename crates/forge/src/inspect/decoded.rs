//! Tokens back as text, with where in it tokens and loss weights change.

use hephaestus_core::vocabulary::Vocabulary;
use tokenizers::Tokenizer;

/// Tokens before a run that are decoded with it: what some tokenizers make of a token depends on whether it is the first.
const CONTEXT: usize = 4;
/// Tokens that a character is spread over at most.
const SPREAD: usize = 4;

/// A document as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoded {
    /// All of it.
    pub(super) text: String,
    /// Runs of it, in order; the last ends at its end.
    pub(super) runs: Vec<Run>,
}

/// A stretch of text of one loss weight, or one token's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    /// Where it ends, a byte offset.
    pub(super) end: usize,
    /// Its loss weight, 0 to 1.
    pub(super) weight: f32,
}

/// Decodes a document whose tokens have `weights`; each token is a run of its own if `each` says so. A character that
/// several tokens spell belongs to the run of the first of them.
pub(super) fn decode(vocabulary: &Vocabulary, ids: &[u32], weights: &[f32], each: bool) -> Result<Decoded, String> {
    let tokenizer = &vocabulary.tokenizer;
    let mut decoded = Decoded { text: String::new(), runs: Vec::new() };
    let mut start = 0;
    while let Some(weight) = weights.get(start).copied().filter(|_| start < ids.len()) {
        let alike = weights[start..].iter().take_while(|other| **other == weight).count();
        let mut end = if each { start + 1 } else { (start + alike).min(ids.len()) };
        let mut text = between(tokenizer, ids, start, end)?;
        let last = (end + SPREAD - 1).min(ids.len());
        while end < last && text.ends_with('\u{fffd}') {
            end += 1;
            text = between(tokenizer, ids, start, end)?;
        }
        decoded.text.push_str(&text);
        decoded.runs.push(Run { end: decoded.text.len(), weight });
        start = end;
    }
    Ok(decoded)
}

/// The ids themselves as text, the first `most` of them, where no tokenizer decodes them.
pub(super) fn numbers(ids: &[u32], weights: &[f32], most: usize) -> Decoded {
    let mut decoded = Decoded { text: String::new(), runs: Vec::new() };
    for (at, (id, weight)) in ids.iter().zip(weights).take(most).enumerate() {
        if at > 0 {
            decoded.text.push(' ');
        }
        decoded.text.push_str(&id.to_string());
        decoded.runs.push(Run { end: decoded.text.len(), weight: *weight });
    }
    if let Some(last) = decoded.runs.last_mut().filter(|_| ids.len() > most) {
        decoded.text.push_str(" …");
        last.end = decoded.text.len();
    }
    decoded
}

/// All of a document's text.
pub(super) fn text(vocabulary: &Vocabulary, ids: &[u32]) -> Result<String, String> {
    vocabulary.tokenizer.decode(ids, false).map_err(|error| error.to_string())
}

/// What the tokens from `start` to `end` add to the text before them.
fn between(tokenizer: &Tokenizer, ids: &[u32], start: usize, end: usize) -> Result<String, String> {
    let decode =
        |range: std::ops::Range<usize>| tokenizer.decode(&ids[range], false).map_err(|error| error.to_string());
    let context = start.saturating_sub(CONTEXT);
    let (before, with) = (decode(context..start)?, decode(context..end)?);
    match with.strip_prefix(before.as_str()) {
        Some(added) => Ok(added.to_owned()),
        // The character before was not whole yet, or never will be.
        None => decode(start..end),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gpt2;
    use super::*;

    #[test]
    fn runs_add_up_to_the_text_and_never_cut_a_character() {
        let Some(vocabulary) = gpt2("runs_add_up_to_the_text_and_never_cut_a_character") else { return };
        let text = "Hello 世界, naïve 🔥🔥 text\n\n  x_1 = f(2)";
        let ids = vocabulary.encode(text).unwrap();
        let weights: Vec<f32> = (0..ids.len()).map(|at| if at % 5 < 2 { 0.0 } else { 1.0 }).collect();
        for each in [false, true] {
            let decoded = decode(&vocabulary, &ids, &weights, each).unwrap();
            assert_eq!(decoded.text, text);
            assert!(decoded.runs.iter().all(|run| text.is_char_boundary(run.end)));
            assert_eq!(decoded.runs.last().unwrap().end, text.len());
        }
        let tokens = decode(&vocabulary, &ids, &weights, true).unwrap().runs;
        assert_eq!(&text[tokens[0].end..tokens[3].end], " 世界");
    }

    #[test]
    fn ids_are_shown_as_far_as_they_fit() {
        let decoded = numbers(&[7, 8, 9], &[1.0, 0.0, 1.0], 2);
        let runs = vec![Run { end: 1, weight: 1.0 }, Run { end: "7 8 …".len(), weight: 0.0 }];
        assert_eq!(decoded, Decoded { text: "7 8 …".to_owned(), runs });
    }
}
