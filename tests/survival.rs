//! Faults that cost a run no step: logs that cannot be written, checkpoints that cannot be removed, corpora that cannot be read,
//! weights that blow up.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::train::{fail, succeed, workshop};

fn out(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("out")
}

/// The steps of the checkpoints of a run.
fn checkpoints(folder: &TempDir) -> Vec<u64> {
    let names = fs_err::read_dir(out(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut steps: Vec<u64> = names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn a_log_that_cannot_be_written_ends_no_run() {
    let folder = workshop();
    fs_err::create_dir_all(out(&folder).join("metrics.jsonl")).unwrap();
    fs_err::write(out(&folder).join("tensorboard"), "a file").unwrap();
    let (_, err) = succeed(&folder, &["--stop-at", "4"]);
    assert!(err.contains("metrics.jsonl cannot be written") && err.contains("tensorboard/ cannot be written"), "{err}");
    assert!(err.contains("metrics.jsonl lacks"), "{err}");
    succeed(&folder, &[]);
    assert_eq!(checkpoints(&folder), [4, 8, 12]);
}

#[test]
fn lines_of_the_log_that_are_no_text_or_have_no_end_are_passed_over() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "4"]);
    let log = out(&folder).join("metrics.jsonl");
    let mut bytes = fs_err::read(&log).unwrap();
    bytes.extend(b"\xff\xfe{}\n");
    bytes.extend(vec![b'x'; 3 << 20]);
    bytes.push(b'\n');
    fs_err::write(&log, bytes).unwrap();
    let (_, err) = succeed(&folder, &[]);
    assert!(err.contains("loss before"), "{err}");
}

#[test]
fn links_and_fifos_in_the_output_folder_are_neither_followed_nor_waited_for() {
    let folder = workshop();
    fs_err::create_dir(out(&folder)).unwrap();
    let precious = folder.path().join("precious");
    fs_err::write(&precious, "kept").unwrap();
    std::os::unix::fs::symlink(&precious, out(&folder).join(".lock")).unwrap();
    let err = fail(&folder, &[]);
    assert!(err.contains("out/.lock: is a symbolic link"), "{err}");
    assert_eq!(fs_err::read_to_string(&precious).unwrap(), "kept");
    fs_err::remove_file(out(&folder).join(".lock")).unwrap();
    assert!(Command::new("mkfifo").arg(out(&folder).join(".lock")).status().unwrap().success());
    let err = fail(&folder, &[]);
    assert!(err.contains("out/.lock: is a FIFO"), "{err}");
    fs_err::remove_file(out(&folder).join(".lock")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", out(&folder).join("metrics.jsonl")).unwrap();
    let (_, err) = succeed(&folder, &["--stop-at", "2"]);
    assert!(err.contains("metrics.jsonl: is a symbolic link"), "{err}");
}

#[test]
fn an_old_checkpoint_that_cannot_be_removed_ends_no_run() {
    let folder = workshop();
    let keep = ["--set", "checkpoint={every: 2, keep_last: 1}"];
    succeed(&folder, &[&keep[..], &["--stop-at", "2"]].concat());
    let attribute = |change: &str, name: &str| {
        let changed = Command::new("chattr").args(["-R", change]).arg(out(&folder).join(name)).output();
        changed.is_ok_and(|run| run.status.success())
    };
    if !attribute("+i", "step-2/model") {
        crate::skipped(
            "an_old_checkpoint_that_cannot_be_removed_ends_no_run",
            "chattr needs root and a file system that has it",
        );
        return;
    }
    let stopped = succeed(&folder, &[&keep[..], &["--stop-at", "6"]].concat());
    // The same command again starts, although what could not be removed is still there.
    let again = succeed(&folder, &keep);
    assert!(attribute("-i", ""));
    for (_, err) in [&stopped, &again] {
        assert!(err.contains("an old checkpoint could not be removed, and is tried again"), "{err}");
    }
    assert_eq!(checkpoints(&folder), [12]);
}

#[test]
fn weights_that_blow_up_are_not_saved_while_updates_are_skipped_and_bury_no_good_checkpoint() {
    let folder = workshop();
    let stages = |peak: &str| {
        format!(
            "stages=[{{name: first, steps: 8, mixture: {{prose: 1}}, schedule: {{kind: constant, peak: 1e-3}}}}, \
             {{name: second, steps: 40, mixture: {{prose: 1}}, schedule: {{kind: constant, peak: {peak}}}}}]"
        )
    };
    let keep = ["--set", "checkpoint={every: 1, keep_last: 1}"];
    // The update of step 9 makes weights of 1e30, finite ones; nothing that is computed from them is.
    let err = fail(&folder, &[&keep[..], &["--set", &stages("1e30")]].concat());
    let skipped = "updates were skipped, because the loss or a gradient was not finite";
    assert!(err.contains(skipped) && err.contains("out/step-9 was saved before the first of them"), "{err}");
    // The one before is still there, as nothing followed that would have shown the newest to be sound.
    assert_eq!(checkpoints(&folder), [8, 9]);
    let err = fail(&folder, &[&keep[..], &["--set", &stages("1e-3")]].concat());
    assert!(err.contains(skipped), "{err}");
    assert_eq!(checkpoints(&folder), [8, 9]);
    let back = ["--resume", "out/step-8", "--set"];
    let (out, _) = succeed(&folder, &[&keep[..], &back, &[&stages("1e-3")]].concat());
    assert!(out.starts_with("finished: out/step-48"), "{out}");
}

#[test]
fn weights_that_are_not_finite_get_no_checkpoint() {
    let folder = workshop();
    let stages = "stages=[{name: first, steps: 6, mixture: {prose: 1}, schedule: {kind: constant, peak: 1e-3}}, \
                  {name: second, steps: 6, mixture: {prose: 1}, schedule: {kind: constant, peak: 1e38}}]";
    let err = fail(
        &folder,
        &["--set", stages, "--set", "checkpoint={every: 1, keep_last: 20}", "--set", "optimizer.weight_decay=1e3"],
    );
    assert!(err.contains("holds NaN or infinity") || err.contains("hold NaN or infinity"), "{err}");
    assert_eq!(*checkpoints(&folder).last().unwrap(), 6, "{err}");
}

/// The steps that `metrics.jsonl` has a validation of.
fn validated(folder: &TempDir) -> Vec<u64> {
    let text = fs_err::read_to_string(out(folder).join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["event"] == "validation").map(|record| record["step"].as_u64().unwrap()).collect()
}

/// Takes the validations of these steps out of a run's log, as if they had been interrupted.
fn forget(folder: &TempDir, steps: &[u64]) {
    let log = out(folder).join("metrics.jsonl");
    let text = fs_err::read_to_string(&log).unwrap();
    let is_one = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["event"] == "validation" && steps.contains(&record["step"].as_u64().unwrap())
    };
    let kept: String = text.lines().filter(|line| !is_one(line)).map(|line| format!("{line}\n")).collect();
    fs_err::write(&log, kept).unwrap();
}

#[test]
fn an_interrupted_validation_is_made_up_for() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "6"]);
    assert_eq!(validated(&folder), [0, 6]);
    forget(&folder, &[6]);
    succeed(&folder, &[]);
    assert_eq!(validated(&folder), [0, 6, 12]);
    // Also of a run that is finished.
    forget(&folder, &[12]);
    let (_, err) = succeed(&folder, &[]);
    assert_eq!(validated(&folder), [0, 6, 12]);
    assert!(err.contains("loss before"), "{err}");
}

/// Rewrites a file of a checkpoint's manifest or state, by its JSON.
fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs_err::read(file).unwrap()).unwrap();
    change(&mut value);
    fs_err::write(file, value.to_string()).unwrap();
}

#[test]
fn a_manifest_that_does_not_list_what_a_checkpoint_needs_is_passed_over() {
    for name in ["state.json", "recipe.yaml", "model/config.json", "model/model.safetensors", "optimizer.safetensors"] {
        let folder = workshop();
        succeed(&folder, &["--stop-at", "5"]);
        edit(&out(&folder).join("step-5/manifest.json"), |manifest| {
            manifest["files"].as_object_mut().unwrap().remove(name);
        });
        let (_, err) = succeed(&folder, &["--stop-at", "6"]);
        let told = format!(
            "passed over out/step-5: out/step-5/manifest.json: does not list {}",
            if name.starts_with("opt") { "no" } else { name }
        );
        assert!(err.contains(&told) && err.contains("going on from out/step-4"), "{name}: {err}");
    }
}

#[test]
fn files_that_the_manifest_does_not_list_are_not_read() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "4"]);
    let step = out(&folder).join("step-4");
    fs_err::write(step.join("model/model.safetensors.index.json"), r#"{"weight_map": {"x": "y.safetensors"}}"#)
        .unwrap();
    fs_err::write(step.join("optimizer-00001-of-00002.safetensors"), "stray").unwrap();
    let (_, err) = succeed(&folder, &[]);
    assert!(err.contains("going on from out/step-4"), "{err}");
}

#[test]
fn a_state_that_contradicts_itself_or_its_folder_is_passed_over() {
    let changes: [(&str, u64, &str); 3] = [
        ("step", 9, "says step 9, and the folder is named for step 5"),
        ("stage_tokens", u64::MAX, "says more tokens in stage first than in the run"),
        ("tokens", u64::MAX, "18446744073709551615 tokens"),
    ];
    for (key, value, told) in changes {
        let folder = workshop();
        succeed(&folder, &["--stop-at", "5"]);
        let step = out(&folder).join("step-5");
        edit(&step.join("state.json"), |state| state[key] = value.into());
        // Signed anew, as whoever means harm would.
        let text = fs_err::read(step.join("state.json")).unwrap();
        let hash = Command::new("sha256sum").arg(step.join("state.json")).output().unwrap().stdout;
        edit(&step.join("manifest.json"), |manifest| {
            manifest["files"]["state.json"]["bytes"] = text.len().into();
            manifest["files"]["state.json"]["sha256"] = String::from_utf8_lossy(&hash[..64]).into_owned().into();
        });
        let (_, err) = succeed(&folder, &["--stop-at", "6"]);
        assert!(err.contains(told) && err.contains("going on from out/step-4"), "{key}: {err}");
    }
}
