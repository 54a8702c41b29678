//! C4's rules: are there enough whole sentences, and none of what marks a page as no text?

use aho_corasick::{AhoCorasick, BuildError};

use super::filter::Drop;
use super::lines::lines;
use super::settings::C4;

const LOREM_IPSUM: usize = 0;
const JAVASCRIPT: usize = 1;
/// What a line about policies says; so do those before, by number.
const PHRASES: [&str; 8] = [
    "lorem ipsum",
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
];

/// The rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    settings: C4,
    phrases: AhoCorasick,
}

impl Rules {
    pub(super) fn new(settings: C4) -> Result<Self, BuildError> {
        let phrases = AhoCorasick::builder().ascii_case_insensitive(true).build(PHRASES)?;
        Ok(Self { settings, phrases })
    }

    pub(super) fn judge(&self, text: &str) -> Result<(), Drop> {
        let Self { settings, .. } = self;
        let wanted = u64::from(settings.min_num_sentences);
        let mut sentences = 0;
        for line in lines(text).map(str::trim) {
            if !self.counts(line) {
                continue;
            }
            let said = self.said(line);
            if settings.filter_lorem_ipsum && said[LOREM_IPSUM] {
                return Err(Drop::new("c4.lorem_ipsum", "it says lorem ipsum".to_owned()));
            }
            if settings.filter_javascript && said[JAVASCRIPT] {
                continue;
            }
            if settings.filter_curly_bracket && line.contains('{') {
                return Err(Drop::new("c4.curly_bracket", "it holds a {".to_owned()));
            }
            if settings.filter_policy && said[JAVASCRIPT + 1..].contains(&true) {
                continue;
            }
            sentences += self::sentences(line);
        }
        if sentences < wanted {
            let plural = if sentences == 1 { "" } else { "s" };
            let detail = format!("{sentences} sentence{plural} in the lines that count, at least {wanted} expected");
            return Err(Drop::new("c4.sentences", detail));
        }
        Ok(())
    }

    /// Whether a line has the form of one that counts.
    fn counts(&self, line: &str) -> bool {
        let settings = &self.settings;
        let longest = settings.max_word_length.0;
        let mut words = 0;
        for word in line.split_whitespace() {
            if word.len() as u64 > longest && word.chars().count() as u64 > longest {
                return false;
            }
            words += 1;
        }
        let ended = line.ends_with(['.', '?', '!', '"', '\'']) && !line.ends_with("...");
        words >= settings.min_words_per_line && (ended || !settings.filter_no_terminal_punct)
    }

    /// Which phrases a line says.
    fn said(&self, line: &str) -> [bool; PHRASES.len()] {
        let mut said = [false; PHRASES.len()];
        for found in self.phrases.find_overlapping_iter(line) {
            said[found.pattern().as_usize()] = true;
        }
        said
    }
}

/// Sentences of a line: what stands between full stops, question and exclamation marks with whitespace behind them.
fn sentences(line: &str) -> u64 {
    let bytes = line.as_bytes();
    let mut count = 0;
    let mut open = false;
    let mut at = 0;
    while at < bytes.len() {
        if open && matches!(bytes[at], b'.' | b'?' | b'!') {
            let close = |byte: &&u8| matches!(**byte, b'.' | b'?' | b'!' | b'"' | b'\'' | b')' | b']');
            at += bytes[at..].iter().take_while(close).count();
            if bytes.get(at).is_none_or(u8::is_ascii_whitespace) {
                count += 1;
                open = false;
            }
        } else {
            open |= !bytes[at].is_ascii_whitespace();
            at += 1;
        }
    }
    count + u64::from(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_what_full_stops_and_question_marks_end() {
        assert_eq!(sentences("One. Two? \"Three!\" and four at 3.5 a piece"), 4);
        assert_eq!(sentences("..."), 1);
        assert_eq!(sentences(""), 0);
    }
}
