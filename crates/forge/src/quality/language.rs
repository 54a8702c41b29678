//! The language of a text's prose.

use hephaestus_core::settings::problem::nearest;
use whatlang::{Detector, Lang};

use super::filter::Drop;

/// Bytes of prose that are enough to tell a language, and the most that are looked at.
const ENOUGH: usize = 1536;
/// Letters of prose below which a language is not told.
const LEAST_LETTERS: usize = 80;

/// A language that is not among those that can be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no language that can be told has the code `{code}`{}; expected an ISO 639 code such as en, de or zh", .near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
pub struct UnknownLanguage {
    /// As the user wrote it.
    pub code: String,
    /// A code near it.
    pub near: Option<String>,
}

/// The languages that are kept.
#[derive(Clone, Debug)]
pub(super) struct Languages {
    kept: Vec<Lang>,
    written: String,
    least: f64,
}

impl Languages {
    /// None where all are kept.
    pub(super) fn new(codes: &[String], least: f64) -> Result<Option<Self>, UnknownLanguage> {
        let kept = codes.iter().map(|code| of_code(code)).collect::<Result<Vec<_>, _>>()?;
        Ok((!kept.is_empty()).then(|| Self { kept, written: codes.join(", "), least }))
    }

    pub(super) fn judge(&self, text: &str) -> Result<(), Drop> {
        let prose = prose(text);
        if prose.chars().filter(|char| char.is_alphabetic()).take(LEAST_LETTERS).count() < LEAST_LETTERS {
            return Ok(());
        }
        let Some(info) = Detector::new().detect(&prose) else { return Ok(()) };
        let (found, confidence) = (info.lang(), info.confidence());
        if self.kept.contains(&found) && confidence >= self.least {
            return Ok(());
        }
        let detail = format!(
            "{} with confidence {confidence:.2}, {} with at least {} expected",
            short(found).unwrap_or_else(|| found.code()),
            self.written,
            self.least
        );
        Err(Drop::new("language", detail))
    }
}

/// ISO 639-1 codes of the languages that can be told, with the ISO 639-3 codes they stand for.
const CODES: [(&str, &str); 68] = [
    ("af", "afr"),
    ("ak", "aka"),
    ("am", "amh"),
    ("ar", "ara"),
    ("az", "aze"),
    ("be", "bel"),
    ("bg", "bul"),
    ("bn", "ben"),
    ("ca", "cat"),
    ("cs", "ces"),
    ("cy", "cym"),
    ("da", "dan"),
    ("de", "deu"),
    ("el", "ell"),
    ("en", "eng"),
    ("eo", "epo"),
    ("es", "spa"),
    ("et", "est"),
    ("fa", "pes"),
    ("fi", "fin"),
    ("fr", "fra"),
    ("gu", "guj"),
    ("he", "heb"),
    ("hi", "hin"),
    ("hr", "hrv"),
    ("hu", "hun"),
    ("hy", "hye"),
    ("id", "ind"),
    ("it", "ita"),
    ("ja", "jpn"),
    ("jv", "jav"),
    ("ka", "kat"),
    ("km", "khm"),
    ("kn", "kan"),
    ("ko", "kor"),
    ("la", "lat"),
    ("lt", "lit"),
    ("lv", "lav"),
    ("mk", "mkd"),
    ("ml", "mal"),
    ("mr", "mar"),
    ("my", "mya"),
    ("nb", "nob"),
    ("ne", "nep"),
    ("nl", "nld"),
    ("no", "nob"),
    ("or", "ori"),
    ("pa", "pan"),
    ("pl", "pol"),
    ("pt", "por"),
    ("ro", "ron"),
    ("ru", "rus"),
    ("si", "sin"),
    ("sk", "slk"),
    ("sl", "slv"),
    ("sn", "sna"),
    ("sr", "srp"),
    ("sv", "swe"),
    ("ta", "tam"),
    ("te", "tel"),
    ("th", "tha"),
    ("tk", "tuk"),
    ("tl", "tgl"),
    ("tr", "tur"),
    ("uk", "ukr"),
    ("ur", "urd"),
    ("uz", "uzb"),
    ("vi", "vie"),
];

/// The language that an ISO 639-1 or 639-3 code stands for.
pub(super) fn of_code(code: &str) -> Result<Lang, UnknownLanguage> {
    let long = match code {
        "zh" => "cmn",
        "yi" => "yid",
        "zu" => "zul",
        _ => CODES.iter().find(|(short, _)| *short == code).map_or(code, |(_, long)| long),
    };
    Lang::from_code(long).ok_or_else(|| {
        let known = CODES.iter().map(|(short, _)| *short).chain(Lang::all().iter().map(|lang| lang.code()));
        UnknownLanguage { code: code.to_owned(), near: nearest(code, known).map(str::to_owned) }
    })
}

fn short(lang: Lang) -> Option<&'static str> {
    CODES.iter().find(|(_, long)| *long == lang.code()).map(|(short, _)| *short)
}

/// Prose of a text, from its beginning, middle and end: without fenced blocks, and only lines that read as prose.
fn prose(text: &str) -> String {
    let mut prose = String::new();
    // A long text is looked at in windows spread over it.
    let window = 8 * ENOUGH;
    let windows: Vec<&str> = if text.len() <= 3 * window {
        vec![text]
    } else {
        let cut = |at: usize| &text[text.floor_char_boundary(at)..text.floor_char_boundary(at + window)];
        vec![cut(0), cut(text.len() / 2), cut(text.len() - window)]
    };
    let share = ENOUGH / windows.len();
    for window in windows {
        take_prose(window, share, &mut prose);
    }
    prose
}

fn take_prose(text: &str, most: usize, prose: &mut String) {
    let end = prose.len() + most;
    let mut fenced = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") || line.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced && reads_as_prose(line) {
            let left = end.saturating_sub(prose.len());
            if left == 0 {
                return;
            }
            prose.push_str(&line[..line.floor_char_boundary(left)]);
            prose.push('\n');
        }
    }
}

/// Whether a line is a sentence or most of one: five words, or as many letters of a script that sets no spaces, and
/// nearly all of it letters and spaces, as in no line of code to speak of.
fn reads_as_prose(line: &str) -> bool {
    let line = &line[..line.floor_char_boundary(2 * ENOUGH)];
    let (mut chars, mut letters, mut spaces, mut beyond, mut code) = (0_usize, 0_usize, 0_usize, 0_usize, 0_usize);
    for char in line.chars() {
        chars += 1;
        letters += usize::from(char.is_alphabetic());
        spaces += usize::from(char == ' ');
        beyond += usize::from(char >= '\u{e00}' && char.is_alphabetic());
        code +=
            usize::from(matches!(char, '{' | '}' | '=' | ';' | '<' | '>' | '_' | '|' | '\\' | '(' | ')' | '[' | ']'));
    }
    (letters + spaces) * 5 >= chars * 4 && code * 20 <= chars && (spaces >= 4 || beyond >= 5) && letters > 3 * spaces
}

#[cfg(test)]
mod tests {
    use super::*;

    const GERMAN: &str = "Die Funktion gibt alle Zeilen der Tabelle zurück, in denen der Schlüssel vorkommt, und sonst keine andere davon.";
    const ENGLISH: &str = "The function returns all the rows of the table in which the key is present, and none of the others but for those.";

    fn kept(text: &str, codes: &[&str]) -> bool {
        let codes: Vec<String> = codes.iter().map(|code| (*code).to_owned()).collect();
        Languages::new(&codes, 0.3).unwrap().unwrap().judge(text).is_ok()
    }

    #[test]
    fn a_text_is_kept_in_the_languages_that_are_named() {
        assert!(kept(ENGLISH, &["en"]) && kept(GERMAN, &["de"]) && kept(GERMAN, &["en", "deu"]));
        assert!(!kept(GERMAN, &["en"]) && !kept(ENGLISH, &["de"]));
    }

    #[test]
    fn a_language_without_spaces_is_told_and_a_few_words_of_any_are_kept() {
        let chinese = "这个函数返回表中所有包含该键的行。".repeat(8);
        assert!(kept(&chinese, &["zh"]) && !kept(&chinese, &["en"]));
        assert!(kept("Sehr gut.", &["en"]) && kept("", &["en"]));
    }

    #[test]
    fn a_confidence_that_is_too_low_is_not_enough() {
        // Norwegian and Danish are hard to tell from each other.
        let text = "Funksjonen returnerer alle rader i tabellen der nøkkelen finnes, og ingen andre enn disse, med mindre \
                    noe annet er sagt.";
        let languages = |least| Languages::new(&["nb".to_owned(), "da".to_owned()], least).unwrap().unwrap();
        let Err(drop) = languages(0.999).judge(text) else { panic!("nobody can be that sure") };
        assert_eq!(drop.rule, "language");
        assert!(drop.detail.ends_with("nb, da with at least 0.999 expected"), "{}", drop.detail);
        assert_eq!(languages(0.0).judge(text), Ok(()));
    }

    #[test]
    fn code_has_no_say_in_the_language_and_alone_none_is_told() {
        let code =
            "```python\nfor row in the_table.rows(of=key):\n    print(row)\n```\nlet x = foo(bar)[3];\n".repeat(50);
        assert!(kept(&format!("{code}{GERMAN}\n{code}"), &["de"]));
        assert!(kept(&code, &["de"]));
    }

    #[test]
    fn a_code_that_stands_for_no_language_is_refused_with_one_near_it() {
        let error = Languages::new(&["enn".to_owned()], 0.5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no language that can be told has the code `enn`; did you mean eng?; expected an ISO 639 code such as en, de or zh"
        );
        for (_, long) in CODES {
            assert!(Lang::from_code(long).is_some(), "{long}");
        }
    }
}
