//! Runs that resume under a recipe that has changed.

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;

use crate::train::{fail, losses, succeed, workshop};

/// Rows of 32 tokens, 8 a step: 40 steps of one stage that is counted in tokens.
const IN_TOKENS: [&str; 2] = [
    "--set",
    "stages=[{name: main, tokens: 10240, mixture: {prose: 9, code: 1}, schedule: {kind: cosine, peak: 1e-2}}]",
];

fn state(folder: &TempDir, checkpoint: &str) -> Value {
    serde_json::from_slice(&fs_err::read(folder.path().join("out").join(checkpoint).join("state.json")).unwrap())
        .unwrap()
}

/// Rows drawn from each source.
fn rows(folder: &TempDir, checkpoint: &str) -> BTreeMap<String, u64> {
    let sources = state(folder, checkpoint)["sources"].as_object().unwrap().clone();
    sources.into_iter().map(|(name, drawn)| (name, drawn["rows"].as_u64().unwrap())).collect()
}

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [base, more].concat()
}

#[test]
fn a_stage_in_tokens_keeps_its_tokens_and_its_place_in_the_schedule_when_the_batch_changes() {
    for (batch, last) in [("16", 30), ("4", 60), ("12", 34)] {
        let folder = workshop();
        succeed(&folder, &with(&IN_TOKENS, &["--stop-at", "20"]));
        let batch = format!("batch={{sequences: {batch}, micro_sequences: 4}}");
        let (shown, _) = succeed(&folder, &with(&IN_TOKENS, &["--set", &batch, "--dry-run"]));
        assert!(shown.contains(&format!("main: {} steps left of", last - 20)), "{shown}");
        let (out, err) = succeed(&folder, &with(&IN_TOKENS, &["--set", &batch]));
        assert!(out.starts_with(&format!("finished: out/step-{last}")), "{out}");
        assert!(err.contains("batch.sequences  8 -> ") && err.contains("from step 21: "), "{err}");
        let tokens = state(&folder, &format!("step-{last}"))["tokens"].as_u64().unwrap();
        // Tokens are rounded up to whole steps.
        assert!((10240..10240 + 12 * 32).contains(&tokens), "{tokens}");
        let losses = losses(&folder, "out");
        let rate = |step: u64| losses[&step][2].as_f64().unwrap();
        assert!((rate(20) - rate(21)).abs() < 1e-3 && rate(last) < 3e-4, "{} {} {}", rate(20), rate(21), rate(last));
    }
}

#[test]
fn shares_count_anew_from_a_change_of_the_mixture_and_a_source_put_back_goes_on() {
    let folder = workshop();
    let steps = |mixture: &str| {
        format!("stages=[{{name: main, steps: 60, mixture: {mixture}, schedule: {{kind: constant, peak: 1e-3}}}}]")
    };
    let [most_prose, most_code] = ["{prose: 9, code: 1}", "{prose: 1, code: 9}"].map(steps);
    succeed(&folder, &["--set", &most_prose, "--stop-at", "20"]);
    let before = rows(&folder, "step-20");
    let (shown, _) = succeed(&folder, &["--set", &most_code, "--dry-run"]);
    assert!(shown.contains("stages.main.mixture.code   1.0 -> 9.0  from step 21: shares count from there"), "{shown}");
    succeed(&folder, &["--set", &most_code, "--stop-at", "30"]);
    let after = rows(&folder, "step-30");
    let gained = |name: &str| (after[name] - before[name]) as f64;
    assert!((gained("prose") - 8.0).abs() <= 1.0 && (gained("code") - 72.0).abs() <= 1.0, "{before:?} {after:?}");
    // Without code, and then with it again.
    let alone = steps("{prose: 1}");
    let lost = "data.sources={prose: {path: corpora/prose, held_out: 10%}}";
    succeed(&folder, &["--set", &alone, "--set", lost, "--stop-at", "35"]);
    assert_eq!(rows(&folder, "step-35")["code"], after["code"]);
    // Else they would count in a stage that gives it no share.
    assert_eq!(state(&folder, "step-35")["sources"]["code"]["rows_in_stage"], 0);
    succeed(&folder, &["--set", &most_code, "--stop-at", "40"]);
    let last = rows(&folder, "step-40");
    assert_eq!(last.values().sum::<u64>(), 40 * 8);
    assert!((last["code"] - after["code"]).abs_diff(36) <= 1, "{after:?} {last:?}");
}

#[test]
fn a_source_keeps_to_its_epochs_when_the_mixture_changes() {
    let folder = workshop();
    let set = |mixture: &str, steps: u64| {
        format!("stages=[{{name: main, steps: {steps}, mixture: {mixture}, schedule: {{kind: constant, peak: 1e-3}}}}]")
    };
    let epochs = "data.sources.code.max_epochs=1";
    let (shown, _) = succeed(&folder, &["--set", &set("{prose: 1, code: 1}", 40), "--dry-run"]);
    let line = shown.lines().find(|line| line.trim_start().starts_with("code ")).unwrap();
    let epoch: u64 = line.split_whitespace().nth(3).unwrap().replace(',', "").parse().unwrap();
    // A little less than all of code is drawn, then nearly everything is to be code.
    let first = epoch * 2 / 8 - 4;
    succeed(
        &folder,
        &["--set", &set("{prose: 1, code: 1}", 2 * first), "--set", epochs, "--stop-at", &first.to_string()],
    );
    let (_, err) = succeed(&folder, &["--set", &set("{prose: 1, code: 99}", 2 * first), "--set", epochs]);
    assert!(err.contains("stages.main.mixture.code"), "{err}");
    let drawn = rows(&folder, &format!("step-{}", 2 * first))["code"];
    assert!(drawn.abs_diff(epoch) <= 1, "{drawn} rows of {epoch}");
}

#[test]
fn another_run_in_the_same_folder_is_refused_by_its_keys_all_at_once() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "4"]);
    let other = ["--set", "run.seed=4", "--set", "data.packing=best_fit", "--set", "logging.every=3"];
    let err = fail(&folder, &other);
    assert_eq!(fail(&folder, &with(&other, &["--dry-run"])), err);
    insta::assert_snapshot!(err, @"
    error: out/step-4: the recipe asks for another run than the one that was begun:
      data.packing  split -> best_fit  refused: the rows that were trained on could not be told from the others any more
      run.seed      3 -> 4             refused: the order of the data would change, and rows come again
    set the keys back, give the new run another run.output, or accept a change with --accept KEY
    ");
    insta::assert_snapshot!(fail(&folder, &with(&other, &["--accept", "run.sed"])), @"error: --accept run.sed: no key of the recipe or of the checkpoint's is called so; did you mean run.seed? name one as the table of changes shows it, or a section");
    let accepted = with(&other, &["--accept", "run.seed", "--accept", "data"]);
    let (_, err) = succeed(&folder, &accepted);
    assert!(err.contains("3 -> 4 ") && err.contains("accepted; the order of the data would change"), "{err}");
    // What it was accepted with is in its checkpoints now.
    succeed(&folder, &other);
}

#[test]
fn another_base_of_the_same_shape_is_refused_also_in_the_same_place() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "2"]);
    let path = |name: &str| folder.path().join(name);
    let copy = |from: &str, to: &str| {
        let copied = std::process::Command::new("cp").arg("-rT").args([path(from), path(to)]).status().unwrap();
        assert!(copied.success());
    };
    copy("out/step-2/model", "base");
    succeed(&folder, &["--set", "run.output=other", "--set", "run.seed=9", "--stop-at", "2"]);
    let run = ["--set", "model={from: base}", "--set", "run.output=run"];
    succeed(&folder, &with(&run, &["--stop-at", "4"]));
    // Moved, it is the same.
    copy("base", "moved");
    let (_, err) = succeed(&folder, &["--set", "model={from: moved}", "--set", "run.output=run", "--stop-at", "5"]);
    assert!(err.contains("base -> moved") && err.contains("the same weights in another place"), "{err}");
    copy("other/step-2/model", "moved");
    let moved = ["--set", "model={from: moved}", "--set", "run.output=run"];
    let err = fail(&folder, &moved);
    assert!(err.contains("model.from  weights ") && err.contains("other ones would never be read"), "{err}");
    succeed(&folder, &with(&moved, &["--accept", "model.from"]));
}

#[test]
fn what_changes_nothing_that_is_trained_is_told_and_changes_nothing() {
    let folder = workshop();
    succeed(&folder, &[]);
    let changed = ["--set", "run.output=changed"];
    succeed(&folder, &with(&changed, &["--stop-at", "3"]));
    let free = ["--set", "logging.every=2", "--set", "checkpoint.every=3", "--set", "validation.sequences=2"];
    let (_, err) = succeed(&folder, &with(&changed, &free));
    for key in ["logging.every", "checkpoint.every", "validation.sequences"] {
        let line = err.lines().find(|line| line.contains(key)).unwrap();
        assert!(line.contains("no effect on what is trained"), "{line}");
    }
    let read = |output: &str| fs_err::read(folder.path().join(output).join("step-12/model/model.safetensors")).unwrap();
    assert!(read("out") == read("changed"));
}
