//! `hephaestus-train`, driven as a user drives it, on a corpus of a few hundred sentences and a model of a few thousand
//! weights.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use assert_cmd::Command;
use hephaestus_forge::readers::{Kind, Reader};
use hephaestus_forge::recipe::Input;
use hephaestus_forge::{bpe, build};
use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 320, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": 0,
    "bos_token_id": 0
}"#;

const RECIPE: &str = "
version: 1
run: { name: small, output: out, seed: 3 }
model: { config: config.json }
tokenizer: tok
data:
  sequence_length: 32
  sources:
    prose: { path: corpora/prose, held_out: 10% }
    code: { path: corpora/code, held_out: 10% }
batch: { sequences: 8, micro_sequences: 4 }
stages:
  - name: first
    steps: 7
    mixture: { prose: 2, code: 1 }
    schedule: { kind: constant, peak: 1e-2, warmup: 2 }
  - name: second
    steps: 5
    mixture: { prose: 1, code: 3 }
    schedule: { kind: linear, peak: 1e-2, start: continue }
checkpoint: { every: 4, keep_last: 10 }
validation: { every: 6, sequences: 4 }
logging: { every: 1 }
device: { kind: cpu, precision: fp32, threads: 1 }
";

pub(crate) fn program(name: &str) -> PathBuf {
    match name {
        "export" => crate::program(env!("CARGO_BIN_EXE_hephaestus-export")),
        _ => crate::program(env!("CARGO_BIN_EXE_hephaestus-train")),
    }
}

/// Tokenizer and corpora, made once for all tests of this process.
fn material() -> &'static Path {
    static MATERIAL: OnceLock<TempDir> = OnceLock::new();
    let made = MATERIAL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let line = |text: String| format!("{}\n", serde_json::json!({ "text": text }));
        let words = ["iron", "hammer", "forge", "anvil", "spark", "steel", "coal", "tongs"];
        let word = |n: usize| words[n * n * 7 % 8];
        let prose = (0..300).map(|n| {
            line((0..3 + n % 9).map(|m| format!("The {} meets the {}. ", word(n + m), word(n * m + 3))).collect())
        });
        let code = (0..200).map(|n| {
            line(
                format!("def {0}_{n}(x):\n    return {0}(x, {1}) + {2}\n", word(n), n % 10, word(n + 5))
                    .repeat(1 + n % 4),
            )
        });
        fs_err::write(folder.path().join("prose.jsonl"), prose.collect::<String>()).unwrap();
        fs_err::write(folder.path().join("code.jsonl"), code.collect::<String>()).unwrap();
        fs_err::write(folder.path().join("config.json"), CONFIG).unwrap();
        let path = |name: &str| folder.path().join(name);
        let input = |name: &str| Reader::new(Input::new(Kind::Jsonl, &[path(&format!("{name}.jsonl"))]));
        let settings = bpe::Settings { vocab_size: 320, special: Vec::new(), max_bytes: 1 << 20, strict: true };
        bpe::train(&[input("prose"), input("code")], &path("tok"), &settings, &mut |_| {}).unwrap();
        let text = format!(
            "version: 1\noutput: {output}\ntokenizer: {tokenizer}\nduplicates: {{ exact: false, near: false }}\nsources:\n  \
             prose: {{ inputs: [{{ reader: jsonl, paths: [{prose}] }}] }}\n  code: {{ inputs: [{{ reader: jsonl, paths: [{code}] }}] }}\n",
            output = path("corpora").display(),
            tokenizer = path("tok").display(),
            prose = path("prose.jsonl").display(),
            code = path("code.jsonl").display(),
        );
        let recipe = hephaestus_forge::recipe::parse(&text, Path::new("forge.yaml"), &[]).unwrap();
        build::run(&recipe, &build::Options::default(), &mut |_| {}).unwrap();
        folder
    });
    made.path()
}

/// A private folder with the material and the recipe in it.
pub(crate) fn workshop() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tok", "corpora", "config.json"] {
        let run = Program::new("cp").arg("-r").arg(material().join(name)).arg(folder.path()).status().unwrap();
        assert!(run.success());
    }
    fs_err::write(folder.path().join("cpt.yaml"), RECIPE).unwrap();
    folder
}

fn train(folder: &TempDir) -> Command {
    let mut command = Command::new(program("train"));
    command.current_dir(folder.path()).args(["--recipe", "cpt.yaml"]);
    command
}

/// Runs to the end; returns stdout and stderr.
pub(crate) fn succeed(folder: &TempDir, arguments: &[&str]) -> (String, String) {
    let run = train(folder).args(arguments).assert().success();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&run.get_output().stdout), text(&run.get_output().stderr))
}

pub(crate) fn fail(folder: &TempDir, arguments: &[&str]) -> String {
    let run = train(folder).args(arguments).assert().failure().code(1);
    String::from_utf8(run.get_output().stderr.clone()).unwrap()
}

/// The training records of a run by step; a later one of the same step counts.
pub(crate) fn losses(folder: &TempDir, output: &str) -> BTreeMap<u64, Value> {
    let text = fs_err::read_to_string(folder.path().join(output).join("metrics.jsonl")).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kept = ["loss", "grad_norm", "lr", "tokens", "sources"];
    records
        .filter(|record| record["event"] == "train")
        .map(|record| (record["step"].as_u64().unwrap(), kept.iter().map(|key| record[*key].clone()).collect()))
        .collect()
}

/// Every file of a checkpoint but the recipe, which may name another output.
fn bytes(checkpoint: &Path) -> BTreeMap<String, Vec<u8>> {
    ["model/model.safetensors", "model/config.json", "optimizer.safetensors", "state.json"]
        .map(|name| (name.to_owned(), fs_err::read(checkpoint.join(name)).unwrap()))
        .into()
}

fn assert_same(folder: &TempDir, one: &str, other: &str) {
    let read = |output: &str| bytes(&folder.path().join(output).join("step-12"));
    let (one_bytes, other_bytes) = (read(one), read(other));
    for (name, bytes) in &one_bytes {
        assert!(*bytes == other_bytes[name], "{name} differs between {one} and {other}");
    }
    assert_eq!(losses(folder, one), losses(folder, other), "losses of {one} and {other}");
}

#[test]
fn stopped_killed_and_resumed_runs_are_the_undisturbed_one_bit_for_bit() {
    let folder = workshop();
    succeed(&folder, &[]);
    // Stopped in the first stage, at its end, and in the second; each time between two checkpoints.
    for step in ["3", "7", "9"] {
        let (out, _) = succeed(&folder, &["--set", "run.output=stopped", "--stop-at", step]);
        assert!(out.starts_with(&format!("stopped: stopped/step-{step};")), "{out}");
    }
    let (out, err) = succeed(&folder, &["--set", "run.output=stopped"]);
    assert!(out.starts_with("finished: stopped/step-12") && err.contains("going on from stopped/step-9"), "{out}{err}");
    assert_same(&folder, "out", "stopped");

    // Killed after the first checkpoint appeared, wherever it then was.
    let mut killed = Program::new(program("train"));
    killed.current_dir(folder.path()).args(["--recipe", "cpt.yaml", "--set", "run.output=killed"]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !folder.path().join("killed/step-4").is_dir() && killed.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    succeed(&folder, &["--set", "run.output=killed"]);
    assert_same(&folder, "out", "killed");
}

#[test]
fn with_everything_narrow_a_resumed_run_is_the_undisturbed_one_too() {
    let folder = workshop();
    let narrow = ["--set", "device.precision=fp8", "--set", "optimizer.moments=bf16"];
    succeed(&folder, &narrow);
    let stopped = [&narrow[..], &["--set", "run.output=stopped"]].concat();
    succeed(&folder, &[&stopped[..], &["--stop-at", "5"]].concat());
    succeed(&folder, &stopped);
    assert_same(&folder, "out", "stopped");
    succeed(&folder, &["--set", "run.output=wide"]);
    assert_ne!(losses(&folder, "out"), losses(&folder, "wide"));
}

#[test]
fn ctrl_c_and_a_terminal_that_closes_save_where_it_stands_and_say_how_to_go_on() {
    for (signals, ignored) in [(&["-INT"][..], false), (&["-HUP", "-HUP"], false), (&["-INT"], true)] {
        let folder = workshop();
        let mut run = Program::new("env");
        run.arg(if ignored { "--ignore-signal=HUP" } else { "--default-signal=HUP" });
        run.arg(program("train")).args(["--recipe", "cpt.yaml", "--set", "stages.0.steps=100000"]);
        run.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut run = run.spawn().unwrap();
        let process = run.id().to_string();
        let kill = |signal: &str| assert!(Program::new("kill").args([signal, &process]).status().unwrap().success());
        let mut wait_for = |step: &str| {
            while !folder.path().join("out").join(step).is_dir() && run.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        wait_for("step-4");
        // As nohup has it.
        if ignored {
            kill("-HUP");
            wait_for("step-12");
        }
        signals.iter().for_each(|signal| kill(signal));
        let ended = run.wait_with_output().unwrap();
        let out = String::from_utf8(ended.stdout).unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{signals:?}, {:?}: {out}{told}", ended.status);
        let saved = out.strip_prefix("stopped: ").and_then(|out| out.split_once(';')).unwrap().0;
        assert!(folder.path().join(saved).join("manifest.json").is_file(), "{out}");
    }
}

#[test]
fn another_split_into_micro_batches_changes_only_rounding() {
    let folder = workshop();
    succeed(&folder, &[]);
    succeed(&folder, &["--set", "run.output=split", "--set", "batch.micro_sequences=2", "--stop-at", "5"]);
    succeed(&folder, &["--set", "run.output=split", "--set", "batch.micro_sequences=8"]);
    let (whole, split) = (losses(&folder, "out"), losses(&folder, "split"));
    assert_eq!(whole.len(), 12);
    for (step, record) in &whole {
        let loss = |record: &Value| record[0].as_f64().unwrap();
        let difference = (loss(record) - loss(&split[step])).abs() / loss(record);
        assert!(difference < 1e-6, "step {step}: relative difference {difference:e}");
    }
}

#[test]
fn every_source_is_validated_before_and_after_and_learns() {
    let folder = workshop();
    let (_, err) = succeed(&folder, &["--set", "stages.0.steps=40"]);
    let table = err.lines().skip_while(|line| !line.contains("before")).collect::<Vec<_>>().join("\n");
    assert!(table.contains("prose") && table.contains("code") && table.contains("learned"), "{err}");
    let metrics = fs_err::read_to_string(folder.path().join("out/metrics.jsonl")).unwrap();
    assert!(metrics.contains(r#""event":"validation""#), "{metrics}");
}

#[test]
fn a_run_that_is_finished_stays_as_it_is() {
    let folder = workshop();
    succeed(&folder, &[]);
    let before = bytes(&folder.path().join("out/step-12"));
    let (out, _) = succeed(&folder, &[]);
    assert!(out.starts_with("finished: out/step-12"), "{out}");
    assert!(before == bytes(&folder.path().join("out/step-12")));
    let err = fail(&folder, &["--resume", "never"]);
    assert!(err.contains("out/step-12: a run has left checkpoints here, and --resume never begins another"), "{err}");
}

#[test]
fn weights_alone_and_weights_with_moments_begin_a_new_schedule() {
    let folder = workshop();
    succeed(&folder, &[]);
    let from = ["--set", "model={from: out/step-12}", "--set", "run.output=next"];
    succeed(&folder, &from);
    let keep = ["--set", "model={from: out/step-12, keep_optimizer: true}", "--set", "run.output=kept"];
    succeed(&folder, &keep);
    let (first, next, kept) = (losses(&folder, "out"), losses(&folder, "next"), losses(&folder, "kept"));
    // Both begin where the first run ended and are the same until an update has been made with other moments.
    assert!(next[&1][0].as_f64() < first[&1][0].as_f64().map(|loss| loss - 0.5), "{next:?}");
    assert_eq!(next[&1], kept[&1]);
    assert_ne!(next[&3], kept[&3]);
    assert_eq!(first[&1][2], next[&1][2], "the schedule begins anew");
}

#[test]
fn bf16_runs_resume_bit_for_bit_from_their_fp32_masters() {
    let folder = workshop();
    let bf16 = ["--set", "device.precision=bf16"];
    succeed(&folder, &bf16);
    let stopped = ["--set", "device.precision=bf16", "--set", "run.output=stopped"];
    succeed(&folder, &[&stopped[..], &["--stop-at", "5"]].concat());
    succeed(&folder, &stopped);
    assert_same(&folder, "out", "stopped");
    // The export in fp32 is of the masters, which bf16 rounds.
    for dtype in ["fp32", "bf16"] {
        let mut export = Command::new(program("export"));
        export.current_dir(folder.path()).args(["out", dtype, "--dtype", dtype]).assert().success();
    }
    let size = |dtype: &str| fs_err::metadata(folder.path().join(dtype).join("model.safetensors")).unwrap().len();
    assert!(size("fp32") > 2 * size("bf16") - 5000);
}

#[test]
fn transformers_loads_a_checkpoint_and_its_export_and_finds_them_equal() {
    let folder = workshop();
    succeed(&folder, &[]);
    let mut export = Command::new(program("export"));
    let run =
        export.current_dir(folder.path()).args(["out", "model", "--prompt", "The iron", "--tokens", "8"]).assert();
    let out = String::from_utf8(run.success().get_output().stdout.clone()).unwrap();
    assert!(
        out.contains("every one that of out/step-12/model (float32) unchanged") && out.contains("\nThe iron"),
        "{out}"
    );
    let mut python = Program::new(crate::python());
    python
        .current_dir(folder.path())
        .arg(crate::root().join("tests/parity/loads.py"))
        .args(["out/step-12/model", "model"]);
    let run = python.output().expect("`make setup` installs the Python in .venv");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for name in ["tokenizer.json", "generation_config.json", "config.json"] {
        assert!(folder.path().join("model").join(name).is_file(), "{name} is missing");
    }
}

#[test]
fn weights_go_from_hugging_face_into_a_checkpoint_and_back_without_losing_a_bit() {
    let folder = workshop();
    let export = |from: &str, to: &str, dtype: &str| {
        let mut export = Command::new(program("export"));
        export.current_dir(folder.path()).args([from, to, "--dtype", dtype]).assert().success();
    };
    succeed(&folder, &["--stop-at", "2"]);
    let weights = |name: &str| fs_err::read(folder.path().join(name).join("model.safetensors")).unwrap();
    // A run in bf16 keeps what is fp32 in its masters.
    for (stored, precision) in [("fp32", "fp32"), ("bf16", "bf16"), ("fp32", "bf16"), ("bf16", "fp32")] {
        let name = |what: &str| format!("{what}-{stored}-{precision}");
        export("out", &name("model"), stored);
        let from = format!("model={{from: {}}}", name("model"));
        let output = format!("run.output={}", name("run"));
        let precision = format!("device.precision={precision}");
        succeed(&folder, &["--set", &from, "--set", &output, "--set", &precision, "--stop-at", "0"]);
        export(&name("run"), &name("back"), stored);
        assert!(weights(&name("model")) == weights(&name("back")), "stored as {stored}, computed in {precision}");
    }
}

#[test]
fn losses_that_are_not_finite_stop_the_run_and_leave_its_checkpoints() {
    let folder = workshop();
    let err = fail(&folder, &["--set", "stages.0.schedule.peak=1e30", "--set", "stages.1.schedule.peak=1e30"]);
    assert!(err.contains("updates were skipped, because the loss or a gradient was not finite"), "{err}");
    assert!(
        err.contains("out/step-4 was saved before the first of them") || err.contains("there is no checkpoint"),
        "{err}"
    );
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_named() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "8"]);
    let damaged = folder.path().join("out/step-8/optimizer.safetensors");
    let mut contents = fs_err::read(&damaged).unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 1;
    fs_err::write(&damaged, &contents).unwrap();
    let (_, err) = succeed(&folder, &[]);
    assert!(
        err.contains("passed over out/step-8: out/step-8/optimizer.safetensors: its contents have changed"),
        "{err}"
    );
    assert!(err.contains("going on from out/step-4"), "{err}");
    assert!(err.contains("set aside, as the run goes on from step 4, and may be removed: out/step-8.left"), "{err}");
    assert!(folder.path().join("out/step-8.left").is_dir());
    fs_err::write(folder.path().join("out/step-12/state.json"), "{}").unwrap();
    let err = fail(&folder, &["--resume", "out/step-12"]);
    assert!(err.contains("out/step-12/state.json: 2 bytes, expected"), "{err}");
}

#[test]
fn a_run_taken_up_further_back_keeps_its_new_checkpoints_and_the_same_command_goes_on() {
    let folder = workshop();
    succeed(&folder, &[]);
    let back = ["--set", "checkpoint.keep_last=1", "--resume", "out/step-4"];
    let (_, said) = succeed(&folder, &[&back[..], &["--stop-at", "6"]].concat());
    let aside = "set aside, as the run goes on from step 4, and may be removed: out/step-8.left, out/step-12.left";
    assert!(said.contains("going on from out/step-4") && said.contains(aside), "{said}");
    let checkpoints = |output: &str| {
        let all = fs_err::read_dir(folder.path().join(output)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut all: Vec<_> = all.map(|name| name.into_string().unwrap()).collect();
        all.retain(|name| name.starts_with("step-"));
        all.sort_unstable();
        all
    };
    assert_eq!(checkpoints("out"), ["step-12.left", "step-6", "step-8.left"]);
    let (out, said) = succeed(&folder, &back);
    let once_more = "the run went back to out/step-4 before, and goes on as by --resume auto: to go back there once more \
                     remove out/went-back.json";
    assert!(said.contains(once_more) && said.contains("going on from out/step-6"), "{said}");
    assert!(out.starts_with("finished: out/step-12") && !said.contains("set aside"), "{out}{said}");
    assert!(bytes(&folder.path().join("out/step-12")) == bytes(&folder.path().join("out/step-12.left")));

    // From elsewhere, and where nothing is saved before it ends: from there again.
    let other = ["--set", "run.output=next", "--resume", "out/step-8.left", "--stop-at"];
    succeed(&folder, &["--set", "run.output=next", "--stop-at", "8"]);
    let goes_on = |step: &str, expected: &str| {
        let (_, said) = succeed(&folder, &[&other[..], &[step]].concat());
        assert!(said.contains(&format!("going on from {expected}")), "{said}");
    };
    goes_on("8", "out/step-8.left");
    assert_eq!(checkpoints("next"), ["step-4", "step-8.left"]);
    goes_on("10", "out/step-8.left");
    goes_on("11", "next/step-10");
    fs_err::remove_file(folder.path().join("next/went-back.json")).unwrap();
    goes_on("11", "out/step-8.left");
    assert_eq!(checkpoints("next"), ["step-10.left", "step-11", "step-11.left", "step-4", "step-8.left"]);
}

#[test]
fn a_checkpoint_whose_masters_are_lost_is_refused() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "1"]);
    let rounded = folder.path().join("rounded");
    fs_err::create_dir(&rounded).unwrap();
    fs_err::copy(folder.path().join("out/step-1/optimizer.safetensors"), rounded.join("optimizer.safetensors"))
        .unwrap();
    let mut export = Command::new(program("export"));
    export.current_dir(folder.path()).args(["out", "rounded/model", "--dtype", "bf16"]).assert().success();
    for precision in ["fp32", "bf16"] {
        let precision = format!("device.precision={precision}");
        let from = "model={from: rounded, keep_optimizer: true}";
        let err = fail(&folder, &["--set", from, "--set", "run.output=next", "--set", &precision]);
        assert!(err.contains("rounded: the optimizer's state does not fit this model: "), "{err}");
        assert!(err.contains("model.embed_tokens.weight.master [320, 32] is missing"), "{err}");
    }
}

#[test]
fn a_resumed_run_refuses_other_data_in_its_place() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "4"]);
    let err = fail(&folder, &["--set", "data.sequence_length=16"]);
    assert!(err.contains("data.sequence_length  32 -> 16  refused: the rows that were trained on"), "{err}");
    let err = fail(&folder, &["--set", "data.sources.prose.held_out=30%"]);
    assert!(err.contains("data.sources.prose.held_out  0.1 -> 0.3  refused: documents held out so far"), "{err}");
    for extension in ["bin", "idx", "manifest.json"] {
        let corpora = folder.path().join("corpora");
        fs_err::copy(corpora.join(format!("prose.{extension}")), corpora.join(format!("code.{extension}"))).unwrap();
    }
    let err = fail(&folder, &[]);
    assert!(err.contains("corpora/code: source code is not the corpus the run has read from so far"), "{err}");
    succeed(&folder, &["--accept", "data.sources"]);
}

#[test]
fn token_ids_beyond_the_model_are_an_error_that_says_how_to_find_them() {
    let folder = workshop();
    // Without its manifest a corpus does not say how large its vocabulary is.
    fs_err::remove_file(folder.path().join("corpora/prose.manifest.json")).unwrap();
    let tokens = folder.path().join("corpora/prose.bin");
    let mut bytes = fs_err::read(&tokens).unwrap();
    let middle = bytes.len() / 8 * 2..bytes.len() / 8 * 6;
    bytes[middle].as_chunks_mut::<2>().0.iter_mut().step_by(7).for_each(|token| *token = 999_u16.to_le_bytes());
    fs_err::write(&tokens, bytes).unwrap();
    let err = fail(&folder, &["--set", "data.end_of_document=none"]);
    assert!(err.contains("corpora/prose.bin: document "), "{err}");
    assert!(err.contains(": found token 999, expected one below 320, the vocabulary of the model; run"), "{err}");
    assert!(err.contains("`hephaestus-forge verify corpora/prose --tokenizer FOLDER`"), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn a_full_disk_loses_nothing_that_was_saved() {
    let folder = workshop();
    let disk = folder.path().join("disk");
    fs_err::create_dir(&disk).unwrap();
    let mount = Program::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).output();
    if !mount.is_ok_and(|run| run.status.success()) {
        crate::skipped("a_full_disk_loses_nothing_that_was_saved", "mounting a small tmpfs needs root");
        return;
    }
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Program::new("umount").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(disk.clone());
    // Room for two checkpoints, and something else takes that of the second one.
    let longer = ["--set", "checkpoint.keep_last=1", "--set", "stages.0.steps=1000000"];
    let arguments = [&["--set", "run.output=disk/run"], &longer[..]].concat();
    let mut run = Program::new(program("train"))
        .current_dir(folder.path())
        .args(["--recipe", "cpt.yaml"])
        .args(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let saved = || {
        let entries = fs_err::read_dir(disk.join("run")).into_iter().flatten();
        let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.any(|name| name.starts_with("step-"))
    };
    while !saved() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    // All that is left, also what the run frees when it removes an older checkpoint.
    let mut ballast = fs_err::File::create(disk.join("ballast")).unwrap();
    while run.try_wait().unwrap().is_none() {
        if ballast.write_all(&[0; 4096]).is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let ended = run.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    assert!(err.contains("No space left on device"), "{err}");
    let left: Vec<_> = fs_err::read_dir(disk.join("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().any(|name| name.to_string_lossy().starts_with("step-")), "{left:?}");
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("writing")), "{left:?}");
    // And where there is no room for what is kept and the one being written, nothing is begun, and a dry run says so.
    for arguments in [&["--set", "run.output=disk/other"][..], &["--set", "run.output=disk/other", "--dry-run"]] {
        let err = fail(&folder, arguments);
        assert!(err.contains("disk/other: ") && err.contains(" free, and checkpoints need "), "{err}");
        assert!(err.contains(": 3 more of ") && err.contains("lower checkpoint.keep_last"), "{err}");
        assert!(!disk.join("other").exists());
    }
}

#[test]
fn profiled_steps_leave_a_trace_and_a_table_and_change_nothing() {
    let folder = workshop();
    succeed(&folder, &["--stop-at", "4"]);
    let (_, said) = succeed(&folder, &["--stop-at", "4", "--set", "run.output=profiled", "--profile", "steps=2..3"]);
    assert!(said.contains("profile: matrix products "), "{said}");
    assert_eq!(losses(&folder, "profiled"), losses(&folder, "out"));
    let output = folder.path().join("profiled");
    let trace = fs_err::read_to_string(output.join("profile-2-3.json")).unwrap();
    let events: serde_json::Value = serde_json::from_str(&trace).unwrap();
    assert!(!events["traceEvents"].as_array().unwrap().is_empty() && trace.contains("hephaestus::adamw"));
    let table = fs_err::read_to_string(output.join("profile-2-3.txt")).unwrap();
    assert!(table.starts_with("2 steps, time on the CPU: ") && table.contains("aten::mm\n"), "{table}");
    // A run that ends before the last of them leaves those that were made.
    let (_, said) = succeed(&folder, &["--stop-at", "6", "--set", "run.output=profiled", "--profile", "steps=6..90"]);
    assert!(said.contains("profile-6-6.txt"), "{said}");
    assert!(fs_err::read_to_string(output.join("profile-6-6.txt")).unwrap().starts_with("1 steps, "));
}

#[test]
fn in_fp8_and_with_moments_in_bf16_a_model_learns_as_in_fp32() {
    let folder = workshop();
    let average = |key: &str| {
        let output = format!("run.output={}", key.replace(['.', '='], "-"));
        let longer = ["--set", "stages.0.steps=60", "--set", "stages.1.steps=60"];
        succeed(&folder, &[&["--set", &output, "--set", key], &longer[..]].concat());
        let losses = losses(&folder, output.trim_start_matches("run.output="));
        let losses: Vec<_> = losses.values().map(|record| record[0].as_f64().unwrap()).collect();
        (losses[0], losses[100..].iter().sum::<f64>() / 20.0)
    };
    let [fp32, bf16, fp8] = ["fp32", "bf16", "fp8"].map(|name| average(&format!("device.precision={name}")));
    let narrow = average("optimizer.moments=bf16");
    let ((first, fp32), (begun, fp8)) = (fp32, fp8);
    assert!(fp32 < 0.5 * first && begun != first, "{first} to {fp32}; fp8 begins with {begun}");
    // Seeds of the initial weights put the end 1 to 2 % apart.
    for (name, reduced) in [("bf16", bf16.1), ("fp8", fp8), ("moments in bf16", narrow.1)] {
        assert!((reduced - fp32).abs() < 1e-2 * fp32, "{name} ends at {reduced}, fp32 at {fp32}");
    }
}

#[test]
fn rows_at_once_that_were_chosen_are_kept_by_a_run_that_goes_on_where_they_fit() {
    let folder = workshop();
    let auto = ["--set", "batch={sequences: 8}", "--set", "model.activation_checkpointing=none"];
    let run = |output: &str, memory: &str, more: &[&str]| {
        let (output, memory) = (format!("run.output={output}"), format!("device.memory={memory}"));
        succeed(&folder, &[&auto[..], &["--set", &output, "--set", &memory], more].concat()).1
    };
    run("out", "100MB", &[]);
    let recorded = fs_err::read_to_string(folder.path().join("out/step-12/recipe.yaml")).unwrap();
    assert!(recorded.contains("micro_sequences: 8"), "{recorded}");
    // Where the planner would choose fewer, and those before fit by all the memory there is, they are kept.
    run("kept", "100MB", &["--stop-at", "5"]);
    let said = run("kept", "1800kB", &[]);
    assert!(said.contains("rows computed at once: 8 as so far, instead of 4"), "{said}");
    assert_same(&folder, "out", "kept");
    // Where they do not fit, the run goes on with what does.
    run("fewer", "100MB", &["--stop-at", "5"]);
    let said = run("fewer", "1MB", &[]);
    assert!(said.contains("rows computed at once: 2, as the 8 so far do not fit here"), "{said}");
    let (whole, fewer) = (losses(&folder, "out"), losses(&folder, "fewer"));
    for (step, record) in &whole {
        let [whole, fewer] = [record, &fewer[step]].map(|record| record[0].as_f64().unwrap());
        assert!((whole - fewer).abs() < 1e-6 * whole, "step {step}: {whole} and {fewer}");
    }
}

/// Kilobytes of address space that a run takes at most.
fn address_space(folder: &TempDir) -> u64 {
    let mut run = Program::new(program("train"));
    run.current_dir(folder.path()).args(["--recipe", "cpt.yaml", "--set", "run.output=measured"]);
    let mut run = run.env(ARENAS.0, ARENAS.1).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    while run.try_wait().unwrap().is_none() {
        let status = fs_err::read_to_string(format!("/proc/{}/status", run.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or_default();
        most = most.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    most
}

/// glibc gives threads address space of their own, which is no memory, but counts where that is what is confined.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// A run in so many kilobytes more address space than a small one takes.
fn confined(folder: &TempDir, kilobytes: u64, arguments: &[&str]) -> (bool, String) {
    let mut shell = Program::new("sh");
    let limit = format!("ulimit -v {}; exec \"$@\"", address_space(folder) + kilobytes);
    shell.current_dir(folder.path()).args(["-c", &limit, "sh"]).arg(program("train"));
    let run = shell.args(["--recipe", "cpt.yaml"]).args(arguments).env(ARENAS.0, ARENAS.1).output().unwrap();
    (run.status.success(), String::from_utf8_lossy(&run.stderr).into_owned())
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_chosen_and_does_not_fit_is_followed_by_what_takes_less() {
    let folder = workshop();
    // About 1.1 GB by estimate, less than the recipe says there is, and more than there is in truth, rows read ahead included.
    let more = ["--set", "batch={sequences: 8192}", "--set", "device.memory=2GB", "--stop-at", "1"];
    let (succeeded, said) = confined(&folder, 1_000_000, &more);
    assert!(
        said.contains("out of memory with 8192 rows at once, all kept (1.11 GB by estimate): trying 4096"),
        "{said}"
    );
    assert!(succeeded && said.contains("saved out/step-1"), "{said}");
    let recorded = fs_err::read_to_string(folder.path().join("out/step-1/recipe.yaml")).unwrap();
    assert!(recorded.contains("micro_sequences: ") && !recorded.contains("micro_sequences: 8192"), "{recorded}");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_in_a_step_costs_no_step_and_says_what_would_take_less() {
    let folder = workshop();
    let steps = ["--set", "checkpoint.every=100", "--set", "stages.0.steps=1000"];
    succeed(&folder, &[&steps[..], &["--stop-at", "3"]].concat());
    let fixed = ["--set", "batch={sequences: 8192, micro_sequences: 8192}", "--set", "device.memory=4GB"];
    let (succeeded, said) = confined(&folder, 400_000, &[&steps[..], &fixed].concat());
    assert!(!succeeded, "{said}");
    let error = said.split_once("error: ").map(|(_, error)| error).unwrap_or_else(|| panic!("{said}"));
    assert!(error.starts_with("step 4; the same command goes on from out/step-3: out of memory: "), "{error}");
    for part in [
        "planned: 1.11 GB, with batch.micro_sequences 8192 and activations all kept; there are 4.00 GB",
        "less is taken by batch.micro_sequences=4096: 624 MB",
        "less is taken by model.activation_checkpointing=full: ",
    ] {
        assert!(error.contains(part), "no {part} in:\n{error}");
    }
    assert!(error.lines().count() < 8 && !error.contains("panicked"), "{error}");
}

#[test]
fn memory_on_gpus_grows_unless_the_environment_has_settings_of_its_own() {
    let folder = workshop();
    let said = |settings: Option<&str>| {
        let mut run = train(&folder);
        run.env_remove("PYTORCH_ALLOC_CONF").env_remove("PYTORCH_CUDA_ALLOC_CONF").env("HEPHAESTUS_LOG", "debug");
        if let Some(settings) = settings {
            run.env("PYTORCH_CUDA_ALLOC_CONF", settings);
        }
        let run = run.args(["--stop-at", "0", "--set", "validation.at_start=false"]).assert().success();
        String::from_utf8(run.get_output().stderr.clone()).unwrap()
    };
    let (without, with) = (said(None), said(Some("garbage_collection_threshold:0.8")));
    let line = |text: &str| text.lines().find(|line| line.contains("segments on GPUs")).unwrap_or_default().to_owned();
    assert!(line(&without).contains("true") && line(&with).contains("false"), "{without}\n{with}");
}
