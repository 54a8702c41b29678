//! The judgement of a text: every set of rules that is on, cheapest first.

use super::language::{Languages, UnknownLanguage};
use super::settings::{GopherRepetition, Settings};
use super::words::Words;
use super::{c4, code, fineweb, gopher, repetition};

/// Why a text is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The rule that it breaks, such as `gopher.stop_words`; drops are counted by it.
    pub rule: &'static str,
    /// What was found and what was expected.
    pub detail: String,
}

impl Drop {
    pub(super) fn new(rule: &'static str, detail: String) -> Self {
        Self { rule, detail }
    }
}

/// A filter that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// `quality.languages` names one that is not known.
    #[error(transparent)]
    Language(#[from] UnknownLanguage),
    /// A table of phrases cannot be built.
    #[error("cannot build the phrases that quality rules look for: {0}")]
    Phrases(#[from] aho_corasick::BuildError),
    /// The pattern for ends of sentences cannot be built.
    #[error("cannot build the pattern for ends of sentences: {0}")]
    Pattern(#[from] regex::Error),
}

/// Judges rendered texts as a source's settings say. Cheap to clone, and shared by threads.
#[derive(Clone, Debug)]
pub struct Filter {
    min_bytes: u64,
    max_bytes: u64,
    languages: Option<Languages>,
    code: Option<code::Rules>,
    repetition: Option<GopherRepetition>,
    quality: Option<gopher::Quality>,
    c4: Option<c4::Rules>,
    fineweb: Option<fineweb::Rules>,
}

impl Filter {
    /// A filter with the rules that `settings` switch on.
    ///
    /// # Errors
    /// A language is named that is not known.
    pub fn new(settings: &Settings) -> Result<Self, FilterError> {
        let settings = settings.resolved();
        Ok(Self {
            min_bytes: settings.min_bytes.map_or(0, |bytes| bytes.0),
            max_bytes: settings.max_bytes.map_or(u64::MAX, |bytes| bytes.0),
            languages: Languages::new(&settings.languages, settings.language_score)?,
            code: settings.code.map(code::Rules::new).transpose()?,
            repetition: settings.gopher_repetition,
            quality: settings.gopher_quality.map(gopher::Quality::new),
            c4: settings.c4.map(c4::Rules::new).transpose()?,
            fineweb: settings.fineweb.map(fineweb::Rules::new).transpose()?,
        })
    }

    /// Judges a text: the first rule that it breaks, in the order size, language, code, Gopher's repetition and quality,
    /// C4, FineWeb (which is the order FineWeb was made in).
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn judge(&self, text: &str) -> Result<(), Drop> {
        let bytes = text.len() as u64;
        if bytes < self.min_bytes {
            let detail = format!("{bytes} bytes, at least {} expected", self.min_bytes);
            return Err(Drop::new("size.min_bytes", detail));
        }
        if bytes > self.max_bytes {
            let detail = format!("{bytes} bytes, at most {} expected", self.max_bytes);
            return Err(Drop::new("size.max_bytes", detail));
        }
        if let Some(languages) = &self.languages {
            languages.judge(text)?;
        }
        let counted = self.repetition.is_some() || self.quality.is_some() || self.fineweb.is_some();
        let chars = if counted || self.code.is_some() { text.chars().count() as u64 } else { 0 };
        if let Some(rules) = &self.code {
            rules.judge(text, chars)?;
        }
        let words = if counted { Words::of(text) } else { Words::default() };
        if let Some(settings) = &self.repetition {
            repetition::judge(settings, text, chars, &words)?;
        }
        if let Some(rules) = &self.quality {
            rules.judge(text, &words)?;
        }
        if let Some(rules) = &self.c4 {
            rules.judge(text)?;
        }
        if let Some(rules) = &self.fineweb {
            rules.judge(text, chars, &words)?;
        }
        Ok(())
    }
}

/// A share as people read it.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
