//! Gopher's rules of quality: is it prose?

use std::collections::HashMap;

use super::filter::{Drop, percent};
use super::lines::{BuildSame, lines};
use super::settings::GopherQuality;
use super::words::{Words, hash};

/// The rules, with the stop words by their hashes.
#[derive(Clone, Debug)]
pub(super) struct Quality {
    settings: GopherQuality,
    stop_words: HashMap<u64, usize, BuildSame>,
}

impl Quality {
    pub(super) fn new(settings: GopherQuality) -> Self {
        let mut stop_words = HashMap::default();
        for word in &settings.stop_words {
            let next = stop_words.len();
            stop_words.entry(hash(word)).or_insert(next);
        }
        Self { settings, stop_words }
    }

    pub(super) fn judge(&self, text: &str, words: &Words) -> Result<(), Drop> {
        let Self { settings, .. } = self;
        let (least, most) = (settings.min_doc_words.0, settings.max_doc_words.0);
        if words.spoken < least {
            return Err(Drop::new("gopher.short_doc", format!("{} words, at least {least} expected", words.spoken)));
        }
        if words.spoken > most {
            return Err(Drop::new("gopher.long_doc", format!("{} words, at most {most} expected", words.spoken)));
        }
        if words.list.is_empty() {
            return Err(Drop::new("gopher.short_doc", "no words".to_owned()));
        }
        // Of no word there is no mean, and no reason to complain of it.
        let mean = words.spoken_chars as f64 / words.spoken as f64;
        let (least, most) = (settings.min_avg_word_length, settings.max_avg_word_length);
        if mean < least {
            let detail = format!("words have {mean:.2} characters on average, at least {least} expected");
            return Err(Drop::new("gopher.short_words", detail));
        }
        if mean > most {
            let detail = format!("words have {mean:.2} characters on average, at most {most} expected");
            return Err(Drop::new("gopher.long_words", detail));
        }
        self.symbols(text, words)?;
        self.lines(text)?;
        let alphabetic = words.alphabetic as f64 / words.list.len() as f64;
        if alphabetic < settings.min_alpha_words_ratio.0 {
            let least = percent(settings.min_alpha_words_ratio.0);
            let detail = format!("{} of words have a letter, at least {least} expected", percent(alphabetic));
            return Err(Drop::new("gopher.alpha_words", detail));
        }
        self.stop_words(words)
    }

    fn symbols(&self, text: &str, words: &Words) -> Result<(), Drop> {
        let most = self.settings.max_symbol_word_ratio;
        let count = words.list.len() as f64;
        let hashes = memchr::memchr_iter(b'#', text.as_bytes()).count() as f64 / count;
        if hashes > most {
            return Err(Drop::new("gopher.hashes", format!("{hashes:.2} # a word, at most {most} expected")));
        }
        let ellipses = memchr::memmem::find_iter(text.as_bytes(), "...").count()
            + memchr::memmem::find_iter(text.as_bytes(), "\u{2026}").count();
        let ellipses = ellipses as f64 / count;
        if ellipses > most {
            let detail = format!("{ellipses:.2} ellipses a word, at most {most} expected");
            return Err(Drop::new("gopher.ellipses", detail));
        }
        Ok(())
    }

    fn lines(&self, text: &str) -> Result<(), Drop> {
        let (mut count, mut bullets, mut ellipses) = (0_u64, 0_u64, 0_u64);
        for line in lines(text) {
            count += 1;
            bullets += u64::from(line.trim_start().starts_with(['\u{2022}', '-']));
            let end = line.trim_end();
            ellipses += u64::from(end.ends_with("...") || end.ends_with('\u{2026}'));
        }
        let (bullets, ellipses) = (bullets as f64 / count as f64, ellipses as f64 / count as f64);
        let most = self.settings.max_bullet_lines_ratio.0;
        if bullets > most {
            let detail =
                format!("{} of lines begin with a bullet, at most {} expected", percent(bullets), percent(most));
            return Err(Drop::new("gopher.bullet_lines", detail));
        }
        let most = self.settings.max_ellipsis_lines_ratio.0;
        if ellipses > most {
            let detail =
                format!("{} of lines end with an ellipsis, at most {} expected", percent(ellipses), percent(most));
            return Err(Drop::new("gopher.ellipsis_lines", detail));
        }
        Ok(())
    }

    fn stop_words(&self, words: &Words) -> Result<(), Drop> {
        let least = self.settings.min_stop_words as usize;
        let longest = self.settings.stop_words.iter().map(|word| word.chars().count()).max().unwrap_or(0);
        let mut seen = vec![false; self.stop_words.len()];
        let mut found = 0;
        for word in words.list.iter().filter(|word| word.chars as usize <= longest) {
            if found >= least {
                break;
            }
            if let Some(which) = self.stop_words.get(&word.hash)
                && !std::mem::replace(&mut seen[*which], true)
            {
                found += 1;
            }
        }
        if found < least {
            let plural = if found == 1 { "" } else { "s" };
            let detail = format!("{found} stop word{plural}, at least {least} expected");
            return Err(Drop::new("gopher.stop_words", detail));
        }
        Ok(())
    }
}
