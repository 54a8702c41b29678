//! What a source asks of its documents, key by key. The thresholds are the published ones, under the names that
//! `datatrove` gives them where it has them.
//!
//! Sources: Gopher, arXiv 2112.11446, table A1 and appendix A.1; C4, arXiv 1910.10683, section 2.2; FineWeb, arXiv
//! 2406.17557, section 3; code, arXiv 2107.03374, section 3.1, and StarCoder, arXiv 2305.06161, section 3.

use hephaestus_core::settings::quantity::{Count, Share};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which documents of a source are good enough, and what is taken out of them. Nothing is left out unless asked for: the
/// heuristics are for web text, and documentation of tools is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Sets of rules that are on. A section below switches its set on too, or changes its thresholds.
    pub preset: Preset,
    /// Gopher's rules of quality.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gopher_quality: Option<GopherQuality>,
    /// Gopher's rules of repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gopher_repetition: Option<GopherRepetition>,
    /// C4's rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub c4: Option<C4>,
    /// FineWeb's own rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fineweb: Option<FineWeb>,
    /// Rules for source code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Languages that are kept, as ISO 639 codes such as `en`; all where empty. Told from the prose of a text, without
    /// its code; a text with too little prose to tell is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// Least confidence, 0 to 1, that a text is in one of the languages: by how much that one leads before the next, which
    /// is no probability.
    #[schemars(range(min = 0, max = 1))]
    pub language_score: f64,
    /// Shortest text that is kept, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<Count>,
    /// Longest text that is kept, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Count>,
    /// What is replaced by placeholders.
    pub scrub: Scrub,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            preset: Preset::None,
            gopher_quality: None,
            gopher_repetition: None,
            c4: None,
            fineweb: None,
            code: None,
            languages: Vec::new(),
            // Of English documentation with code in it, 99 % is told with more.
            language_score: 0.3,
            min_bytes: None,
            max_bytes: None,
            scrub: Scrub::default(),
        }
    }
}

/// Sets of rules under one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// No rules.
    #[default]
    None,
    /// Gopher's rules of repetition and quality.
    Gopher,
    /// C4's rules.
    C4,
    /// What FineWeb was made with: Gopher's rules, C4's without the one on how lines end, and its own.
    Fineweb,
    /// The rules for source code.
    Code,
}

/// Gopher's rules of quality (arXiv 2112.11446, appendix A.1.1). Words are what whitespace and punctuation divide,
/// punctuation marks being words of their own, as `datatrove` counts; the thresholds suit English.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GopherQuality {
    /// Fewest words, punctuation not counted.
    pub min_doc_words: Count,
    /// Most words, punctuation not counted.
    pub max_doc_words: Count,
    /// Least mean length of words, in characters.
    pub min_avg_word_length: f64,
    /// Largest mean length of words, in characters.
    pub max_avg_word_length: f64,
    /// Most `#` a word, and most ellipses a word.
    pub max_symbol_word_ratio: f64,
    /// Largest share of lines that begin with a bullet, `•` or `-`.
    pub max_bullet_lines_ratio: Share,
    /// Largest share of lines that end with an ellipsis.
    pub max_ellipsis_lines_ratio: Share,
    /// Least share of words that have a letter.
    pub min_alpha_words_ratio: Share,
    /// Fewest different stop words.
    pub min_stop_words: u32,
    /// The stop words.
    pub stop_words: Vec<String>,
}

impl Default for GopherQuality {
    fn default() -> Self {
        Self {
            min_doc_words: Count(50),
            max_doc_words: Count(100_000),
            min_avg_word_length: 3.0,
            max_avg_word_length: 10.0,
            max_symbol_word_ratio: 0.1,
            max_bullet_lines_ratio: Share(0.9),
            max_ellipsis_lines_ratio: Share(0.3),
            min_alpha_words_ratio: Share(0.8),
            min_stop_words: 2,
            stop_words: ["the", "be", "to", "of", "and", "that", "have", "with"].map(str::to_owned).to_vec(),
        }
    }
}

/// Gopher's rules of repetition (arXiv 2112.11446, table A1). All are shares of the text: 1 switches a rule off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GopherRepetition {
    /// Largest share of lines that came before.
    pub dup_line_frac: Share,
    /// Largest share of paragraphs that came before.
    pub dup_para_frac: Share,
    /// Largest share of characters in lines that came before.
    pub dup_line_char_frac: Share,
    /// Largest share of characters in paragraphs that came before.
    pub dup_para_char_frac: Share,
    /// Largest share of characters in the commonest pair of words.
    pub top_2_gram: Share,
    /// Largest share of characters in the commonest 3 words in a row.
    pub top_3_gram: Share,
    /// Largest share of characters in the commonest 4 words in a row.
    pub top_4_gram: Share,
    /// Largest share of characters in 5 words in a row that came before.
    pub dup_5_gram: Share,
    /// Largest share of characters in 6 words in a row that came before.
    pub dup_6_gram: Share,
    /// Largest share of characters in 7 words in a row that came before.
    pub dup_7_gram: Share,
    /// Largest share of characters in 8 words in a row that came before.
    pub dup_8_gram: Share,
    /// Largest share of characters in 9 words in a row that came before.
    pub dup_9_gram: Share,
    /// Largest share of characters in 10 words in a row that came before.
    pub dup_10_gram: Share,
}

impl Default for GopherRepetition {
    fn default() -> Self {
        Self {
            dup_line_frac: Share(0.3),
            dup_para_frac: Share(0.3),
            dup_line_char_frac: Share(0.2),
            dup_para_char_frac: Share(0.2),
            top_2_gram: Share(0.2),
            top_3_gram: Share(0.18),
            top_4_gram: Share(0.16),
            dup_5_gram: Share(0.15),
            dup_6_gram: Share(0.14),
            dup_7_gram: Share(0.13),
            dup_8_gram: Share(0.12),
            dup_9_gram: Share(0.11),
            dup_10_gram: Share(0.1),
        }
    }
}

/// C4's rules (arXiv 1910.10683, section 2.2). They judge whole documents: lines that C4 takes out are left where they
/// are, and only do not count as sentences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct C4 {
    /// Do not count lines that end without `.`, `?`, `!` or a quotation mark.
    pub filter_no_terminal_punct: bool,
    /// Fewest sentences in the lines that count.
    pub min_num_sentences: u32,
    /// Do not count lines of fewer words.
    pub min_words_per_line: u32,
    /// Do not count lines with a longer word, in characters.
    pub max_word_length: Count,
    /// Leave out texts that say `lorem ipsum`.
    pub filter_lorem_ipsum: bool,
    /// Do not count lines that say `javascript`.
    pub filter_javascript: bool,
    /// Leave out texts with a `{`.
    pub filter_curly_bracket: bool,
    /// Do not count lines about cookies, terms of use and privacy policies.
    pub filter_policy: bool,
}

impl Default for C4 {
    fn default() -> Self {
        Self {
            filter_no_terminal_punct: true,
            min_num_sentences: 5,
            min_words_per_line: 3,
            max_word_length: Count(1000),
            filter_lorem_ipsum: true,
            filter_javascript: true,
            filter_curly_bracket: true,
            filter_policy: true,
        }
    }
}

/// FineWeb's own rules (arXiv 2406.17557, section 3.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FineWeb {
    /// Least share of lines that end with the punctuation that ends a sentence.
    pub line_punct_thr: Share,
    /// Keep texts of which no line ends so.
    pub line_punct_exclude_zero: bool,
    /// Largest share of short lines.
    pub short_line_thr: Share,
    /// Longest line that is short, in characters.
    pub short_line_length: Count,
    /// Largest share of characters in lines that came before.
    pub char_duplicates_ratio: Share,
    /// Most ends of line a word.
    pub new_line_ratio: f64,
}

impl Default for FineWeb {
    fn default() -> Self {
        Self {
            line_punct_thr: Share(0.12),
            line_punct_exclude_zero: false,
            short_line_thr: Share(0.67),
            short_line_length: Count(30),
            char_duplicates_ratio: Share(0.01),
            new_line_ratio: 0.3,
        }
    }
}

/// Rules for source code (Codex, arXiv 2107.03374, section 3.1; the share is StarCoder's, arXiv 2305.06161).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Code {
    /// Largest mean length of lines, in characters.
    pub max_avg_line_length: f64,
    /// Longest line, in characters.
    pub max_line_length: Count,
    /// Least share of characters that are letters or digits.
    pub min_alphanumeric_ratio: Share,
    /// Leave out files whose first five lines say that a program wrote them.
    pub filter_generated: bool,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            max_avg_line_length: 100.0,
            max_line_length: Count(1000),
            min_alphanumeric_ratio: Share(0.25),
            filter_generated: true,
        }
    }
}

/// What is replaced by placeholders, in every document of the source, before it is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// E-mail addresses, but for those that only stand for one, such as `user@example.com`.
    pub emails: bool,
    /// Keys, tokens, private keys and passwords.
    pub secrets: bool,
    /// Public IPv4 addresses. In web text they are people's; in documentation they are more often versions of programs.
    pub ip_addresses: bool,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { emails: true, secrets: true, ip_addresses: false }
    }
}

impl Settings {
    /// What keys owe each other: each key at fault, from here, with what is wrong.
    #[must_use]
    pub fn broken(&self) -> Vec<(String, String)> {
        let mut broken = Vec::new();
        for (at, code) in self.languages.iter().enumerate() {
            if let Err(error) = super::language::of_code(code) {
                broken.push((format!("languages.{at}"), error.to_string()));
            }
        }
        let mut ordered = |key: &str, least: f64, most: f64| {
            if least > most {
                broken.push((key.to_owned(), format!("is {least}, over the largest, {most}: nothing would be kept")));
            }
        };
        if let (Some(least), Some(most)) = (self.min_bytes, self.max_bytes) {
            ordered("min_bytes", least.0 as f64, most.0 as f64);
        }
        if let Some(rules) = &self.gopher_quality {
            let (least, most) = (rules.min_doc_words.0 as f64, rules.max_doc_words.0 as f64);
            ordered("gopher_quality.min_doc_words", least, most);
            ordered("gopher_quality.min_avg_word_length", rules.min_avg_word_length, rules.max_avg_word_length);
            let words = rules.stop_words.len() as f64;
            ordered("gopher_quality.min_stop_words", f64::from(rules.min_stop_words), words);
        }
        broken
    }

    /// The settings with the sets of rules that the preset switches on written out.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut settings = self.clone();
        if matches!(self.preset, Preset::Gopher | Preset::Fineweb) {
            settings.gopher_quality.get_or_insert_default();
            settings.gopher_repetition.get_or_insert_default();
        }
        match self.preset {
            Preset::C4 => {
                settings.c4.get_or_insert_default();
            }
            Preset::Fineweb => {
                settings.c4.get_or_insert(C4 { filter_no_terminal_punct: false, ..C4::default() });
                settings.fineweb.get_or_insert_default();
            }
            Preset::Code => {
                settings.code.get_or_insert_default();
            }
            Preset::None | Preset::Gopher => {}
        }
        settings
    }
}
