//! Text into words, as the pre-tokenizers of byte-level BPEs do it.
//!
//! The regular expressions that nearly every such tokenizer has are written out as code (each a function from the start of a
//! word to its end); any other runs on the library's own engine. Every byte of the text is in exactly one word.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::utils::SysRegex;

use super::classes::{CLASSES, Class, Classes};

/// GPT-2's, which `ByteLevel` has built in.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's, which is cl100k's: numbers of three digits.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's: every digit alone.
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How words are found in text.
pub(super) struct Splitter {
    steps: Vec<Step>,
    classes: &'static Classes,
}

/// One pre-tokenizer: it splits what the one before it left whole.
#[derive(Debug)]
enum Step {
    /// GPT-2's expression.
    Gpt2,
    /// Llama 3's or Qwen 2's, with numbers of so many digits.
    Tiktoken { digits: usize },
    /// Another; what it leaves between its matches are words too.
    Regex(SysRegex),
    /// Numeric characters apart from others: each alone, or together.
    Digits { alone: bool },
}

impl Splitter {
    /// From a pre-tokenizer that ends in the byte level. The error says what of it is not covered.
    pub(super) fn new(pre_tokenizer: &PreTokenizerWrapper) -> Result<Self, String> {
        let classes = CLASSES.as_ref().ok_or("the regex engine lacks Unicode classes")?;
        let mut flat = Vec::new();
        flatten(pre_tokenizer, &mut flat);
        let (last, before) = flat.split_last().ok_or("no pre-tokenizer")?;
        let mut steps = before.iter().map(|step| Step::new(step)).collect::<Result<Vec<_>, _>>()?;
        match last {
            PreTokenizerWrapper::ByteLevel(level) if level.add_prefix_space => return Err("add_prefix_space".into()),
            PreTokenizerWrapper::ByteLevel(level) if level.use_regex => steps.push(Step::Gpt2),
            PreTokenizerWrapper::ByteLevel(_) => {}
            _ => return Err("a pre-tokenizer that does not end in the byte level".into()),
        }
        Ok(Self { steps, classes })
    }

    /// What it does, for a log line.
    pub(super) fn description(&self) -> String {
        if self.steps.is_empty() {
            return "not split into words".to_owned();
        }
        let names = self.steps.iter().map(|step| match step {
            Step::Gpt2 => "GPT-2's words".to_owned(),
            Step::Tiktoken { digits: 1 } => "Qwen 2's words".to_owned(),
            Step::Tiktoken { .. } => "Llama 3's words".to_owned(),
            Step::Regex(_) => "words by regular expression".to_owned(),
            Step::Digits { .. } => "digits apart".to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether the library's engine runs, which panics where it gives up.
    pub(super) fn has_regex(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Regex(_)))
    }

    /// Calls `word` with every word of `text`, in order: where it starts and ends.
    #[inline]
    pub(super) fn split<E>(&self, text: &str, mut word: impl FnMut(usize, usize) -> Result<(), E>) -> Result<(), E> {
        let bytes = text.as_bytes();
        match self.steps[..] {
            [Step::Gpt2] => each(bytes, word, |at| gpt2(self.classes, bytes, at)),
            [Step::Tiktoken { digits }] => each(bytes, word, |at| tiktoken(self.classes, bytes, at, digits)),
            _ => self.chain(&self.steps, text, 0, &mut word),
        }
    }

    /// The steps one after another, on a piece that starts at `base`.
    fn chain<E>(
        &self,
        steps: &[Step],
        text: &str,
        base: usize,
        word: &mut dyn FnMut(usize, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((step, rest)) = steps.split_first() else {
            return if text.is_empty() { Ok(()) } else { word(base, base + text.len()) };
        };
        let bytes = text.as_bytes();
        let mut piece = |start: usize, end: usize| match rest {
            [] if start < end => word(base + start, base + end),
            [] => Ok(()),
            rest => self.chain(rest, &text[start..end], base + start, word),
        };
        match step {
            Step::Gpt2 => each(bytes, piece, |at| gpt2(self.classes, bytes, at)),
            Step::Tiktoken { digits } => each(bytes, piece, |at| tiktoken(self.classes, bytes, at, *digits)),
            Step::Digits { alone } => each(bytes, piece, |at| digits(text, at, *alone)),
            Step::Regex(regex) => {
                let mut done = 0;
                for (start, end) in regex.find_iter(text) {
                    if done < start {
                        piece(done, start)?;
                    }
                    piece(start, end)?;
                    done = end;
                }
                if done < text.len() { piece(done, text.len()) } else { Ok(()) }
            }
        }
    }
}

impl Step {
    fn new(pre_tokenizer: &PreTokenizerWrapper) -> Result<Self, String> {
        match pre_tokenizer {
            PreTokenizerWrapper::Digits(digits) => Ok(Self::Digits { alone: digits.individual_digits }),
            PreTokenizerWrapper::Split(split) => {
                let expression = match &split.pattern {
                    SplitPattern::Regex(expression) => expression.clone(),
                    SplitPattern::String(text) => regex::escape(text),
                };
                let known = match expression.as_str() {
                    GPT2 => Some(Self::Gpt2),
                    LLAMA3 => Some(Self::Tiktoken { digits: 3 }),
                    QWEN2 => Some(Self::Tiktoken { digits: 1 }),
                    _ => None,
                };
                match (split.behavior, split.invert, known) {
                    (SplitDelimiterBehavior::Isolated, _, Some(known)) => Ok(known),
                    // The expressions known here leave nothing between their matches to be removed.
                    (SplitDelimiterBehavior::Removed, true, Some(known)) => Ok(known),
                    (SplitDelimiterBehavior::Isolated, _, None) => {
                        SysRegex::new(&expression).map(Self::Regex).map_err(|error| error.to_string())
                    }
                    (behavior, ..) => Err(format!("a split that is {behavior:?}")),
                }
            }
            other => {
                let name = format!("{other:?}");
                let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
                Err(format!("the pre-tokenizer {}", &name[..end]))
            }
        }
    }
}

/// Sequences within sequences, laid out.
fn flatten<'a>(pre_tokenizer: &'a PreTokenizerWrapper, into: &mut Vec<&'a PreTokenizerWrapper>) {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(sequence) => sequence.as_ref().iter().for_each(|one| flatten(one, into)),
        other => into.push(other),
    }
}

/// Calls `word` for every word, `end` telling where the one that starts somewhere ends.
#[inline(always)]
fn each<E>(
    text: &[u8],
    mut word: impl FnMut(usize, usize) -> Result<(), E>,
    end: impl Fn(usize) -> usize,
) -> Result<(), E> {
    let mut at = 0;
    while at < text.len() {
        let next = end(at);
        word(at, next)?;
        at = next;
    }
    Ok(())
}

/// The end of GPT-2's word that starts at `at`.
#[inline(always)]
fn gpt2(classes: &Classes, text: &[u8], at: usize) -> usize {
    let first = text[at];
    if first == b' ' {
        if at + 1 < text.len() {
            let (class, length) = classes.at(text, at + 1);
            if class != Class::Space {
                return run(classes, text, at + 1 + length, class);
            }
        }
        return spaces(classes, text, at, false);
    }
    if first == b'\''
        && let Some(end) = contraction(text, at)
    {
        return end;
    }
    match classes.at(text, at) {
        (Class::Space, _) => spaces(classes, text, at, false),
        (class, length) => run(classes, text, at + length, class),
    }
}

/// The end of Llama 3's or Qwen 2's word that starts at `at`.
#[inline(always)]
fn tiktoken(classes: &Classes, text: &[u8], at: usize, digits: usize) -> usize {
    let first = text[at];
    if first == b'\''
        && let Some(end) = contraction_of_any_case(text, at)
    {
        return end;
    }
    let (class, length) = classes.at(text, at);
    match class {
        Class::Letter => return run(classes, text, at + length, Class::Letter),
        Class::Number => {
            let mut end = at + length;
            for _ in 1..digits {
                match text.get(end).map(|_| classes.at(text, end)) {
                    Some((Class::Number, length)) => end += length,
                    _ => break,
                }
            }
            return end;
        }
        Class::Space | Class::Other => {}
    }
    let after = at + length;
    let next = text.get(after).map(|_| classes.at(text, after));
    if let Some((Class::Letter, length)) = next
        && !matches!(first, b'\r' | b'\n')
    {
        return run(classes, text, after + length, Class::Letter);
    }
    let others = match (class, next) {
        (Class::Other, _) => Some(after),
        (_, Some((Class::Other, length))) if first == b' ' => Some(after + length),
        _ => None,
    };
    let Some(start) = others else { return spaces(classes, text, at, true) };
    let mut end = run(classes, text, start, Class::Other);
    while let Some(b'\r' | b'\n') = text.get(end) {
        end += 1;
    }
    end
}

/// `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe.
fn contraction(text: &[u8], at: usize) -> Option<usize> {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some(b's' | b't' | b'm' | b'd'), _) => Some(at + 2),
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => Some(at + 3),
        _ => None,
    }
}

/// The same in any case; the long s is an s in another case.
fn contraction_of_any_case(text: &[u8], at: usize) -> Option<usize> {
    let lower = |number: usize| text.get(at + number).map(u8::to_ascii_lowercase);
    match (lower(1), lower(2)) {
        (Some(b's' | b't' | b'm' | b'd'), _) => Some(at + 2),
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => Some(at + 3),
        // U+017F
        (Some(0xc5), Some(0xbf)) => Some(at + 3),
        _ => None,
    }
}

/// The end of the run of one class that goes on at `at`.
#[inline(always)]
fn run(classes: &Classes, text: &[u8], mut at: usize, class: Class) -> usize {
    if class == Class::Letter {
        while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let letters = ascii_letters(u64::from_le_bytes(*eight));
            at += letters;
            if letters < 8 {
                break;
            }
        }
    }
    while at < text.len() {
        match classes.at(text, at) {
            (found, length) if found == class => at += length,
            _ => break,
        }
    }
    at
}

/// How many of eight bytes are ASCII letters before the first that is none.
#[inline(always)]
fn ascii_letters(eight: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let lower = (eight | (0x20 * ONES)) & !HIGH;
    let from_a = lower + (0x80 - b'a' as u64) * ONES;
    let beyond_z = lower + (0x80 - b'z' as u64 - 1) * ONES;
    let other = !(from_a & !beyond_z & !eight) & HIGH;
    other.trailing_zeros() as usize / 8
}

/// The end of the white space that starts at `at`: with `lines` after its last line break if it has one; else before its last
/// character if a word follows, which that character belongs to.
fn spaces(classes: &Classes, text: &[u8], at: usize, lines: bool) -> usize {
    let (mut end, mut last, mut broken) = (at, at, None);
    while end < text.len() {
        let (Class::Space, length) = classes.at(text, end) else { break };
        last = end;
        end += length;
        if lines && matches!(text[last], b'\r' | b'\n') {
            broken = Some(end);
        }
    }
    match broken {
        Some(after) => after,
        None if end == text.len() || last == at => end,
        None => last,
    }
}

/// The end of the numeric character, of a run of them, or of a run of others.
fn digits(text: &str, at: usize, alone: bool) -> usize {
    let mut characters = text[at..].chars();
    let Some(first) = characters.next() else { return text.len() };
    if first.is_numeric() && alone {
        return at + first.len_utf8();
    }
    let end = text[at..].find(|character: char| character.is_numeric() != first.is_numeric());
    end.map_or(text.len(), |length| at + length)
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn every_character_in_every_place_is_split_as_the_expression_does() {
        let classes = CLASSES.as_ref().unwrap();
        let characters: Vec<char> = ('\0'..=char::MAX).collect();
        let known = [(GPT2, Step::Gpt2), (LLAMA3, Step::Tiktoken { digits: 3 }), (QWEN2, Step::Tiktoken { digits: 1 })];
        for (expression, step) in known {
            let splitter = Splitter { steps: vec![step], classes };
            let regex = SysRegex::new(expression).unwrap();
            characters.par_chunks(1 << 12).for_each(|characters| {
                let place = |c: &char| format!("'{c} a{c}'r{c}1{c}2 {c}\n{c}  {c}.{c}{c} '{c}e\t{c}l'S{c}\r\n \t{c}");
                let text: String = characters.iter().map(place).collect();
                let mut words = Vec::new();
                let word = |start, end| {
                    words.push((start, end));
                    Ok::<_, ()>(())
                };
                splitter.split(&text, word).unwrap();
                let expected: Vec<_> = regex.find_iter(&text).collect();
                let differs = words.iter().zip(&expected).find(|(found, expected)| found != expected);
                assert!(words == expected, "{expression}: {differs:?}, from {:?}", characters[0]);
            });
        }
    }
}
