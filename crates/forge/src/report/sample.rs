//! A report of documents that were made up, some of them hostile, and what is written of it.

use proptest::prelude::*;

use super::*;
use crate::document::Facts;
use crate::readers::BadRecord;

/// Breaks out of everything that is not escaped.
const HOSTILE: &str =
    "<script src=\"https://evil.example/x.js\">alert('1')</script> | ``` \u{1b}[31m \u{202e} & {{ 7919 * 7919 }}";

/// A source of `count` documents, drawn by a little generator of its own.
fn source(name: &str, count: u64, learned: f64, rules: &[(&str, u64)]) -> SourceTally {
    let mut tally = Tally::default();
    let mut state = count;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for number in 0..count {
        let origin = format!("{name}/file-{}.json:{}", number % 7, number + 1);
        let words = 3 + draw(6) * draw(9) * draw(20);
        let said = ["call", "the tool", "with", "its `name`,", "then", "return", "a result.", "GET /v1/items", "=>"];
        let said: Vec<&str> = (0..words).map(|_| said[draw(9) as usize]).collect();
        let text = format!("{name} number {number}\n\n{}\n", said.join(" "));
        tally.read(text.len());
        let mut place = draw(100);
        let dropped = rules.iter().find(|(_, share)| {
            let hit = place < *share;
            place = place.saturating_sub(*share);
            hit
        });
        match dropped {
            Some((rule, _)) => tally.dropped(rule, &format!("{words} words, at least 50 expected"), &origin, &text),
            None => {
                let facts = Facts {
                    api: Some(format!("{name}.api{}", draw(40))),
                    provider: Some(format!("provider {}", draw(4))),
                };
                tally.kept(&facts, std::iter::empty(), &origin, &text);
                let tokens = text.len() / 4;
                tally.tokens(tokens, (tokens as f64 * learned).round());
            }
        }
    }
    SourceTally { name: name.to_owned(), tally, ..SourceTally::default() }
}

fn sample() -> Report {
    let mut apis = source("apis", 640, 0.93, &[("gopher.word_count", 8)]);
    let mut agent = source("agent", 212, 0.41, &[("contaminated", 3), ("failed", 9)]);
    let web = source(
        "web",
        1500,
        1.0,
        &[("language", 9), ("gopher.stop_words", 14), ("fineweb.short_lines", 5), ("gopher.word_count", 22)],
    );
    let code = source("code", 330, 1.0, &[(HOSTILE, 2)]);
    apis.exact = Amount { documents: 12, bytes: 8_200 };
    apis.near = Amount { documents: 41, bytes: 30_100 };
    for amount in [apis.exact, apis.near] {
        apis.tally.figures.read.merge(amount);
    }
    for line in [3, 12, 7] {
        let reason = "not JSON at column 9: expected value; the record was skipped".to_owned();
        apis.tally.bad(&BadRecord { origin: format!("apizoo/records-{line}.json:{line}"), reason });
    }
    apis.tally.bad(&BadRecord { origin: HOSTILE.to_owned(), reason: HOSTILE.to_owned() });
    agent.tally.benchmark("bfcl/BFCL_v4_simple_python.json");
    agent.tally.scrubbed("e-mail", 31);
    agent.tally.scrubbed("aws key", 2);
    agent.tally.kept(
        &Facts { api: None, provider: Some(HOSTILE.to_owned()) },
        ["a", "b"].into_iter(),
        HOSTILE,
        HOSTILE,
    );
    agent.tally.figures.read.add(HOSTILE.len() as u64);
    let recipe = "# What the forge makes\nversion: 1\noutput: corpora\nsources:\n  apis:\n    inputs: []\n";
    let mut report = Report::new("Agent corpus", recipe, &"5f3a9c01".repeat(8), &[apis, agent, web, code]);
    [2, 2, 2, 2, 2, 3, 3, 4, 6, 9, 23].into_iter().for_each(|documents| report.duplicates.add(documents));
    report.duplicates.largest = vec![
        Cluster { kept: "apibench/huggingface.jsonl:17".to_owned(), documents: 23 },
        Cluster { kept: HOSTILE.to_owned(), documents: 9 },
    ];
    let sweep = (0..=20).map(|twentieth| {
        let threshold = f64::from(twentieth) / 20.0;
        let (precision, recall) = (1.0 - 0.72 * (1.0 - threshold).powi(3), 1.0 - threshold.powi(4));
        let f1 = 2.0 * precision * recall / (precision + recall);
        Sweep { threshold, precision, recall, f1, kept: 0.3 * recall / precision }
    });
    report.classifiers.push(Classifier {
        name: "agent_like".to_owned(),
        positive: 812,
        negative: 2_406,
        threshold: 0.55,
        precision: 0.934,
        recall: 0.908,
        f1: 0.921,
        auc: 0.9812,
        sweep: sweep.collect(),
        telling_for: ["api", "returns the", "parameters", "curl -X", HOSTILE].map(str::to_owned).to_vec(),
        telling_against: ["thou", "he said", "the king"].map(str::to_owned).to_vec(),
    });
    report
}

#[test]
fn a_report_is_written_whole_and_the_same_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("a/b"), folder.path().join("c"));
    [&one, &two].into_iter().for_each(|folder| sample().write(folder).unwrap());
    let mut names = Vec::new();
    for entry in fs_err::read_dir(&one).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert_eq!(fs_err::read(one.join(&name)).unwrap(), fs_err::read(two.join(&name)).unwrap(), "{name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["report.html", "report.json", "report.md"]);
    let json = fs_err::read_to_string(one.join("report.json")).unwrap();
    assert!(serde_json::from_str::<Report>(&json).unwrap().total == sample().total);
    // To look at, where someone asks for it.
    if let Some(shown) = std::env::var_os("FORGE_REPORT_SAMPLE") {
        sample().write(Path::new(&shown)).unwrap();
    }
}

#[test]
fn the_markdown_is_readable_as_it_stands() {
    insta::assert_snapshot!(sample().markdown());
}

#[test]
fn an_empty_report_is_a_report() {
    let report = Report::new("Nothing", "", "", &[]);
    insta::assert_snapshot!(report.markdown());
    assert!(!report.html().unwrap().contains("NaN"));
    let one =
        Report::new("Nothing read", "", "", &[SourceTally { name: "empty".to_owned(), ..SourceTally::default() }]);
    assert!(!one.html().unwrap().contains("NaN") && !one.markdown().contains("NaN"));
}

#[test]
fn nothing_of_a_hostile_document_is_markup_in_the_page() {
    let page = sample().html().unwrap();
    assert!(page.contains("alert("), "the hostile document is not in the page at all");
    assert!(!page.contains("<script") && !page.contains("\u{1b}") && !page.contains("\u{202e}"));
    assert!(!page.contains("62710561"), "a document's template was rendered");
}

#[test]
fn the_page_needs_no_other_file_and_runs_no_script() {
    let page = sample().html().unwrap();
    assert!(page.contains("default-src 'none'"));
    for outside in ["src=", "href=", "url(", "@import", "<link", "<script", "<iframe", "<img", " on"] {
        let found = page.match_indices(outside).find(|(at, _)| inside_a_tag(&page, *at));
        assert!(found.is_none(), "{outside} at {found:?}");
    }
}

/// Whether a place in the page lies inside a tag or the style sheet.
fn inside_a_tag(page: &str, at: usize) -> bool {
    let before = &page[..at];
    let tag = before.rfind('<') > before.rfind('>');
    let style = before.rfind("<style>") > before.rfind("</style>");
    tag || style
}

/// A report of one source whose every word is `text`.
fn of_words(text: &str) -> Report {
    let mut tally = Tally::default();
    let facts = Facts { api: Some(text.to_owned()), provider: Some(text.to_owned()) };
    (0..3).for_each(|_| tally.read(text.len()));
    tally.kept(&facts, std::iter::once(text), text, text);
    tally.tokens(9, 4.0);
    tally.dropped(text, text, text, text);
    tally.bad(&BadRecord { origin: text.to_owned(), reason: text.to_owned() });
    tally.scrubbed(text, 1);
    tally.benchmark(text);
    let source = SourceTally { name: text.to_owned(), tally, ..SourceTally::default() };
    let mut report = Report::new(text, text, text, &[source]);
    report.duplicates.add(2);
    report.duplicates.largest.push(Cluster { kept: text.to_owned(), documents: 2 });
    let mut classifier = sample().classifiers.remove(0);
    (classifier.telling_for, classifier.telling_against) = (vec![text.to_owned()], vec![text.to_owned()]);
    report.classifiers.push(Classifier { name: text.to_owned(), ..classifier });
    report
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_the_words_are_the_markup_is_the_same(text in r#"(<|>|&|"|'|`|\||\\|\{\{|\}\}|\{%|\n|#|\*|-->|</pre>|\PC|\pC){1,60}"#) {
        let tags = |page: &str| {
            let body = page.split("<").skip(1).map(|tag| tag.chars().take_while(|c| c.is_alphanumeric() || "/!-".contains(*c)));
            body.map(Iterator::collect::<String>).collect::<Vec<_>>()
        };
        prop_assert_eq!(tags(&of_words(&text).html().unwrap()), tags(&of_words("words").html().unwrap()));
        // Tables keep their columns: no word ends a cell, and none ends a line.
        let bars = |markdown: &str| {
            let tables = markdown.lines().take_while(|line| *line != "## Examples").filter(|line| line.starts_with("| "));
            tables.map(|line| line.matches(" |").count()).collect::<Vec<_>>()
        };
        prop_assert_eq!(bars(&of_words(&text).markdown()).len(), bars(&of_words("words").markdown()).len());
    }

    #[test]
    fn a_block_of_code_ends_where_it_should(text in "(`|\n|a){0,40}") {
        let mut out = String::new();
        markdown::fence(&text, "text", &mut out);
        let fence = out.lines().next().unwrap().trim_end_matches("text");
        // A line of at least as many backticks, and nothing else, ends it.
        let ends = |line: &&str| line.len() >= fence.len() && line.chars().all(|c| c == '`');
        prop_assert_eq!(out.lines().skip(1).filter(ends).count(), 1, "{}", out);
    }
}
