//! FineWeb's own rules: do its lines look like those of an article?

use regex::Regex;

use super::filter::{Drop, percent};
use super::lines::repeated;
use super::settings::FineWeb;
use super::words::Words;

/// The rules.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    settings: FineWeb,
    ends: Ends,
}

/// Knows the punctuation that ends a sentence, in every script.
#[derive(Clone, Debug)]
pub(super) struct Ends(Regex);

impl Ends {
    pub(super) fn new() -> Result<Self, regex::Error> {
        Regex::new(r"\A\p{Sentence_Terminal}\z").map(Self)
    }

    /// Whether a character ends a sentence.
    pub(super) fn ends(&self, char: char) -> bool {
        match char {
            '.' | '?' | '!' => true,
            _ if char.is_ascii() || char.is_alphanumeric() => false,
            _ => self.0.is_match(char.encode_utf8(&mut [0; 4])),
        }
    }
}

impl Rules {
    pub(super) fn new(settings: FineWeb) -> Result<Self, regex::Error> {
        Ok(Self { settings, ends: Ends::new()? })
    }

    /// Judges a text; `chars` is its length in characters.
    pub(super) fn judge(&self, text: &str, chars: u64, words: &Words) -> Result<(), Drop> {
        let Self { settings, ends } = self;
        let (mut count, mut ended, mut short) = (0_u64, 0_u64, 0_u64);
        let lines = || text.split('\n').filter(|line| !line.trim_start().is_empty());
        for line in lines() {
            count += 1;
            ended += u64::from(line.chars().next_back().is_some_and(|char| ends.ends(char)));
            let longest = settings.short_line_length.0;
            // A character has at most four bytes: most lines need no counting.
            let long = line.len() as u64 / 4 > longest || line.chars().count() as u64 > longest;
            short += u64::from(!long);
        }
        if count == 0 || words.list.is_empty() {
            return Err(Drop::new("fineweb.empty", "no text".to_owned()));
        }
        let (share, least) = (ended as f64 / count as f64, settings.line_punct_thr.0);
        if share < least && !(ended == 0 && settings.line_punct_exclude_zero) {
            let detail = format!("{} of lines end a sentence, at least {} expected", percent(share), percent(least));
            return Err(Drop::new("fineweb.line_punct", detail));
        }
        let (share, most) = (short as f64 / count as f64, settings.short_line_thr.0);
        if share > most {
            let longest = settings.short_line_length;
            let (share, most) = (percent(share), percent(most));
            let detail = format!("{share} of lines have at most {longest} characters, at most {most} expected");
            return Err(Drop::new("fineweb.short_lines", detail));
        }
        let ends_of_line = memchr::memchr_iter(b'\n', text.as_bytes()).count() as u64;
        let share = repeated(lines()).chars as f64 / chars.saturating_sub(ends_of_line).max(1) as f64;
        let most = settings.char_duplicates_ratio.0;
        if share > most {
            let (share, most) = (percent(share), percent(most));
            let detail = format!("{share} of the characters are lines that came before, at most {most} expected");
            return Err(Drop::new("fineweb.char_dup", detail));
        }
        let (ratio, most) = (ends_of_line as f64 / words.list.len() as f64, settings.new_line_ratio);
        if ratio > most {
            return Err(Drop::new("fineweb.list", format!("{ratio:.2} ends of line a word, at most {most} expected")));
        }
        Ok(())
    }
}
