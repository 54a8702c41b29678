//! How text is set off on a terminal, and how without colour.
//!
//! Loss weights: text that is learned is as it always is, text that is not learned is dim, what is learned in part is
//! cyan. Without colour `⟦0⟧` stands where the weight becomes 0. Tokens have backgrounds in turn, or `│` between them;
//! matches are black on yellow, or between `»` and `«`. Documents are hostile: their own control characters are shown.

use std::io::{self, Write};
use std::ops::Range;

use clap::ValueEnum;

use super::decoded::Decoded;
use crate::visible::visible;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless the environment has `NO_COLOR` or a `TERM` that is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    /// Whether to colour, on a terminal or elsewhere, in an environment.
    #[must_use]
    pub fn colours(self, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
                terminal && !refused && variable("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// What is set off, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    /// By colour, or by signs.
    pub colours: bool,
    /// Whether tokens are told apart.
    pub tokens: bool,
}

const LEARNED: &str = "0";
const UNLEARNED: &str = "2";
const PARTLY: &str = "36";
const MATCH: &str = "1;30;43";
const TITLE: &str = "1";
/// Backgrounds of tokens in turn, pale on any terminal, so that black is read on them.
const BACKGROUNDS: [u8; 4] = [153, 223, 194, 225];
/// On a background: what is learned, what is not, what is in part.
const ON_BACKGROUND: [u8; 3] = [16, 244, 25];

impl Paint {
    /// A line that says how loss weights are shown.
    pub(super) fn legend(self, out: &mut dyn Write) -> io::Result<()> {
        if !self.colours {
            return writeln!(
                out,
                "loss        ⟦w⟧ stands where the loss weight becomes w; each document begins with 1"
            );
        }
        write!(out, "loss        ")?;
        for (code, words) in [(LEARNED, "learned"), (UNLEARNED, "not learned"), (PARTLY, "learned in part")] {
            self.set(code, words, out)?;
            write!(out, "   ")?;
        }
        writeln!(out)
    }

    /// A title.
    pub(super) fn title(self, title: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.colours {
            self.set(TITLE, title, out)?
        } else {
            write!(out, "{title}")?
        }
        writeln!(out)
    }

    /// The part of a document that `window` is, with its `matches` (byte ranges, ascending).
    pub(super) fn document(
        self,
        decoded: &Decoded,
        matches: &[Range<usize>],
        window: &Range<usize>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (mut at, mut weight) = (0, 1.0);
        for (number, run) in decoded.runs.iter().enumerate() {
            let (start, end) = (at.max(window.start), run.end.min(window.end));
            at = run.end;
            if start >= end {
                continue;
            }
            if !self.colours {
                if self.tokens && number > 0 {
                    write!(out, "│")?;
                }
                if run.weight != weight {
                    write!(out, "⟦{}⟧", (f64::from(run.weight) * 100.0).round() / 100.0)?;
                }
            }
            weight = run.weight;
            let code = self.code(number, run.weight);
            let mut from = start;
            let first = matches.partition_point(|found| found.end <= start);
            for found in matches[first..].iter().take_while(|found| found.start < end) {
                let inside = found.start.max(start)..found.end.min(end);
                self.plain_or(&code, &decoded.text[from..inside.start], out)?;
                self.matched(&decoded.text[inside.clone()], found, &inside, out)?;
                from = inside.end;
            }
            self.plain_or(&code, &decoded.text[from..end], out)?;
        }
        Ok(())
    }

    fn matched(self, text: &str, found: &Range<usize>, inside: &Range<usize>, out: &mut dyn Write) -> io::Result<()> {
        if self.colours {
            return self.set(MATCH, text, out);
        }
        let open = if inside.start == found.start { "»" } else { "" };
        let close = if inside.end == found.end { "«" } else { "" };
        write!(out, "{open}{}{close}", visible(text))
    }

    fn code(self, number: usize, weight: f32) -> String {
        let level = if weight >= 1.0 { 0 } else { 1 + usize::from(weight > 0.0) };
        if self.tokens {
            format!("38;5;{};48;5;{}", ON_BACKGROUND[level], BACKGROUNDS[number % BACKGROUNDS.len()])
        } else {
            [LEARNED, UNLEARNED, PARTLY][level].to_owned()
        }
    }

    fn plain_or(self, code: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.colours { self.set(code, text, out) } else { write!(out, "{}", visible(text)) }
    }

    /// Text in a colour; ends of lines are not, or a background would run on to the edge of the screen.
    fn set(self, code: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        for (number, line) in visible(text).split('\n').enumerate() {
            if number > 0 {
                // Tokens that are ends of lines would not be seen.
                if self.tokens {
                    write!(out, "\u{1b}[{code}m⏎\u{1b}[0m")?;
                }
                writeln!(out)?;
            }
            match line {
                "" => {}
                line if code == LEARNED => write!(out, "{line}")?,
                line => write!(out, "\u{1b}[{code}m{line}\u{1b}[0m")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::decoded::Run;
    use super::*;

    fn painted(paint: Paint, matches: &[Range<usize>], window: Range<usize>) -> String {
        let runs = [(6, 0.0), (11, 1.0), (14, 0.502)].map(|(end, weight)| Run { end, weight }).to_vec();
        let decoded = Decoded { text: "user:\nhello\u{1b}[m".to_owned(), runs };
        let mut out = Vec::new();
        paint.document(&decoded, matches, &window, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn signs_tell_weights_tokens_and_matches_apart_without_colour() {
        let plain = Paint::default();
        assert_eq!(painted(plain, &[], 0..14), "⟦0⟧user:\n⟦1⟧hello⟦0.5⟧␛[m");
        assert_eq!(painted(plain, std::slice::from_ref(&(4..8)), 0..14), "⟦0⟧user»:\n⟦1⟧he«llo⟦0.5⟧␛[m");
        assert_eq!(painted(plain, &[], 7..10), "ell");
        assert_eq!(painted(Paint { tokens: true, ..plain }, &[], 0..14), "⟦0⟧user:\n│⟦1⟧hello│⟦0.5⟧␛[m");
    }

    #[test]
    fn colours_end_with_their_lines_and_a_document_sets_none_itself() {
        let colours = Paint { colours: true, tokens: false };
        assert_eq!(painted(colours, &[], 0..14), "\u{1b}[2muser:\u{1b}[0m\nhello\u{1b}[36m␛[m\u{1b}[0m");
        let found = painted(colours, std::slice::from_ref(&(6..8)), 0..11);
        assert_eq!(found, "\u{1b}[2muser:\u{1b}[0m\n\u{1b}[1;30;43mhe\u{1b}[0mllo");
        let tokens = painted(Paint { tokens: true, ..colours }, &[], 0..11);
        let expected = "\u{1b}[38;5;244;48;5;153muser:\u{1b}[0m\u{1b}[38;5;244;48;5;153m⏎\u{1b}[0m\n\u{1b}[38;5;16;48;5;223mhello\u{1b}[0m";
        assert_eq!(tokens, expected);
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let environment =
            |name: &'static str, value: &'static str| move |asked: &str| (asked == name).then(|| value.to_owned());
        assert!(When::Auto.colours(true, environment("TERM", "xterm")));
        assert!(!When::Auto.colours(false, environment("TERM", "xterm")));
        assert!(!When::Auto.colours(true, environment("NO_COLOR", "1")));
        assert!(When::Auto.colours(true, environment("NO_COLOR", "")));
        assert!(!When::Auto.colours(true, environment("TERM", "dumb")));
        assert!(When::Always.colours(false, environment("NO_COLOR", "1")));
        assert!(!When::Never.colours(true, environment("TERM", "xterm")));
    }
}
