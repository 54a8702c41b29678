//! Documents under their titles, those that are named or those that a search finds.

use std::io::Write;
use std::ops::Range;

use hephaestus_core::corpus::Corpus;
use hephaestus_core::figures::thousands;
use hephaestus_core::progress;
use hephaestus_core::vocabulary::Vocabulary;

use super::search::{self, Pattern, Search};
use super::{Choice, InspectError, Settings, decoded, ids};

/// Token ids shown of a document when there is no tokenizer to decode them.
const IDS: usize = 64;

/// A corpus, what decodes it, and how it is shown.
pub(super) struct View<'a> {
    pub(super) corpus: &'a Corpus,
    pub(super) vocabulary: Option<&'a Vocabulary>,
    pub(super) settings: &'a Settings,
}

impl View<'_> {
    /// Prints a document under its title: all of it, or what is around its matches.
    pub(super) fn print(&self, document: u64, out: &mut dyn Write) -> Result<(), InspectError> {
        let paint = self.settings.paint;
        let (ids, mut weights) = (ids(self.corpus, document)?, Vec::new());
        self.corpus.read_weights(self.corpus.document_range(document)?, &mut weights)?;
        let decoded = match self.vocabulary {
            Some(vocabulary) => decoded::decode(vocabulary, &ids, &weights, paint.tokens)
                .map_err(|reason| InspectError::Decode { document, reason })?,
            None => decoded::numbers(&ids, &weights, IDS),
        };
        let matches = self.settings.search.as_ref().map_or(Vec::new(), |pattern| pattern.places(&decoded.text));
        writeln!(out)?;
        paint.title(&self.title(document, &weights, &matches), out)?;
        let (windows, beyond) = search::windows(decoded.text.trim_end_matches('\n'), &matches);
        for (number, window) in windows.iter().enumerate() {
            if window.start > 0 {
                writeln!(out, "{}…", if number > 0 { "\n" } else { "" })?;
            }
            paint.document(&decoded, &matches, window, out)?;
        }
        let more = windows.last().is_some_and(|last| last.end < decoded.text.trim_end_matches('\n').len());
        writeln!(out, "{}", if more { "\n…" } else { "" })?;
        if beyond > 0 {
            writeln!(out, "and {} more matches", thousands(beyond as u64))?;
        }
        Ok(())
    }

    fn title(&self, document: u64, weights: &[f32], matches: &[Range<usize>]) -> String {
        let mut title = format!("── document {document} · {} tokens ", thousands(weights.len() as u64));
        if self.corpus.has_weights() {
            let learned: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let share = 100.0 * learned / weights.len().max(1) as f64;
            title += &format!("· {share:.1} % learned ");
        }
        match matches.len() {
            0 => {}
            1 => title += "· 1 match ",
            many => title += &format!("· {} matches ", thousands(many as u64)),
        }
        format!("{title:─<100}")
    }

    /// Prints the first `count` documents that match, and how far it looked for them.
    pub(super) fn search(
        &self,
        pattern: &Pattern,
        vocabulary: &Vocabulary,
        count: u64,
        out: &mut dyn Write,
    ) -> Result<(), InspectError> {
        let seed = match self.settings.documents {
            Choice::Sample { seed, .. } => Some(seed),
            Choice::First(_) | Choice::One(_) => None,
        };
        let (mut search, bar) =
            (Search::new(self.corpus, vocabulary, pattern, seed), progress::tokens(self.corpus.tokens(), "searching"));
        let (mut shown, mut searched, mut more) = (0, 0, false);
        while shown < count
            && let Some(batch) = search.batch()?
        {
            for document in &batch.found {
                if shown == count {
                    more = true;
                    break;
                }
                bar.suspend(|| self.print(*document, out))?;
                shown += 1;
            }
            searched += batch.searched;
            bar.inc(batch.tokens);
        }
        bar.finish_and_clear();
        more |= searched < self.corpus.documents();
        let (all, searched) = (thousands(self.corpus.documents()), thousands(searched));
        let shown = match shown {
            0 => "no document matches".to_owned(),
            1 => "1 document".to_owned(),
            many => format!("{} documents", thousands(many)),
        };
        let further = if more { "; a larger --documents shows more" } else { "" };
        writeln!(out, "\n{shown}, {searched} of {all} searched{further}")?;
        Ok(())
    }
}
