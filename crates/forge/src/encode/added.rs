//! Tokens that were added to a vocabulary: they split the text before anything else looks at it.
//!
//! Special tokens stand where a document says they do (its `special` ranges) and nowhere else; the other added tokens are
//! found by their letters, those that are not normalized in the text as it stands, those that are in the normalized text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;
use tokenizers::{AddedToken, NormalizedString, Normalizer, Tokenizer};

/// The added tokens of a vocabulary.
pub(super) struct Added {
    plain: Option<Matcher>,
    normalized: Option<Matcher>,
    special: Vec<Pattern>,
    word: Option<Regex>,
}

/// Tokens that are found at once: the longest at the leftmost place.
struct Matcher {
    automaton: AhoCorasick,
    patterns: Vec<Pattern>,
}

struct Pattern {
    text: String,
    id: u32,
    token: AddedToken,
    special: bool,
}

/// A part of the text: a token, or text that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Where, in bytes.
    pub(super) range: Range<usize>,
    /// The token that it is.
    pub(super) token: Option<u32>,
}

impl Added {
    /// Of a tokenizer.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let vocabulary = tokenizer.get_added_vocabulary();
        let (mut plain, mut normalized, mut special) = (Vec::new(), Vec::new(), Vec::new());
        let mut tokens: Vec<_> = vocabulary.get_added_tokens_decoder().iter().collect();
        tokens.sort_by_key(|(id, _)| **id);
        for (id, token) in tokens {
            let mut text = token.content.clone();
            if let Some(normalizer) = tokenizer.get_normalizer().filter(|_| token.normalized) {
                let mut content = NormalizedString::from(text.as_str());
                normalizer.normalize(&mut content).map_err(|error| error.to_string())?;
                text = content.get().to_owned();
            }
            let is_special = vocabulary.is_special_token(&token.content);
            let pattern = |text| Pattern { text, id: *id, token: token.clone(), special: is_special };
            if is_special {
                special.push(pattern(token.content.clone()));
            }
            if token.normalized { normalized.push(pattern(text)) } else { plain.push(pattern(text)) }
        }
        let words = plain.iter().chain(&normalized).any(|pattern| pattern.token.single_word);
        let word = words.then(|| Regex::new(r"^\w$")).transpose().map_err(|error| error.to_string())?;
        Ok(Self { plain: Matcher::new(plain)?, normalized: Matcher::new(normalized)?, special, word })
    }

    /// Whether any text has to be looked through for tokens in it.
    pub(super) fn none_in_text(&self) -> bool {
        self.plain.is_none() && self.normalized.is_none()
    }

    /// The parts of a text as it stands, before anything is normalized: `special` are special tokens in it.
    pub(super) fn parts(&self, text: &str, special: &[Range<usize>]) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut done = 0;
        for range in special {
            let wrong = |what: &str| Err(format!("special token at bytes {} to {}: {what}", range.start, range.end));
            let Some(letters) = text.get(range.clone()) else {
                return wrong(&format!("no such place in a text of {} bytes", text.len()));
            };
            let Some(pattern) = self.special.iter().find(|pattern| pattern.text == letters) else {
                return wrong(&format!("{letters:?} is no special token of the vocabulary"));
            };
            // The one before may have taken the white space after it, but no more.
            if range.start < done && !text[range.start..].starts_with(char::is_whitespace) {
                return wrong("it overlaps the one before it");
            }
            let Range { start, end } = widened(&pattern.token, text, range.clone(), done);
            if done < start {
                self.find(self.plain.as_ref(), text, done..start, &mut parts);
            }
            parts.push(Part { range: start..end, token: Some(pattern.id) });
            done = end;
        }
        if done < text.len() {
            self.find(self.plain.as_ref(), text, done..text.len(), &mut parts);
        }
        Ok(parts)
    }

    /// The parts of a normalized text, in which there are no special tokens.
    pub(super) fn normalized_parts(&self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        self.find(self.normalized.as_ref(), text, 0..text.len(), &mut parts);
        parts
    }

    /// Tokens within `range` of a text, and what lies between them.
    fn find(&self, matcher: Option<&Matcher>, text: &str, range: Range<usize>, parts: &mut Vec<Part>) {
        let mut done = range.start;
        let matches = matcher.map(|matcher| (matcher, matcher.automaton.find_iter(&text[range.clone()])));
        for (matcher, found) in matches.into_iter().flat_map(|(matcher, all)| all.map(move |one| (matcher, one))) {
            let pattern = &matcher.patterns[found.pattern().as_usize()];
            let (start, end) = (range.start + found.start(), range.start + found.end());
            // A special token's letters are text, and take no part in another token.
            if pattern.special || pattern.token.single_word && !self.is_word(text, start, end) {
                continue;
            }
            let mut wide = widened(&pattern.token, text, start..end, done);
            wide.end = wide.end.min(range.end);
            if done < wide.start {
                parts.push(Part { range: done..wide.start, token: None });
            }
            done = wide.end;
            parts.push(Part { range: wide, token: Some(pattern.id) });
        }
        if done < range.end {
            parts.push(Part { range: done..range.end, token: None });
        }
    }

    /// Whether no word goes on before or after.
    fn is_word(&self, text: &str, start: usize, end: usize) -> bool {
        let is_word = |character: Option<char>| {
            let (Some(character), Some(regex)) = (character, &self.word) else { return false };
            regex.is_match(character.encode_utf8(&mut [0; 4]))
        };
        !is_word(text[..start].chars().next_back()) && !is_word(text[end..].chars().next())
    }
}

impl Matcher {
    /// `None` where there is no token but special ones.
    fn new(patterns: Vec<Pattern>) -> Result<Option<Self>, String> {
        if patterns.iter().all(|pattern| pattern.special) {
            return Ok(None);
        }
        let mut builder = AhoCorasick::builder();
        let texts = patterns.iter().map(|pattern| &pattern.text);
        let automaton =
            builder.match_kind(MatchKind::LeftmostLongest).build(texts).map_err(|error| error.to_string())?;
        Ok(Some(Self { automaton, patterns }))
    }
}

/// With the white space that a token takes with it, which the one before it, up to `done`, has not taken.
fn widened(token: &AddedToken, text: &str, range: Range<usize>, done: usize) -> Range<usize> {
    let Range { mut start, mut end } = range;
    if token.lstrip {
        start = text[..start].trim_end().len().max(done);
    }
    if token.rstrip {
        end = text.len() - text[end..].trim_start().len();
    }
    start..end
}
