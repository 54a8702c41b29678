//! What is looked for in a corpus, and which documents hold it: decoded one by one, in parallel, and let go again.

use std::ops::Range;

use hephaestus_core::corpus::Corpus;
use hephaestus_core::corpus::permutation::{Permutation, mix};
use hephaestus_core::vocabulary::Vocabulary;
use rayon::prelude::*;
use regex::{Regex, RegexBuilder};

use super::{InspectError, decoded, ids};

/// Tokens and documents searched together at first, and at most.
const FEW: u64 = 1 << 14;
const MANY: u64 = 1 << 21;
/// Bytes of a document that are shown whole, and around each match of a longer one.
const LONG: usize = 2_000;
const AROUND: usize = 240;
/// Bytes that an end of what is shown moves at most to fall between words.
const WORD: usize = 24;
/// Places of a long document that are shown.
const PLACES: usize = 5;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
}

impl Pattern {
    /// This text, or what this regular expression describes.
    ///
    /// # Errors
    /// The expression is none, in words that say where; or the text is empty.
    pub fn new(pattern: &str, is_regex: bool, ignore_case: bool) -> Result<Self, InspectError> {
        if pattern.is_empty() {
            return Err(InspectError::Pattern("is empty; give some text".to_owned()));
        }
        let source = if is_regex { pattern.to_owned() } else { regex::escape(pattern) };
        let built = RegexBuilder::new(&source).case_insensitive(ignore_case).multi_line(true).build();
        let regex = built.map_err(|error| InspectError::Pattern(error.to_string()))?;
        Ok(Self { regex })
    }

    /// Where it is in a text; an expression that matches nothing at all is nowhere.
    pub(super) fn places(&self, text: &str) -> Vec<Range<usize>> {
        self.regex.find_iter(text).map(|found| found.range()).filter(|range| !range.is_empty()).collect()
    }

    fn is_in(&self, text: &str) -> bool {
        self.regex.find_iter(text).any(|found| !found.range().is_empty())
    }
}

/// The documents of a corpus in the order they are searched: as they come, or shuffled by a seed.
pub(super) struct Search<'a> {
    corpus: &'a Corpus,
    vocabulary: &'a Vocabulary,
    pattern: &'a Pattern,
    order: Option<Permutation>,
    next: u64,
    batch: u64,
}

/// What a batch of documents came to.
pub(super) struct Batch {
    /// Those that match, in order.
    pub(super) found: Vec<u64>,
    /// How many were searched.
    pub(super) searched: u64,
    /// The tokens of them.
    pub(super) tokens: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(corpus: &'a Corpus, vocabulary: &'a Vocabulary, pattern: &'a Pattern, seed: Option<u64>) -> Self {
        let order = seed.map(|seed| Permutation::new(corpus.documents(), mix(&[seed])));
        Self { corpus, vocabulary, pattern, order, next: 0, batch: FEW }
    }

    /// Searches the next documents; `None` after the last.
    pub(super) fn batch(&mut self) -> Result<Option<Batch>, InspectError> {
        let (mut documents, mut tokens) = (Vec::new(), 0);
        while self.next < self.corpus.documents() && tokens < self.batch && (documents.len() as u64) < self.batch {
            let document = self.order.and_then(|order| order.get(self.next)).unwrap_or(self.next);
            let range = self.corpus.document_range(document)?;
            tokens += range.end - range.start;
            documents.push(document);
            self.next += 1;
        }
        if documents.is_empty() {
            return Ok(None);
        }
        self.batch = (self.batch * 2).min(MANY);
        let matches: Result<Vec<bool>, InspectError> =
            documents.par_iter().map(|document| self.holds(*document)).collect();
        let found =
            documents.iter().zip(matches?).filter(|(_, matches)| *matches).map(|(document, _)| *document).collect();
        Ok(Some(Batch { found, searched: documents.len() as u64, tokens }))
    }

    fn holds(&self, document: u64) -> Result<bool, InspectError> {
        let text = decoded::text(self.vocabulary, &ids(self.corpus, document)?);
        let text = text.map_err(|reason| InspectError::Decode { document, reason })?;
        Ok(self.pattern.is_in(&text))
    }
}

/// What of a text is shown for its matches: all of it, or what is around the first of them. Ascending and apart, with how
/// many matches are beyond.
pub(super) fn windows(text: &str, matches: &[Range<usize>]) -> (Vec<Range<usize>>, usize) {
    if text.len() <= LONG || matches.is_empty() {
        return (std::iter::once(0..text.len()).collect(), 0);
    }
    let (mut windows, mut places): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
    for (number, found) in matches.iter().enumerate() {
        // A match may be as long as the document; its beginning is what is looked for.
        let end = found.end.min(found.start.saturating_add(LONG)).saturating_add(AROUND);
        let start = text.floor_char_boundary(found.start.saturating_sub(AROUND));
        let end = text.ceil_char_boundary(end);
        // Whole words, where words are not endless.
        let blank = |from: usize| {
            let next = text.as_bytes().get(from..)?.iter().take(WORD);
            next.enumerate().find(|(_, byte)| byte.is_ascii_whitespace()).map(|(at, _)| from + at)
        };
        let start = if start == 0 { 0 } else { blank(start).map_or(start, |at| at + 1) };
        let end = blank(end).unwrap_or(end);
        match windows.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            Some(_) if places == PLACES => return (windows, matches.len() - number),
            _ => {
                windows.push(start..end);
                places += 1;
            }
        }
    }
    (windows, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_as_it_is_and_expressions_as_they_mean() {
        let places = |pattern: &str, is_regex, ignore_case, text: &str| {
            let pattern = Pattern::new(pattern, is_regex, ignore_case).unwrap();
            pattern.places(text).iter().map(|place| (place.start, place.end)).collect::<Vec<_>>()
        };
        assert_eq!(places("a.b", false, false, "axb a.b"), [(4, 7)]);
        assert_eq!(places("a.b", true, false, "axb a.b"), [(0, 3), (4, 7)]);
        assert_eq!(places("ÄB", false, true, "äb"), [(0, 3)]);
        assert_eq!(places("^x*", true, false, "a\nxx"), [(2, 4)]);
        let refused = |pattern: &str| Pattern::new(pattern, true, false).unwrap_err().to_string();
        assert!(refused("(").starts_with("--search: regex parse error"), "{}", refused("("));
        assert_eq!(refused(""), "--search: is empty; give some text");
    }

    #[test]
    fn a_long_document_is_shown_around_its_first_matches() {
        let text = "世界 ".repeat(4000);
        let around = |start: usize| start..start + 3;
        let (shown, beyond) = windows(&text, &[around(0), around(70), around(7_000)]);
        assert_eq!((shown.len(), beyond), (2, 0));
        assert!(shown[0].start == 0 && shown.iter().all(|w| text.get(w.clone()).is_some_and(|part| part.len() < 900)));
        let many: Vec<_> = (0..20).map(|at| around(at * 1_400)).collect();
        assert_eq!((windows(&text, &many).0.len(), windows(&text, &many).1), (PLACES, 15));
        // A match among the line feeds at the end, which are not shown.
        let (end, after) = (text.len(), text.len() + 900);
        assert_eq!(windows(&text, std::slice::from_ref(&(after..after + 1))).0, std::slice::from_ref(&(end..end)));
        assert_eq!(windows("short", &[around(0)]).0, std::slice::from_ref(&(0..5)));
    }
}
