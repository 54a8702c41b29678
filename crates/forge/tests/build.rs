//! `hephaestus-forge build`: interrupted anywhere, cut anyhow, spread over machines, it gives the same bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{fail, forge, recipe, succeed, with_tokenizer, write};

/// Two sources with equal and nearly equal documents in and between them, in many small parts.
const RECIPE: &str = "
version: 1
output: out
tokenizer: tok
sources:
  first:
    inputs:
      - { reader: jsonl, paths: [a.jsonl] }
      - { reader: text, paths: [prose] }
  second:
    inputs:
      - { reader: jsonl, paths: [b.jsonl] }
work: { part: 8k }
";

/// A folder with a tokenizer, the recipe and what it reads.
fn workshop() -> TempDir {
    let folder = with_tokenizer();
    let words = ["iron", "hammer", "anvil", "spark", "steel", "coal", "tongs", "bellows", "quench", "temper", "rivet"];
    let document = |number: usize| -> String {
        // A linear congruential generator a document: no two are alike.
        let mut state = number as u64 + 1;
        let mut word = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            words[(state >> 33) as usize % words.len()]
        };
        (0..60 + number % 40).map(|_| format!("{} ", word())).collect()
    };
    let line = |text: String| format!("{}\n", serde_json::json!({ "text": text }));
    let a: String = (0..300).map(|number| line(document(number))).collect();
    // Every third is in the other source too, every seventh nearly so.
    let b: String = (0..300)
        .map(|number| match number {
            n if n % 3 == 0 => line(document(n)),
            n if n % 7 == 0 => line(document(n) + "lead"),
            n => line(document(n + 1000)),
        })
        .collect();
    write(&folder, "a.jsonl", &a);
    write(&folder, "b.jsonl", &b);
    for number in 0..40 {
        write(&folder, &format!("prose/{number:02}.txt"), &document(number + 5000));
    }
    write(&folder, "forge.yaml", RECIPE);
    folder
}

/// Every file of a built folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs_err::read(path).unwrap())).collect()
}

fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, when: &str) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{when}");
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs {when}");
    }
}

/// What an undisturbed build gives, by a recipe that says where to.
fn undisturbed(folder: &TempDir) -> BTreeMap<String, Vec<u8>> {
    succeed(folder, &["build", "--recipe", "forge.yaml"]);
    let files = files(&folder.path().join("out"));
    fs_err::remove_dir_all(folder.path().join("out")).unwrap();
    files
}

#[test]
fn killed_in_any_phase_a_build_goes_on_to_the_same_bytes() {
    let folder = workshop();
    let expected = undisturbed(&folder);
    let out = folder.path().join("out");
    let work = out.join("work");
    let moments = [
        "documents/.00000000.jsonl.zst.tmp",
        "documents/00000005.json",
        "signatures/00000011.parquet",
        "grouping",
        "dropped.parquet",
        "tokens/.00000000.bin.tmp",
        "tokens/00000007.json",
        "corpora/first.json",
    ];
    let mut killed = 0;
    for moment in moments {
        let mut program = Program::new(env!("CARGO_BIN_EXE_hephaestus-forge"));
        program.current_dir(folder.path()).args(["build", "--recipe", "forge.yaml"]);
        let mut child = program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Until the moment has come, or the program was faster than this loop.
        while !work.join(moment).exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        succeed(&folder, &["build", "--recipe", "forge.yaml"]);
        assert_same(&files(&out), &expected, &format!("after a kill at {moment}"));
        assert!(!work.exists(), "the work folder is left");
        fs_err::remove_dir_all(&out).unwrap();
    }
    assert!(killed >= moments.len() / 2, "only {killed} of {} kills came before the end", moments.len());
}

#[test]
fn shards_grouped_and_merged_are_the_build_of_one_machine() {
    let folder = workshop();
    let expected = undisturbed(&folder);
    let shards = ["1/3", "2/3", "3/3"];
    for shard in shards {
        let (_, err) = succeed(&folder, &["build", "--recipe", "forge.yaml", "--shard", shard]);
        assert!(err.contains("shard read"), "{err}");
    }
    let (_, err) = succeed(&folder, &["group", "--recipe", "forge.yaml"]);
    assert!(err.contains("equal to one before"), "{err}");
    for shard in shards {
        let (_, err) = succeed(&folder, &["build", "--recipe", "forge.yaml", "--shard", shard]);
        assert!(err.contains("shard tokenized"), "{err}");
    }
    succeed(&folder, &["merge", "--recipe", "forge.yaml"]);
    assert_same(&files(&folder.path().join("out")), &expected, "from three shards");
}

#[test]
fn shards_of_machines_that_share_no_disk_are_brought_together() {
    let folder = workshop();
    let expected = undisturbed(&folder);
    for shard in ["1/2", "2/2"] {
        let output = format!("output=machine-{}", &shard[..1]);
        succeed(&folder, &["build", "--recipe", "forge.yaml", "--set", &output, "--shard", shard]);
    }
    let err = fail(&folder, &["merge", "--recipe", "forge.yaml", "--from", "machine-2"]);
    assert!(err.contains("parts are not read yet") && err.contains("--shard"), "{err}");
    succeed(&folder, &["merge", "--recipe", "forge.yaml", "--from", "machine-1", "--from", "machine-2"]);
    assert_same(&files(&folder.path().join("out")), &expected, "from two machines");
}

#[test]
fn neither_the_size_of_parts_nor_the_number_of_threads_shows() {
    let folder = workshop();
    let corpora = |files: BTreeMap<String, Vec<u8>>| -> Vec<(String, Vec<u8>)> {
        let kept = files.into_iter();
        kept.filter(|(name, _)| [".bin", ".idx", ".loss"].iter().any(|ending| name.ends_with(ending))).collect()
    };
    let expected = corpora(undisturbed(&folder));
    for (part, threads) in [("3k", "1"), ("50k", "2"), ("64M", "3")] {
        let mut program = assert_cmd::Command::new(env!("CARGO_BIN_EXE_hephaestus-forge"));
        program.current_dir(folder.path()).env("RAYON_NUM_THREADS", threads);
        program.args(["build", "--recipe", "forge.yaml", "--set", &format!("work.part={part}"), "--fresh"]);
        program.assert().success();
        let found = corpora(files(&folder.path().join("out")));
        assert!(found == expected, "parts of {part} on {threads} threads give another corpus");
    }
}

#[test]
fn a_build_that_is_there_is_not_built_again_and_one_of_something_else_is_not_lost() {
    let folder = workshop();
    succeed(&folder, &["build", "--recipe", "forge.yaml", "--shard", "1/2"]);
    let err = fail(&folder, &["build", "--recipe", "forge.yaml", "--set", "seed=5"]);
    assert!(err.contains("holds the work of another build: the recipe has changed (`seed: 5` was `seed: 0`)"), "{err}");
    write(&folder, "prose/99.txt", "one more");
    let err = fail(&folder, &["build", "--recipe", "forge.yaml"]);
    assert!(err.contains("the inputs have changed") && err.contains("--fresh"), "{err}");
    succeed(&folder, &["build", "--recipe", "forge.yaml", "--fresh"]);
    let before = files(&folder.path().join("out"));
    let (_, err) = succeed(&folder, &["build", "--recipe", "forge.yaml"]);
    assert!(err.contains("built already"), "{err}");
    assert_same(&files(&folder.path().join("out")), &before, "after a second run");
}

#[test]
fn duplicates_stay_out_across_sources_and_the_first_stays() {
    let folder = workshop();
    let (_, err) = succeed(&folder, &["build", "--recipe", "forge.yaml"]);
    assert!(err.contains("first                340 documents"), "{err}");
    let (out, _) = succeed(&folder, &["inspect", "out/second", "--documents", "0"]);
    let kept = 300 - 100 - (0..300).filter(|n| n % 3 != 0 && n % 7 == 0).count();
    assert!(out.contains(&format!("documents   {kept}")), "{out}");
}

#[test]
fn nothing_kept_is_an_error_that_points_to_the_report() {
    let folder = with_tokenizer();
    write(&folder, "bad.jsonl", "[1]\n{\"text\": \"  \"}\n");
    recipe(&folder, "c", "{ reader: jsonl, paths: [bad.jsonl] }");
    let (ok, _, err) = forge(&folder, &["build", "--recipe", "c.yaml"]);
    assert!(!ok && err.contains("no document was kept") && err.contains("report.md"), "{err}");
}

#[test]
fn a_plan_is_shown_before_anything_is_read() {
    let folder = workshop();
    let (out, _) = succeed(&folder, &["build", "--recipe", "forge.yaml", "--dry-run"]);
    assert!(out.contains("jsonl") && out.contains("-> out") && !folder.path().join("out").exists(), "{out}");
}
