//! `hephaestus-forge`, driven as a user drives it: one binary, a module a subject.

mod build;
mod commands;
mod recipes;
mod shared_data;
#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::path::PathBuf;

use assert_cmd::Command;
use skipped::skipped;
use tempfile::TempDir;

pub(crate) const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
pub(crate) const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/python");

/// Text whose words repeat often enough to be merged.
pub(crate) fn sentences(count: usize) -> String {
    let words =
        ["the", "forge", "heats", "iron", "until", "hammer", "bends", "it", "naïve", "世界", "🔥", "x_1 = f(2)"];
    let mut text = String::new();
    for number in 0..count {
        let word = |step: usize| words[(number * 7 + step * step * 5) % words.len()];
        text.push_str(&format!("{} {} {}\n  {} {number}. ", word(0), word(1), word(2), word(3)));
    }
    text
}

pub(crate) fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, text).unwrap();
    path
}

/// Runs the program in `folder`; returns whether it succeeded, its stdout and its stderr.
pub(crate) fn forge(folder: &TempDir, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hephaestus-forge"));
    let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

pub(crate) fn succeed(folder: &TempDir, arguments: &[&str]) -> (String, String) {
    let (ok, out, err) = forge(folder, arguments);
    assert!(ok, "{arguments:?} failed:\n{err}");
    (out, err)
}

pub(crate) fn fail(folder: &TempDir, arguments: &[&str]) -> String {
    let (ok, out, err) = forge(folder, arguments);
    assert!(!ok, "{arguments:?} succeeded:\n{out}{err}");
    err
}

/// A folder with a trained tokenizer in `tok` and its text in `text.txt`.
pub(crate) fn with_tokenizer() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "text.txt", &sentences(300));
    succeed(&folder, &["tokenizer", "text.txt", "--vocab-size", "400", "--output", "tok"]);
    folder
}

/// Writes `NAME.yaml`: a recipe of one source of that name, with one input, built into the folder itself.
pub(crate) fn recipe(folder: &TempDir, name: &str, input: &str) {
    let text = format!("version: 1\noutput: .\ntokenizer: tok\nsources:\n  {name}:\n    inputs:\n      - {input}\n");
    write(folder, &format!("{name}.yaml"), &text);
}

/// Builds the corpus `NAME` from one input; returns stdout and stderr.
pub(crate) fn build(folder: &TempDir, name: &str, input: &str) -> (String, String) {
    recipe(folder, name, input);
    succeed(folder, &["build", "--recipe", &format!("{name}.yaml")])
}

#[test]
fn inspect_searches_a_corpus_and_colours_only_where_it_is_told_to() {
    let folder = with_tokenizer();
    let lines: String = (0..5_000).map(|number| format!("{{\"text\": \"iron number {number}\"}}\n")).collect();
    write(&folder, "x.jsonl", &lines);
    build(&folder, "c", "{ reader: jsonl, paths: [x.jsonl] }");
    let inspect = |more: &[&str]| succeed(&folder, &[&["inspect", "c", "--tokenizer", "tok"], more].concat()).0;
    let out = inspect(&["--search", "IRON NUMBER 43", "--ignore-case", "--documents", "200"]);
    // 43, 430 to 439, 4300 to 4399.
    assert_eq!(out.matches("»iron number 43«").count(), 111, "{out}");
    assert!(out.ends_with("111 documents, 5,000 of 5,000 searched\n"), "{out}");
    let out = inspect(&["--search", r"\b4[23]\b", "--regex", "--color", "always"]);
    assert!(out.contains("iron number \u{1b}[1;30;43m42\u{1b}[0m<|endoftext|>"), "{out}");
    assert!(!inspect(&["--tokens"]).contains('\u{1b}') && inspect(&["--tokens"]).contains("│"));
    let refused = [
        fail(&folder, &["inspect", "c", "--search", "iron"]),
        fail(&folder, &["inspect", "c", "--tokenizer", "tok", "--search", "x(", "--regex"]),
        fail(&folder, &["inspect", "c", "--tokenizer", "tok", "--search", ""]),
        fail(&folder, &["inspect", "c", "--regex"]),
    ];
    insta::assert_snapshot!(refused.join("\n"));
}
