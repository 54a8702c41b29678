//! For each rule, a text just inside and one just outside its threshold.

use hephaestus_core::settings::quantity::Count;

use super::settings::{C4, Code, FineWeb, GopherQuality, GopherRepetition, Preset};
use super::*;

fn verdict(settings: &Settings, text: &str) -> &'static str {
    Filter::new(settings).unwrap().judge(text).map_or_else(|drop| drop.rule, |()| "kept")
}

/// The rules of one set, with the others far away: `keys` are YAML.
fn only(set: &str, keys: &str) -> Settings {
    let off = match set {
        "gopher_quality" => {
            "min_doc_words: 0, max_doc_words: 1000000, min_avg_word_length: 0, max_avg_word_length: 1000, \
             max_symbol_word_ratio: 1000, max_bullet_lines_ratio: 1, max_ellipsis_lines_ratio: 1, \
             min_alpha_words_ratio: 0, min_stop_words: 0"
        }
        "gopher_repetition" => {
            "dup_line_frac: 1, dup_para_frac: 1, dup_line_char_frac: 1, dup_para_char_frac: 1, top_2_gram: 1, \
             top_3_gram: 1, top_4_gram: 1, dup_5_gram: 1, dup_6_gram: 1, dup_7_gram: 1, dup_8_gram: 1, dup_9_gram: 1, \
             dup_10_gram: 1"
        }
        "c4" => {
            "filter_no_terminal_punct: false, min_num_sentences: 0, min_words_per_line: 0, max_word_length: 1000000, \
             filter_lorem_ipsum: false, filter_javascript: false, filter_curly_bracket: false, filter_policy: false"
        }
        "fineweb" => "line_punct_thr: 0, short_line_thr: 1, char_duplicates_ratio: 1, new_line_ratio: 1000",
        _ => {
            "max_avg_line_length: 100000, max_line_length: 1000000, min_alphanumeric_ratio: 0, filter_generated: false"
        }
    };
    let kept: Vec<&str> = off.split(", ").filter(|key| !keys.contains(key.split(':').next().unwrap())).collect();
    let keys = [kept.join(", "), keys.to_owned()].into_iter().filter(|keys| !keys.is_empty()).collect::<Vec<_>>();
    serde_yaml::from_str(&format!("{{{set}: {{{}}}}}", keys.join(", "))).unwrap()
}

#[test]
fn gopher_keeps_what_is_inside_its_thresholds_and_drops_what_is_outside() {
    let judge = |keys: &str, text: &str| verdict(&only("gopher_quality", keys), text);
    let words = |count: usize| "word ".repeat(count);
    // Fifty words: punctuation is none.
    assert_eq!(judge("min_doc_words: 50", &words(50)), "kept");
    assert_eq!(judge("min_doc_words: 50", &(words(49) + "! - ?")), "gopher.short_doc");
    assert_eq!(judge("max_doc_words: 100", &words(100)), "kept");
    assert_eq!(judge("max_doc_words: 100", &words(101)), "gopher.long_doc");
    assert_eq!(judge("min_avg_word_length: 3", "ab abcd"), "kept");
    assert_eq!(judge("min_avg_word_length: 3", "ab abc"), "gopher.short_words");
    assert_eq!(judge("max_avg_word_length: 10", "éééééééééé abcdefghij"), "kept");
    assert_eq!(judge("max_avg_word_length: 10", "ééééééééééé abcdefghij"), "gopher.long_words");
    // Ten words, the mark one of them.
    assert_eq!(judge("max_symbol_word_ratio: 0.1", &(words(9) + "#")), "kept");
    assert_eq!(judge("max_symbol_word_ratio: 0.1", &(words(8) + "# #")), "gopher.hashes");
    assert_eq!(judge("max_symbol_word_ratio: 0.1", &(words(9) + "...")), "kept");
    assert_eq!(judge("max_symbol_word_ratio: 0.1", &(words(8) + "... \u{2026}")), "gopher.ellipses");
    assert_eq!(judge("max_bullet_lines_ratio: 0.9", &("- a\n".repeat(9) + "b")), "kept");
    assert_eq!(judge("max_bullet_lines_ratio: 0.9", &(" - a\n".repeat(10) + "\u{2022} b")), "gopher.bullet_lines");
    assert_eq!(judge("max_ellipsis_lines_ratio: 0.3", &("a...\n".repeat(3) + &"b\n".repeat(7))), "kept");
    assert_eq!(
        judge("max_ellipsis_lines_ratio: 0.3", &("a\u{2026} \n".repeat(4) + &"b\n".repeat(6))),
        "gopher.ellipsis_lines"
    );
    assert_eq!(judge("min_alpha_words_ratio: 0.8", &(words(8) + "1 !")), "kept");
    assert_eq!(judge("min_alpha_words_ratio: 0.8", &(words(7) + "1 2 !")), "gopher.alpha_words");
    // Two different ones, as they are written: `The` is none.
    assert_eq!(judge("min_stop_words: 2", "the cat and the dog"), "kept");
    assert_eq!(
        judge("min_stop_words: 2", "The cat of the dog of the cat".replace("of", "&").as_str()),
        "gopher.stop_words"
    );
    assert_eq!(judge("min_stop_words: 1, stop_words: [der]", "der Hund"), "kept");
    let drop = Filter::new(&only("gopher_quality", "min_stop_words: 2")).unwrap().judge("the cat").unwrap_err();
    assert_eq!((drop.rule, drop.detail.as_str()), ("gopher.stop_words", "1 stop word, at least 2 expected"));
}

#[test]
fn gopher_keeps_what_repeats_itself_little_and_drops_what_does_so_much() {
    let judge = |keys: &str, text: &str| verdict(&only("gopher_repetition", keys), text);
    // Three of ten lines came before; then four.
    let lines = |repeated: usize| {
        (0..10 - repeated)
            .map(|at| format!("l{at}\n"))
            .chain((0..repeated).map(|_| "l0\n".to_owned()))
            .collect::<String>()
    };
    assert_eq!(judge("dup_line_frac: 0.3", lines(3).trim_end()), "kept");
    assert_eq!(judge("dup_line_frac: 0.3", lines(4).trim_end()), "gopher.dup_line_frac");
    assert_eq!(judge("dup_para_frac: 0.3", &lines(3).replace('\n', "\n\n")), "kept");
    assert_eq!(judge("dup_para_frac: 0.3", &lines(4).replace('\n', "\n\n")), "gopher.dup_para_frac");
    // Of twenty characters four, then five, are a line that came before.
    assert_eq!(judge("dup_line_char_frac: 0.2", "aaaa\naaaa\nbbbbbbbbbb"), "kept");
    assert_eq!(judge("dup_line_char_frac: 0.2", "aaaaa\naaaaa\nbbbbbbbb"), "gopher.dup_line_char_frac");
    assert_eq!(judge("dup_para_char_frac: 0.2", "aaaa\n\naaaa\n\nbbbbbbbb"), "kept");
    assert_eq!(judge("dup_para_char_frac: 0.2", "aaaaa\n\naaaaa\n\nbbbbbb"), "gopher.dup_para_char_frac");
    // `a b` twice is 6 of 30 characters, then of 29.
    assert_eq!(judge("top_2_gram: 0.2", "a b c a b ddddddddddddddddddd "), "kept");
    assert_eq!(judge("top_2_gram: 0.2", "a b c a b ddddddddddddddddddd"), "gopher.top_2_gram");
    let unique =
        |from: usize, count: usize| (from..from + count).map(|at| format!("w{at:03}")).collect::<Vec<_>>().join(" ");
    for (n, most) in [(3, 0.18), (4, 0.16)] {
        let run = unique(0, n);
        let twice = (2 * run.len()) as f64;
        // As many other words as bring the share just below, and just above.
        let text = |chars: f64| {
            let text = format!("{run} x {run} ");
            let fill = chars as usize - text.len();
            text + &"y".repeat(fill)
        };
        let edge = (twice / most).ceil();
        assert_eq!(judge(&format!("top_{n}_gram: {most}"), &text(edge)), "kept");
        assert_eq!(judge(&format!("top_{n}_gram: {most}"), &text(edge - 1.0)), format!("gopher.top_{n}_gram"));
    }
    for (n, most) in [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)] {
        let run = unique(0, n);
        let came_before = (4 * n) as f64;
        let text = |chars: f64| {
            let text = format!("{run} x {run} ");
            let fill = chars as usize - text.len();
            text + &"y".repeat(fill)
        };
        let edge = (came_before / most).ceil();
        assert_eq!(judge(&format!("dup_{n}_gram: {most}"), &text(edge)), "kept");
        assert_eq!(judge(&format!("dup_{n}_gram: {most}"), &text(edge - 1.0)), format!("gopher.dup_{n}_gram"));
    }
}

#[test]
fn c4_wants_sentences_and_none_of_what_marks_a_page_as_no_text() {
    let judge = |keys: &str, text: &str| verdict(&only("c4", keys), text);
    let five = "One is here. Two is? Three is!\nFour is here. Five is.";
    assert_eq!(judge("min_num_sentences: 5", five), "kept");
    assert_eq!(judge("min_num_sentences: 5", &five.replace("One is here. ", "")), "c4.sentences");
    assert_eq!(judge("min_num_sentences: 1, filter_no_terminal_punct: true", "It ends.\""), "kept");
    assert_eq!(judge("min_num_sentences: 1, filter_no_terminal_punct: true", "It goes on..."), "c4.sentences");
    assert_eq!(judge("min_num_sentences: 1, min_words_per_line: 3", "It is so."), "kept");
    assert_eq!(judge("min_num_sentences: 1, min_words_per_line: 3", "Is so."), "c4.sentences");
    assert_eq!(judge("min_num_sentences: 1, max_word_length: 4", "four is so"), "kept");
    assert_eq!(judge("min_num_sentences: 1, max_word_length: 4", "fives is so"), "c4.sentences");
    assert_eq!(judge("filter_lorem_ipsum: true", "Lorem Ipsum dolor."), "c4.lorem_ipsum");
    assert_eq!(judge("filter_lorem_ipsum: true", "Lorem dolor."), "kept");
    assert_eq!(judge("filter_curly_bracket: true", "if (x) {"), "c4.curly_bracket");
    assert_eq!(judge("filter_curly_bracket: true", "if (x) (y)"), "kept");
    for (key, line) in [("filter_javascript", "Enable JavaScript."), ("filter_policy", "See our Privacy Policy.")] {
        assert_eq!(judge(&format!("min_num_sentences: 1, {key}: true"), line), "c4.sentences");
        assert_eq!(judge(&format!("min_num_sentences: 1, {key}: false"), line), "kept");
    }
}

#[test]
fn fineweb_wants_lines_like_those_of_an_article() {
    let judge = |keys: &str, text: &str| verdict(&only("fineweb", keys), text);
    let lines = |ended: usize, all: usize| {
        (0..all)
            .map(|at| if at < ended { format!("line {at}\u{3002}\n") } else { format!("line {at},\n") })
            .collect::<String>()
    };
    assert_eq!(judge("line_punct_thr: 0.12", &lines(12, 100)), "kept");
    assert_eq!(judge("line_punct_thr: 0.12", &lines(11, 100)), "fineweb.line_punct");
    assert_eq!(judge("line_punct_thr: 0.12", &lines(0, 100)), "fineweb.line_punct");
    assert_eq!(judge("line_punct_thr: 0.12, line_punct_exclude_zero: true", &lines(0, 100)), "kept");
    let short = |short: usize| {
        format!("{}\n", "é".repeat(30)).repeat(short) + &format!("{}\n", "é".repeat(31)).repeat(100 - short)
    };
    assert_eq!(judge("short_line_thr: 0.67", &short(67)), "kept");
    assert_eq!(judge("short_line_thr: 0.67", &short(68)), "fineweb.short_lines");
    let repeated = |chars: usize| format!("a\na\n{}", "b".repeat(chars - 2));
    assert_eq!(judge("char_duplicates_ratio: 0.01", &repeated(100)), "kept");
    assert_eq!(judge("char_duplicates_ratio: 0.01", &repeated(99)), "fineweb.char_dup");
    assert_eq!(judge("new_line_ratio: 0.3", "a b c d\ne f g\nh i\nj"), "kept");
    assert_eq!(judge("new_line_ratio: 0.3", "a b c d\ne f g\nh i\nj\n"), "fineweb.list");
    assert_eq!(judge("new_line_ratio: 0.3", " \n\n"), "fineweb.empty");
}

#[test]
fn code_is_kept_if_people_wrote_it() {
    let judge = |keys: &str, text: &str| verdict(&only("code", keys), text);
    assert_eq!(judge("max_line_length: 1000", &"é".repeat(1000)), "kept");
    assert_eq!(judge("max_line_length: 1000", &"é".repeat(1001)), "code.long_line");
    assert_eq!(judge("max_avg_line_length: 100", &format!("{}\n{}\n", "x".repeat(150), "x".repeat(50))), "kept");
    assert_eq!(
        judge("max_avg_line_length: 100", &format!("{}\n{}\n", "x".repeat(151), "x".repeat(50))),
        "code.mean_line"
    );
    assert_eq!(judge("min_alphanumeric_ratio: 0.25", "a1 ....."), "kept");
    assert_eq!(judge("min_alphanumeric_ratio: 0.25", "a1 ......"), "code.alphanumeric");
    assert_eq!(judge("filter_generated: true", "#\n#\n#\n#\n#\n# Do not edit"), "kept");
    assert_eq!(judge("filter_generated: true", "#\n#\n#\n#\n# Do not edit"), "code.generated");
}

#[test]
fn size_is_counted_in_bytes() {
    let settings: Settings = serde_yaml::from_str("{min_bytes: 4, max_bytes: 6}").unwrap();
    assert_eq!(verdict(&settings, "éé"), "kept");
    assert_eq!(verdict(&settings, "abc"), "size.min_bytes");
    assert_eq!(verdict(&settings, "ééé"), "kept");
    assert_eq!(verdict(&settings, "éééa"), "size.max_bytes");
}

const RECIPE: &str = "version: 1
output: out
tokenizer: tok
sources:
  web:
    inputs: [{reader: text, paths: [web]}]
    quality:
";

fn problems(quality: &str, rest: &str) -> Vec<String> {
    let indented: String = quality.lines().map(|line| format!("      {line}\n")).collect();
    let read = crate::recipe::parse(&format!("{RECIPE}{indented}{rest}"), std::path::Path::new("forge.yaml"), &[]);
    read.err().map_or_else(Vec::new, |problems| problems.all().iter().map(ToString::to_string).collect())
}

#[test]
fn every_threshold_can_be_written_in_a_recipe_and_what_contradicts_itself_is_refused() {
    let every = Settings {
        min_bytes: Some(Count(10)),
        max_bytes: Some(Count(1_000_000)),
        languages: vec!["en".to_owned(), "deu".to_owned()],
        code: Some(Code::default()),
        c4: Some(C4::default()),
        ..Settings { preset: Preset::Fineweb, ..Settings::default() }.resolved()
    };
    let decontamination =
        "decontamination: {against: [b.json], fields: [question], ngram: 10, min_words: 8, overlap: 50%}\n";
    assert_eq!(problems(&serde_yaml::to_string(&every).unwrap(), decontamination), [""; 0]);
    let wrong = "preset: gopher\nlanguages: [en, xx]\nmin_bytes: 10\nmax_bytes: 9\ngopher_quality: {min_stop_words: 9}";
    insta::assert_snapshot!(
        problems(wrong, "decontamination: {against: [b.json], fields: [], min_words: 14}\n").join("\n")
    );
    insta::assert_snapshot!(
        problems("preset: goper\ngopher_quality: {min_words: 50}\nscrub: {email: true}", "").join("\n")
    );
}

#[test]
fn a_source_that_asks_for_nothing_keeps_everything() {
    for text in ["", "{\"a\": 1}", "\0\0", "word word word"] {
        assert_eq!(verdict(&Settings::default(), text), "kept");
    }
}

#[test]
fn a_preset_switches_sets_on_and_a_section_changes_their_thresholds() {
    let of = |preset| Settings { preset, ..Settings::default() }.resolved();
    let gopher = of(Preset::Gopher);
    assert_eq!(gopher.gopher_quality, Some(GopherQuality::default()));
    assert_eq!(gopher.gopher_repetition, Some(GopherRepetition::default()));
    assert_eq!((gopher.c4, gopher.fineweb, gopher.code), (None, None, None));
    let fineweb = of(Preset::Fineweb);
    // As FineWeb itself: the rule on how lines end cost it too many tokens.
    assert_eq!(fineweb.c4, Some(C4 { filter_no_terminal_punct: false, ..C4::default() }));
    assert_eq!(fineweb.fineweb, Some(FineWeb::default()));
    assert_eq!(of(Preset::Code).code, Some(Code::default()));
    assert_eq!(of(Preset::C4).c4, Some(C4::default()));
    let settings: Settings = serde_yaml::from_str("{preset: gopher, gopher_quality: {min_doc_words: 7}}").unwrap();
    assert_eq!(
        settings.resolved().gopher_quality.map(|rules| (rules.min_doc_words.0, rules.min_stop_words)),
        Some((7, 2))
    );
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange_to_be_judged(text in "(\\PC|\n|\r|\t|\u{2028}|\\.|#|-){0,200}") {
        for preset in [Preset::Fineweb, Preset::C4, Preset::Code] {
            let settings = Settings { preset, languages: vec!["en".to_owned()], ..Settings::default() };
            let _ = Filter::new(&settings).unwrap().judge(&text);
        }
        // Each set alone, so that none is hidden behind the verdict of another.
        for set in ["gopher_quality", "gopher_repetition", "c4", "fineweb", "code"] {
            let _ = Filter::new(&only(set, "")).unwrap().judge(&text);
        }
    }
}

/// The pieces of a file as `tests/fixtures/datatrove_verdicts.py` cuts them.
fn pieces(file: &str, text: &str) -> Vec<String> {
    let key = "\"description\": ";
    let described = |line: &str| {
        let value = line.trim().strip_prefix(key)?;
        serde_json::from_str::<String>(value.strip_suffix(',').unwrap_or(value)).ok()
    };
    let lines: Vec<String> = if file.contains("openapi") {
        text.split('\n').filter_map(described).collect()
    } else {
        text.split('\n').map(str::to_owned).collect()
    };
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    for line in lines {
        piece += &line;
        piece.push('\n');
        if piece.chars().count() >= 4000 {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    pieces
}

#[test]
fn of_a_hundred_real_texts_ninety_eight_are_judged_as_datatrove_judges_them() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !data.join("agent").exists() {
        let test = "of_a_hundred_real_texts_ninety_eight_are_judged_as_datatrove_judges_them";
        crate::skipped(test, &format!("{} is absent", data.display()));
        return;
    }
    let set = |keys: &str| Filter::new(&serde_yaml::from_str(keys).unwrap()).unwrap();
    let filters = ["{gopher_quality: {}}", "{gopher_repetition: {}}", "{c4: {}}", "{fineweb: {}}"].map(set);
    let mut alike = [0_u32; 4];
    let mut all = 0_u32;
    let mut read: Option<(&str, Vec<String>)> = None;
    for line in include_str!("../../tests/fixtures/datatrove_verdicts.tsv").lines() {
        let [file, number, said @ ..] = &line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if read.as_ref().is_none_or(|(name, _)| name != file) {
            read = Some((file, pieces(file, &fs_err::read_to_string(data.join(file)).unwrap())));
        }
        let Some((_, pieces)) = &read else { panic!("it was just read") };
        let piece = &pieces[number.parse::<usize>().unwrap()];
        all += 1;
        for ((filter, said), alike) in filters.iter().zip(said).zip(&mut alike) {
            *alike += u32::from(filter.judge(piece).is_ok() == (*said == "kept"));
        }
    }
    assert!(all > 300, "{all} texts");
    for (set, alike) in ["quality", "repetition", "c4", "fineweb"].into_iter().zip(alike) {
        assert!(alike * 100 >= all * 98, "{set}: {alike} of {all}");
    }
}
