//! Gopher's rules of repetition: does it say the same again and again?
//!
//! Runs of n words are looked at from 2 to 10. A run of n words that occurs twice begins with a run of n - 1 words that
//! does, so each n looks only at the places that the one before has left, which in ordinary text are soon few.

use std::collections::{HashMap, HashSet};

use super::filter::{Drop, percent};
use super::lines::{BuildSame, Repeated, pieces, repeated};
use super::settings::GopherRepetition;
use super::words::{Word, Words};

const TOP: [&str; 3] = ["gopher.top_2_gram", "gopher.top_3_gram", "gopher.top_4_gram"];
const DUPLICATE: [&str; 6] = [
    "gopher.dup_5_gram",
    "gopher.dup_6_gram",
    "gopher.dup_7_gram",
    "gopher.dup_8_gram",
    "gopher.dup_9_gram",
    "gopher.dup_10_gram",
];

/// Judges a text; `chars` is its length in characters.
pub(super) fn judge(settings: &GopherRepetition, text: &str, chars: u64, words: &Words) -> Result<(), Drop> {
    if text.is_empty() {
        return Err(Drop::new("gopher.empty", "no text".to_owned()));
    }
    let paragraphs = repeated(pieces(text.trim(), 2));
    let parts = settings.dup_para_frac.0;
    shares(
        "paragraphs",
        paragraphs,
        chars,
        [("gopher.dup_para_frac", parts), ("gopher.dup_para_char_frac", settings.dup_para_char_frac.0)],
    )?;
    shares(
        "lines",
        repeated(pieces(text, 1)),
        chars,
        [
            ("gopher.dup_line_frac", settings.dup_line_frac.0),
            ("gopher.dup_line_char_frac", settings.dup_line_char_frac.0),
        ],
    )?;
    let mut runs = Runs::new(&words.list);
    for (rule, most) in TOP.into_iter().zip([settings.top_2_gram, settings.top_3_gram, settings.top_4_gram]) {
        runs.lengthen();
        let share = runs.top() as f64 / chars as f64;
        if share > most.0 {
            let (share, most) = (percent(share), percent(most.0));
            let detail = format!("the commonest {} words in a row are {share} of it, at most {most} expected", runs.n);
            return Err(Drop::new(rule, detail));
        }
    }
    let most = [
        settings.dup_5_gram,
        settings.dup_6_gram,
        settings.dup_7_gram,
        settings.dup_8_gram,
        settings.dup_9_gram,
        settings.dup_10_gram,
    ];
    for (rule, most) in DUPLICATE.into_iter().zip(most) {
        runs.lengthen();
        let share = runs.duplicated() as f64 / chars as f64;
        if share > most.0 {
            let (share, most) = (percent(share), percent(most.0));
            let detail =
                format!("{share} of it are {} words in a row that came before, at most {most} expected", runs.n);
            return Err(Drop::new(rule, detail));
        }
    }
    Ok(())
}

/// The share of pieces that came before, and that of their characters.
fn shares(what: &str, count: Repeated, chars: u64, rules: [(&'static str, f64); 2]) -> Result<(), Drop> {
    let [(pieces_rule, most_pieces), (chars_rule, most_chars)] = rules;
    let share = count.repeated as f64 / count.pieces as f64;
    if share > most_pieces {
        let detail = format!("{} of {what} came before, at most {} expected", percent(share), percent(most_pieces));
        return Err(Drop::new(pieces_rule, detail));
    }
    let share = count.chars as f64 / chars as f64;
    if share > most_chars {
        let (share, most) = (percent(share), percent(most_chars));
        let detail = format!("{share} of the characters are {what} that came before, at most {most} expected");
        return Err(Drop::new(chars_rule, detail));
    }
    Ok(())
}

/// Runs of `n` words.
struct Runs<'a> {
    words: &'a [Word],
    n: usize,
    /// Where runs begin that occur more than once, ascending; before the first count, every word.
    places: Vec<usize>,
    /// The hash of the run that begins at each place.
    hashes: Vec<u64>,
    /// How often each run of this length occurs.
    counts: HashMap<u64, u32, BuildSame>,
}

impl<'a> Runs<'a> {
    fn new(words: &'a [Word]) -> Self {
        let hashes = words.iter().map(|word| word.hash).collect();
        Self { words, n: 1, places: (0..words.len()).collect(), hashes, counts: HashMap::default() }
    }

    /// Goes on to runs of one word more.
    fn lengthen(&mut self) {
        let Self { words, n, places, hashes, counts } = self;
        *n += 1;
        counts.clear();
        let mut kept = 0;
        for at in 0..places.len() {
            let place = places[at];
            if let Some(word) = words.get(place + *n - 1) {
                let hash = hashes[at].wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word.hash);
                let count = counts.entry(hash).or_insert(0);
                *count = count.saturating_add(1);
                (places[kept], hashes[kept]) = (place, hash);
                kept += 1;
            }
        }
        places.truncate(kept);
        hashes.truncate(kept);
        let mut kept = 0;
        for at in 0..places.len() {
            if counts.get(&hashes[at]).is_some_and(|count| *count > 1) {
                (places[kept], hashes[kept]) = (places[at], hashes[at]);
                kept += 1;
            }
        }
        places.truncate(kept);
        hashes.truncate(kept);
    }

    /// Characters of the run at a place, with a space between its words where `spaces` is 1.
    fn chars(&self, place: usize, spaces: u64) -> u64 {
        let words = self.words.get(place..place + self.n).unwrap_or_default();
        words.iter().map(|word| u64::from(word.chars)).sum::<u64>() + spaces * (self.n as u64 - 1)
    }

    /// Characters of all occurrences of the commonest run; of equally common ones, the first. Where none occurs twice, the
    /// first run of the text.
    fn top(&self) -> u64 {
        let mut best: Option<(u32, usize)> = None;
        for (place, hash) in self.places.iter().zip(&self.hashes) {
            let count = self.counts.get(hash).copied().unwrap_or(0);
            if best.is_none_or(|(most, _)| count > most) {
                best = Some((count, *place));
            }
        }
        match best {
            Some((count, place)) => u64::from(count) * self.chars(place, 1),
            None if self.words.len() >= self.n => self.chars(0, 1),
            None => 0,
        }
    }

    /// Characters of the runs that came before, none counted twice: after one, the next may begin behind it.
    fn duplicated(&self) -> u64 {
        let mut seen: HashSet<u64, BuildSame> = HashSet::default();
        let (mut chars, mut free) = (0, 0);
        for (place, hash) in self.places.iter().zip(&self.hashes) {
            if *place >= free && !seen.insert(*hash) {
                chars += self.chars(*place, 0);
                free = place + self.n;
            }
        }
        chars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_of(text: &str, n: usize) -> (u64, u64) {
        let words = Words::of(text);
        let mut runs = Runs::new(&words.list);
        while runs.n < n {
            runs.lengthen();
        }
        (runs.top(), runs.duplicated())
    }

    #[test]
    fn runs_that_came_before_are_counted_once_and_do_not_overlap() {
        // a b a b a b: after the second `a b` the third begins behind it.
        assert_eq!(runs_of("a b a b a b", 2), (9, 4));
        assert_eq!(runs_of("a a a a a", 2), (12, 2));
        assert_eq!(runs_of("one two three", 3), (13, 0));
        assert_eq!(runs_of("one two", 3), (0, 0));
    }

    #[test]
    fn a_long_run_is_found_though_only_places_of_shorter_ones_are_kept() {
        let text = "the quick brown fox jumps over the lazy dog again and again ; the quick brown fox jumps over it";
        assert_eq!(runs_of(text, 5).1, "thequickbrownfoxjumps".len() as u64);
        assert_eq!(runs_of(text, 6).1, "thequickbrownfoxjumpsover".len() as u64);
        assert_eq!(runs_of(text, 7).1, 0);
    }
}
