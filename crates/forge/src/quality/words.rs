//! The words of a text, as the published thresholds count them.
//!
//! The thresholds were set with tokenizers that make a punctuation mark a word of its own (FineWeb's `datatrove` counts
//! with spaCy's English tokenizer), and several of them, such as the share of words with a letter, mean nothing without
//! it. So a run without whitespace is taken apart as spaCy's rules for English do it, without their lists of exceptions:
//! marks before and behind, a few marks between letters, and contractions.

use xxhash_rust::xxh3::xxh3_64;

/// One word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// Hash of its letters.
    pub(super) hash: u64,
    /// Its length in characters.
    pub(super) chars: u32,
}

/// The words of a text, and what the rules ask of them.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// In order, punctuation marks among them.
    pub(super) list: Vec<Word>,
    /// Words that are more than punctuation.
    pub(super) spoken: u64,
    /// Characters of those.
    pub(super) spoken_chars: u64,
    /// Words with a letter.
    pub(super) alphabetic: u64,
}

impl Words {
    /// Takes a text apart.
    pub(super) fn of(text: &str) -> Self {
        let mut words = Self { list: Vec::with_capacity(text.len() / 5), ..Self::default() };
        let mut suffixes = Vec::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            let mut classes = 0;
            while let Some(byte) = bytes.get(at) {
                let class = CLASSES[usize::from(*byte)];
                if class == SPACE {
                    break;
                }
                classes |= class;
                at += 1;
            }
            let run = &text[start..at];
            if classes & (MARK | HIGH) == 0 {
                if at > start {
                    words.push(run, run.len(), classes);
                }
            } else if classes & HIGH == 0 {
                split(run, &mut suffixes, &mut |word| words.classify(word));
            } else {
                for run in run.split_whitespace() {
                    split(run, &mut suffixes, &mut |word| words.classify(word));
                }
            }
            at += 1;
        }
        words
    }

    fn classify(&mut self, word: &str) {
        let mut classes = word.bytes().fold(0, |classes, byte| classes | CLASSES[usize::from(byte)]);
        let mut chars = word.len();
        if classes & HIGH != 0 {
            chars = word.chars().count();
            for char in word.chars().filter(|char| !char.is_ascii()) {
                classes |= if char.is_alphabetic() { LETTER } else { u8::from(char.is_numeric()) * DIGIT };
            }
        }
        self.push(word, chars, classes);
    }

    fn push(&mut self, word: &str, chars: usize, classes: u8) {
        self.alphabetic += u64::from(classes & LETTER != 0);
        if classes & (LETTER | DIGIT) != 0 {
            self.spoken += 1;
            self.spoken_chars += chars as u64;
        }
        self.list.push(Word { hash: hash(word), chars: u32::try_from(chars).unwrap_or(u32::MAX) });
    }
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const MARK: u8 = 4;
/// A byte of a character beyond ASCII.
const HIGH: u8 = 8;
const SPACE: u8 = 16;

/// What each byte is.
const CLASSES: [u8; 256] = {
    let mut classes = [MARK; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        if byte >= 128 {
            classes[byte] = HIGH;
        } else if ascii.is_ascii_alphabetic() {
            classes[byte] = LETTER;
        } else if ascii.is_ascii_digit() {
            classes[byte] = DIGIT;
        } else if ascii == b' ' || (ascii >= 9 && ascii <= 13) {
            classes[byte] = SPACE;
        }
        byte += 1;
    }
    classes
};

/// The hash of a word.
pub(super) fn hash(word: &str) -> u64 {
    xxh3_64(word.as_bytes())
}

/// Takes a run without whitespace apart; `suffixes` is room for it to work in.
fn split<'a>(run: &'a str, suffixes: &mut Vec<&'a str>, word: &mut dyn FnMut(&'a str)) {
    if run.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return word(run);
    }
    suffixes.clear();
    let mut rest = run;
    while !rest.is_empty() {
        let prefix = prefix(rest);
        if prefix > 0 {
            word(&rest[..prefix]);
            rest = &rest[prefix..];
            continue;
        }
        let suffix = suffix(rest);
        if suffix == 0 {
            break;
        }
        let cut = rest.len() - suffix;
        suffixes.push(&rest[cut..]);
        rest = &rest[..cut];
    }
    if !rest.is_empty() {
        if address(rest) {
            word(rest);
        } else {
            infixes(rest, word);
        }
    }
    suffixes.iter().rev().for_each(|suffix| word(suffix));
}

/// Whether it is an address on the web from its first letter on; one inside other marks, as in Markdown's links, is
/// taken apart.
fn address(text: &str) -> bool {
    let scheme = text.bytes().take_while(u8::is_ascii_alphabetic).count();
    (scheme > 0 && text[scheme..].starts_with("://")) || text.starts_with("www.")
}

/// Marks that are split off before and behind a word.
fn mark(char: char) -> bool {
    match char {
        ',' | ':' | ';' | '!' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '_' | '#' | '*' | '&' => true,
        '\'' | '"' | '`' => true,
        _ if char.is_ascii() => false,
        '\u{2013}' | '\u{2014}' => true,
        // Quotation marks and guillemets, the ellipsis, and the marks of other scripts.
        '\u{2018}'..='\u{201f}' | '\u{2026}' | '\u{ab}' | '\u{bb}' | '\u{b4}' | '\u{bf}' | '\u{a1}' | '\u{b7}' => true,
        '\u{3001}'..='\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}' | '\u{3015}' => true,
        '\u{ff01}' | '\u{ff08}' | '\u{ff09}' | '\u{ff0c}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff1f}' | '\u{ff5e}' => true,
        '\u{61f}' | '\u{60c}' | '\u{61b}' | '\u{66a}' | '\u{6d4}' | '\u{964}' => true,
        _ => icon(char),
    }
}

/// Pictures and signs: what Unicode mostly calls other symbols.
fn icon(char: char) -> bool {
    matches!(char, '\u{a6}' | '\u{a9}' | '\u{ae}' | '\u{b0}' | '\u{2100}'..='\u{214f}' | '\u{2195}'..='\u{21ff}'
        | '\u{2300}'..='\u{23ff}' | '\u{2500}'..='\u{27bf}' | '\u{2800}'..='\u{28ff}' | '\u{1f000}'..='\u{1faff}')
        && !char.is_alphanumeric()
}

fn currency(char: char) -> bool {
    matches!(char, '$' | '\u{a3}' | '\u{a5}' | '\u{20a0}'..='\u{20bf}')
}

/// Bytes of a mark that opens the word; 0 where there is none.
fn prefix(text: &str) -> usize {
    let dots = text.bytes().take_while(|byte| *byte == b'.').count();
    if dots > 1 {
        return dots;
    }
    let mut chars = text.chars();
    match chars.next() {
        Some('+') if !text[1..].starts_with(|char: char| char.is_ascii_digit()) => 1,
        Some(char) if mark(char) || currency(char) || matches!(char, '%' | '=' | '\u{a7}') => char.len_utf8(),
        _ => 0,
    }
}

/// Bytes of a mark that closes the word; 0 where there is none.
fn suffix(text: &str) -> usize {
    let dots = text.bytes().rev().take_while(|byte| *byte == b'.').count();
    if dots > 1 {
        return dots;
    }
    let mut chars = text.chars().rev();
    let Some(last) = chars.next() else { return 0 };
    if mark(last) {
        return last.len_utf8();
    }
    let Some(before) = chars.next() else { return 0 };
    match last {
        's' | 'S' if matches!(before, '\'' | '\u{2019}') => 1 + before.len_utf8(),
        '.' if abbreviation(text) => 0,
        '.' if before.is_ascii_digit() || before.is_lowercase() || matches!(before, '%' | '+' | '-' | '\u{b2}') => 1,
        '.' if mark(before) => 1,
        '.' if before.is_uppercase() && chars.next().is_some_and(char::is_uppercase) => 1,
        '%' | '+' if before.is_ascii_digit() => 1,
        _ if currency(last) && before.is_ascii_digit() => last.len_utf8(),
        _ => 0,
    }
}

/// Words whose full stop is theirs.
fn abbreviation(text: &str) -> bool {
    text.len() <= 5
        && matches!(
            text,
            "Mr."
                | "Mrs."
                | "Ms."
                | "Dr."
                | "St."
                | "Prof."
                | "Jr."
                | "Sr."
                | "Inc."
                | "Co."
                | "Corp."
                | "Ltd."
                | "vs."
                | "e.g."
                | "i.e."
                | "a.m."
                | "p.m."
                | "U.S."
                | "No."
                | "Gen."
                | "Rep."
                | "Sen."
                | "Gov."
        )
}

/// Splits at marks between letters and digits.
fn infixes<'a>(text: &'a str, word: &mut dyn FnMut(&'a str)) {
    let mut start = 0;
    let mut at = 0;
    let mut before = None;
    while let Some(char) = text[at..].chars().next() {
        let width = char.len_utf8();
        let mark = if char.is_alphanumeric() { 0 } else { infix(before, char, &text[at..]) };
        if mark > 0 && at > start {
            contraction(&text[start..at], word);
            word(&text[at..at + mark]);
            start = at + mark;
            before = text[at..start].chars().next_back();
            at = start;
        } else {
            before = Some(char);
            at += width;
        }
    }
    if start < text.len() {
        contraction(&text[start..], word);
    }
}

/// Bytes of the mark at the beginning of `text`, if it parts what is before from what is behind.
fn infix(before: Option<char>, mark: char, text: &str) -> usize {
    let Some(before) = before else { return 0 };
    let next = |width: usize| text[width..].chars().next();
    let letter = |width: usize| next(width).is_some_and(char::is_alphabetic);
    let alphanumeric = before.is_alphabetic() || before.is_ascii_digit();
    match mark {
        '.' => {
            let dots = text.bytes().take_while(|byte| *byte == b'.').count();
            let quote = |char: char| matches!(char, '\'' | '"' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}');
            let parts = (before.is_lowercase() || quote(before))
                && next(1).is_some_and(|char| char.is_uppercase() || quote(char));
            if dots > 1 { dots } else { usize::from(parts) }
        }
        '\u{2026}' => mark.len_utf8(),
        '-' if alphanumeric => {
            let dashes = text.bytes().take_while(|byte| *byte == b'-').count();
            let number = dashes == 1 && before.is_ascii_digit() && next(1).is_some_and(|char| char.is_ascii_digit());
            if number || (dashes <= 3 && letter(dashes)) { dashes } else { 0 }
        }
        '+' | '*' | '^' => {
            let number = |char: char| char.is_ascii_digit() || char == '-';
            usize::from(before.is_ascii_digit() && next(1).is_some_and(number))
        }
        '~' | '\u{2013}' | '\u{2014}' if alphanumeric && letter(mark.len_utf8()) => mark.len_utf8(),
        ',' => usize::from(before.is_alphabetic() && letter(1)),
        ':' | '<' | '>' | '=' | '/' => usize::from(alphanumeric && letter(1)),
        _ if icon(mark) => mark.len_utf8(),
        _ => 0,
    }
}

/// `don't` is two words, and so is `we'll`.
fn contraction<'a>(text: &'a str, word: &mut dyn FnMut(&'a str)) {
    const ENDINGS: [&str; 12] = [
        "n't",
        "'ll",
        "'re",
        "'ve",
        "'d",
        "'m",
        "n\u{2019}t",
        "\u{2019}ll",
        "\u{2019}re",
        "\u{2019}ve",
        "\u{2019}d",
        "\u{2019}m",
    ];
    let cut = |ending: &&str| text.strip_suffix(*ending).map(str::len).filter(|cut| *cut > 0);
    let apostrophe = text.len() <= 16 && text.contains(['\'', '\u{2019}']);
    match apostrophe.then(|| ENDINGS.iter().find_map(cut)).flatten() {
        Some(cut) => {
            word(&text[..cut]);
            word(&text[cut..]);
        }
        None => word(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_text(text: &str) -> Vec<&str> {
        let (mut words, mut suffixes) = (Vec::new(), Vec::new());
        for run in text.split_whitespace() {
            split(run, &mut suffixes, &mut |word| words.push(word));
        }
        words
    }

    #[test]
    fn marks_are_words_of_their_own_and_contractions_two() {
        let text = "\"Don't,\" she said (twice)... John's end-of-line, 50% of $5. See https://a.b/c-d, e.g. now.Then!";
        let expected = "\" Do n't , \" she said ( twice ) ... John 's end - of - line , 50 % of $ 5 . See \
                        https://a.b/c-d , e.g. now . Then !";
        assert_eq!(split_text(text).join(" "), expected);
    }

    #[test]
    fn an_address_is_one_word_but_inside_of_marks_it_is_taken_apart() {
        assert_eq!(split_text("(https://a-b.io/c?d=e)."), ["(", "https://a-b.io/c?d=e", ")", "."]);
        assert_eq!(split_text("[a](http://b/c)").join(" "), "[ a](http://b / c )");
    }

    #[test]
    fn punctuation_is_counted_but_not_spoken() {
        let words = Words::of("Hello, world 42 -- !");
        assert_eq!((words.list.len(), words.spoken, words.spoken_chars, words.alphabetic), (6, 3, 12, 2));
    }

    proptest::proptest! {
        #[test]
        fn no_letter_is_lost_or_doubled(text in "\\PC{0,80}") {
            let together: String = text.split_whitespace().collect();
            assert_eq!(split_text(&text).concat(), together);
        }
    }
}
