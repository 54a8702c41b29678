//! Gopher's rules of repetition: does it say the same again and again?
//!
//! Runs of n words are looked at from 2 to 10. A run of n words that occurs twice begins with a run of n - 1 words that
//! does, so each n looks only at the places that the one before has left, which in ordinary text are soon few.

use std::collections::HashSet;

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
    /// How often the run at each place occurs.
    times: Vec<u32>,
    table: Table,
}

impl<'a> Runs<'a> {
    fn new(words: &'a [Word]) -> Self {
        let hashes = words.iter().map(|word| word.hash).collect();
        Self { words, n: 1, places: (0..words.len()).collect(), hashes, times: Vec::new(), table: Table::default() }
    }

    /// Goes on to runs of one word more.
    fn lengthen(&mut self) {
        self.n += 1;
        self.table.clear(self.places.len());
        let mut slots = Vec::with_capacity(self.places.len());
        for (place, hash) in self.places.iter().zip(&mut self.hashes) {
            // The last place may have no word left behind it.
            let Some(word) = self.words.get(place + self.n - 1) else { break };
            *hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word.hash);
            slots.push(self.table.add(*hash));
        }
        let mut kept = 0;
        self.times.clear();
        for (at, slot) in slots.into_iter().enumerate() {
            let times = self.table.counts[slot].1;
            if times > 1 {
                (self.places[kept], self.hashes[kept]) = (self.places[at], self.hashes[at]);
                self.times.push(times);
                kept += 1;
            }
        }
        self.places.truncate(kept);
        self.hashes.truncate(kept);
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
        for (place, times) in self.places.iter().zip(&self.times) {
            if best.is_none_or(|(most, _)| *times > most) {
                best = Some((*times, *place));
            }
        }
        match best {
            Some((times, place)) => u64::from(times) * self.chars(place, 1),
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

/// Counts hashes: open addressing, at most half full.
#[derive(Default)]
struct Table {
    /// A hash and how often it came; 0 times where the slot is free.
    counts: Vec<(u64, u32)>,
}

impl Table {
    /// Makes room for `hashes` different hashes.
    fn clear(&mut self, hashes: usize) {
        self.counts.clear();
        self.counts.resize((hashes * 2).next_power_of_two().max(2), (0, 0));
    }

    /// Counts a hash; its slot.
    fn add(&mut self, hash: u64) -> usize {
        let mask = self.counts.len() - 1;
        // Of a sum of products the upper bits are the better mixed.
        let mut slot = (hash ^ (hash >> 32)) as usize & mask;
        loop {
            let (known, times) = &mut self.counts[slot];
            if *times == 0 || *known == hash {
                *known = hash;
                *times = times.saturating_add(1);
                return slot;
            }
            slot = (slot + 1) & mask;
        }
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
        assert_eq!(runs_of("a a a a a", 2), (12, 4));
        assert_eq!(runs_of("one two three", 3), (13, 0));
        assert_eq!(runs_of("one two", 3), (0, 0));
    }

    /// The definition, as `datatrove` has it: by the runs' own words, one length at a time.
    fn by_definition(words: &[&str], n: usize) -> (u64, u64) {
        let runs: Vec<&[&str]> = words.windows(n).collect();
        let times = |run: &[&str]| runs.iter().filter(|other| **other == run).count();
        let most = runs.iter().map(|run| times(run)).max().unwrap_or(0);
        let top = runs.iter().find(|run| times(run) == most).map_or(0, |run| run.join(" ").len() * most);
        let (mut seen, mut chars, mut at) = (HashSet::new(), 0, 0);
        while at < runs.len() {
            if seen.insert(runs[at]) {
                at += 1;
            } else {
                chars += runs[at].concat().len();
                at += n;
            }
        }
        (top as u64, chars as u64)
    }

    proptest::proptest! {
        #[test]
        fn leaving_places_out_changes_no_count(words in proptest::collection::vec("a|b|cc|ddd", 0..60), n in 2_usize..11) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(runs_of(&words.join(" "), n), by_definition(&words, n));
        }
    }

    #[test]
    fn a_long_run_is_found_though_only_places_of_shorter_ones_are_kept() {
        let text = "the quick brown fox jumps over the lazy dog again and again ; the quick brown fox jumps over it";
        assert_eq!(runs_of(text, 5).1, "thequickbrownfoxjumps".len() as u64);
        assert_eq!(runs_of(text, 6).1, "thequickbrownfoxjumpsover".len() as u64);
        assert_eq!(runs_of(text, 7).1, 0);
    }
}
