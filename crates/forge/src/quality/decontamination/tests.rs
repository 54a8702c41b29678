use std::path::Path;

use hephaestus_core::settings::quantity::Share;

use super::*;

fn made(files: &[(&str, &str)], change: impl FnOnce(&mut Settings)) -> Result<Decontaminator, String> {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        settings.against.push(path);
    }
    change(&mut settings);
    let shorten = |error: BenchmarkError| error.to_string().replace(&folder.path().display().to_string(), "DIR");
    Decontaminator::new(&settings).map_err(shorten)
}

const LONG: &str = "How many of the blue whales that Anna counted in May were longer than thirty metres in all?";
const SHORT: &str = "Find the two largest prime factors of 4851.";

fn questions() -> String {
    format!(
        "{}\n{}\n",
        serde_json::json!({"id": "q7", "question": [[{"role": "user", "content": LONG}]]}),
        serde_json::json!({"question": SHORT, "note": "not looked for, however long this note may be made to get"}),
    )
}

#[test]
fn any_thirteen_words_of_a_question_are_found_whatever_their_case_and_marks() {
    let found = made(&[("bench.jsonl", &questions())], |_| {}).unwrap();
    let text = "# Task\nHOW many - of the \"blue whales\" that *Anna* counted in May, were longer?\n";
    let hit = found.find(text).unwrap();
    assert_eq!((hit.benchmark.as_str(), hit.item.as_str()), ("bench", "q7"));
    assert_eq!(hit.ngram, "HOW many - of the \"blue whales\" that *Anna* counted in May, were longer");
    // Twelve in a row are not enough, nor thirteen with another between them.
    assert_eq!(found.find("how many of the blue whales that anna counted in may were"), None);
    assert_eq!(found.find("how many of the blue whales that anna once counted in may were longer than 30"), None);
}

#[test]
fn a_short_question_is_found_as_a_whole_only() {
    let found = made(&[("bench.jsonl", &questions())], |_| {}).unwrap();
    assert_eq!(found.find(&format!("so: {SHORT} Good.")).unwrap().item, "line 2");
    assert_eq!(found.find("Find the two largest prime factors of 4850."), None);
    let found = made(&[("bench.jsonl", &questions())], |settings| settings.min_words = 9).unwrap();
    assert_eq!(found.find(SHORT), None);
    assert_eq!(found.benchmarks(), [Benchmark { name: "bench".to_owned(), passages: 1, short: 1 }]);
}

#[test]
fn with_an_overlap_one_run_of_many_is_not_enough() {
    // The long question has 18 words: 6 runs of 13.
    let half = |settings: &mut Settings| settings.overlap = Share(0.5);
    let found = made(&[("bench.jsonl", &questions())], half).unwrap();
    let words: Vec<&str> = LONG.split(' ').collect();
    assert_eq!(found.find(&words[..14].join(" ")), None);
    assert_eq!(found.find(&words[..15].join(" ")).unwrap().item, "q7");
    assert_eq!(found.find(&[&words[..13], &["again:"], &words[..13]].concat().join(" ")), None);
}

#[test]
fn a_text_file_has_an_item_a_paragraph_and_lines_end_where_they_like() {
    let text = format!("An opening.\n\n{}\n", LONG.replace(" in ", "\nin "));
    let found = made(&[("riddles.txt", &text)], |_| {}).unwrap();
    let hit = found.find(&format!("x {LONG} y")).unwrap();
    assert_eq!((hit.benchmark.as_str(), hit.item.as_str()), ("riddles", "paragraph 2"));
}

#[test]
fn what_cannot_be_looked_for_is_refused_with_what_to_do() {
    let refused = |name: &str, text: &str| made(&[(name, text)], |_| {}).unwrap_err();
    assert_eq!(
        refused("b.json", "[{\"ask\": \"x\", \"gold\": 1}]"),
        "DIR/b.json: no text under question, prompt, instruction, problem, query: name the keys that hold it in \
         decontamination.fields; its first record has ask, gold"
    );
    assert_eq!(
        refused("b.jsonl", "{\"question\": \"x\"}\n{\n"),
        "DIR/b.jsonl:2: EOF while parsing an object at line 1 column 1; expected JSON, or a JSON record a line"
    );
    let nothing = Settings { against: vec!["/nowhere/b.json".into()], ..Settings::default() };
    let error = Decontaminator::new(&nothing).unwrap_err();
    assert_eq!(error.to_string(), "decontamination.against: /nowhere/b.json: no such file or folder");
}

#[test]
fn every_question_of_bfcl_is_found_in_a_document_and_tool_documentation_holds_none() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let bfcl = data.join("bfcl/BFCL_v4_simple_python.json");
    if !bfcl.exists() {
        let test = "every_question_of_bfcl_is_found_in_a_document_and_tool_documentation_holds_none";
        crate::skipped(test, &format!("{} is absent", bfcl.display()));
        return;
    }
    let settings = Settings { against: vec![bfcl.clone()], ..Settings::default() };
    let found = Decontaminator::new(&settings).unwrap();
    let mut questions = 0;
    for line in fs_err::read_to_string(&bfcl).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let question = record["question"][0][0]["content"].as_str().unwrap();
        let (words, _) = words(question);
        let hit = found.find(&format!("## Example\n\nUser: {}\n\nAssistant: I see.", question.to_ascii_uppercase()));
        assert_eq!(hit.is_some(), words.len() >= 8, "{question}");
        questions += u32::from(hit.is_some());
    }
    assert!(questions > 300, "{questions}");
    for file in ["agent/trajectories/tau-bench-gpt-4o-airline.json", "agent/openapi/twilio/twilio_api_v2010.json"] {
        assert_eq!(found.find(&fs_err::read_to_string(data.join(file)).unwrap()), None, "{file}");
    }
}

proptest::proptest! {
    #[test]
    fn a_passage_is_found_in_any_text_around_it(before in "\\PC{0,40}", after in "\\PC{0,40}") {
        let found = made(&[("bench.jsonl", &questions())], |_| {}).unwrap();
        assert!(found.find(&format!("{before} {LONG} {after}")).is_some());
    }
}
