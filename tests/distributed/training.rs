//! The whole trainer on several ranks, driven as a user drives it: it trains as one process does.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::*;
use crate::train::{losses, workshop};

/// At a rate of 1e-2 rounding would grow by itself, also between two micro-batch splits of one process.
const RECIPE: &str = "
version: 1
run: { name: ranks, output: out, seed: 3 }
model: { config: config.json, activation_checkpointing: none }
tokenizer: tok
data:
  sequence_length: 32
  sources:
    prose: { path: corpora/prose, held_out: 10% }
    code: { path: corpora/code, held_out: 10% }
batch: { sequences: 24, micro_sequences: 2 }
stages:
  - name: first
    steps: 30
    mixture: { prose: 2, code: 1 }
    schedule: { kind: constant, peak: 1e-3, warmup: 2 }
  - name: second
    steps: 20
    mixture: { prose: 1, code: 3 }
    schedule: { kind: linear, peak: 1e-3, start: continue }
checkpoint: { every: 1000, keep_last: 100 }
validation: { every: 25, sequences: 10 }
logging: { every: 1, tensorboard: false }
device: { kind: cpu, precision: fp32, threads: 1 }
distributed: { timeout: 40s }
";

/// Relative differences that rounding makes, in fp32.
pub(super) const OF_LOSSES: f64 = 1e-6;
const OF_NORMS: f64 = 1e-5;

/// A private folder with corpora, tokenizer, a tied and an untied model, and the recipe.
pub(super) fn folder() -> TempDir {
    let folder = workshop();
    fs_err::write(folder.path().join("ranks.yaml"), RECIPE).unwrap();
    let tied = fs_err::read_to_string(folder.path().join("config.json")).unwrap();
    let untied = tied.replace(r#""tie_word_embeddings": true"#, r#""tie_word_embeddings": false"#);
    assert_ne!(tied, untied);
    fs_err::write(folder.path().join("untied.json"), untied).unwrap();
    folder
}

/// The trainer's command line; each of `set` is an override.
pub(super) fn line(set: &[&str], arguments: &[&str]) -> Vec<String> {
    let program = crate::program(env!("CARGO_BIN_EXE_hephaestus-train")).display().to_string();
    let overrides = set.iter().flat_map(|set| ["--set", set]);
    let all = ["--recipe", "ranks.yaml"].into_iter().chain(overrides).chain(arguments.iter().copied());
    std::iter::once(program).chain(all.map(str::to_owned)).collect()
}

/// A command in a folder.
pub(super) fn within(folder: &TempDir, line: &[String]) -> Command {
    let mut command = command(line);
    command.current_dir(folder.path());
    command
}

/// How as many ranks as `world` ended, or with 0 a process alone.
pub(super) fn end(folder: &TempDir, world: usize, set: &[&str], arguments: &[&str]) -> Vec<Ended> {
    let (port, line) = (free_port(), line(set, arguments));
    let mut job = Job::new("train", world);
    for rank in 0..world.max(1) {
        let variables = if world == 0 { Vec::new() } else { by_hand(rank, world, port) };
        job.start(within(folder, &line), &variables);
    }
    job.end().0
}

/// Trains to the end, or to where `arguments` say.
pub(super) fn train(folder: &TempDir, world: usize, set: &[&str], arguments: &[&str]) {
    all_succeed(&end(folder, world, set, arguments));
}

/// What a run has told.
#[derive(Debug)]
pub(super) struct Told {
    /// Loss and norm of the gradients of each step.
    steps: BTreeMap<u64, [f64; 2]>,
    /// Of each step after which there was one, the loss of each source.
    validations: BTreeMap<u64, Vec<f64>>,
}

impl Told {
    pub(super) fn read(folder: &TempDir, output: &str) -> Self {
        let steps = losses(folder, output).into_iter();
        let steps = steps.map(|(step, record)| (step, [0, 1].map(|at| record[at].as_f64().unwrap()))).collect();
        let text = fs_err::read_to_string(folder.path().join(output).join("metrics.jsonl")).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let validations = records.filter(|record| record["event"] == "validation").map(|record| {
            let sources = record["sources"].as_object().unwrap().values();
            (record["step"].as_u64().unwrap(), sources.map(|source| source["loss"].as_f64().unwrap()).collect())
        });
        Self { steps, validations: validations.collect() }
    }

    /// The largest relative differences from another run: of losses, of norms and of validations.
    pub(super) fn differences(&self, other: &Self) -> [f64; 3] {
        let difference = |one: f64, other: f64| (one - other).abs() / one.abs();
        let mut largest = [0_f64; 3];
        for (step, found) in &other.steps {
            for at in 0..2 {
                largest[at] = largest[at].max(difference(self.steps[step][at], found[at]));
            }
        }
        for (step, found) in &other.validations {
            assert_eq!(found.len(), self.validations[step].len(), "sources validated after step {step}");
            for (one, other) in self.validations[step].iter().zip(found) {
                largest[2] = largest[2].max(difference(*one, *other));
            }
        }
        largest
    }

    /// That all steps are there, and agree with the run of one process.
    pub(super) fn is_that_of_one_process(&self, what: &str) {
        assert!(self.steps.keys().copied().eq(1..=50), "{what}: {:?}", self.steps.keys());
        agree(alone(), self, what, [OF_LOSSES, OF_NORMS]);
    }
}

/// Asserts that losses and norms differ by no more than `allowed`.
fn agree(one: &Told, other: &Told, what: &str, allowed: [f64; 2]) {
    assert_eq!(other.steps.len(), 50, "{what}");
    let [losses, norms, validations] = one.differences(other);
    // Shown by --nocapture.
    eprintln!("{what}: losses {losses:.1e}, norms {norms:.1e}, validations {validations:.1e}");
    assert!(losses <= allowed[0], "{what}: losses differ by {losses:e}");
    assert!(norms <= allowed[1], "{what}: norms differ by {norms:e}");
    assert!(validations <= allowed[0], "{what}: validation losses differ by {validations:e}");
    assert!(other.validations.keys().eq([0, 25, 50].iter()), "{what}: {:?}", other.validations.keys());
}

/// One process, with all rows at once.
fn of_one(set: &[&str]) -> Told {
    let folder = folder();
    train(&folder, 0, &[&["batch.micro_sequences=24"], set].concat(), &[]);
    Told::read(&folder, "out")
}

/// The run of one process that others are compared with, made once.
pub(super) fn alone() -> &'static Told {
    static ALONE: OnceLock<Told> = OnceLock::new();
    ALONE.get_or_init(|| of_one(&[]))
}

fn untied() -> &'static Told {
    static UNTIED: OnceLock<Told> = OnceLock::new();
    UNTIED.get_or_init(|| of_one(&["model.config=untied.json"]))
}

/// How ranks share, in words that `--set` takes.
fn sharing(mode: &str, shards: Option<usize>) -> Vec<String> {
    let shards = shards.map(|ranks| format!("distributed.shard_ranks={ranks}"));
    std::iter::once(format!("distributed.mode={mode}")).chain(shards).collect()
}

/// Trains on so many ranks, and compares.
fn compare(one: &Told, world: usize, mode: &str, shards: Option<usize>, set: &[&str], allowed: [f64; 2]) -> Told {
    let folder = folder();
    let sharing = sharing(mode, shards);
    let set: Vec<_> = sharing.iter().map(String::as_str).chain(set.iter().copied()).collect();
    train(&folder, world, &set, &[]);
    let told = Told::read(&folder, "out");
    agree(one, &told, &format!("{world} ranks, {set:?}"), allowed);
    told
}

/// What losses and norms may differ by. In bf16 they were measured to by 1.6e-4 and 9.1e-4, summed in it by 3.7e-6 and 5.0e-4.
const FP32: [f64; 2] = [OF_LOSSES, OF_NORMS];
const IN_BF16: [f64; 2] = [5e-4, 3e-3];
const REDUCED_IN_BF16: [f64; 2] = [1e-5, 2e-3];

#[test]
fn two_ranks_train_as_one_process_in_every_mode_in_micro_batches_or_not() {
    for mode in ["ddp", "zero1", "fsdp"] {
        for micro in ["batch.micro_sequences=12", "batch.micro_sequences=3"] {
            compare(alone(), 2, mode, None, &[micro], FP32);
        }
    }
}

#[test]
fn four_ranks_train_as_one_process_in_every_mode_in_micro_batches_or_not() {
    for mode in ["ddp", "zero1", "fsdp"] {
        for micro in ["batch.micro_sequences=6", "batch.micro_sequences=2"] {
            compare(alone(), 4, mode, None, &[micro], FP32);
        }
    }
}

#[test]
fn two_copies_of_two_shards_train_as_one_process() {
    for mode in ["zero1", "fsdp"] {
        for micro in ["batch.micro_sequences=6", "batch.micro_sequences=2"] {
            compare(alone(), 4, mode, Some(2), &[micro], FP32);
        }
    }
}

#[test]
fn with_a_head_of_its_own_a_model_trains_as_in_one_process() {
    for (mode, world, shards) in [("ddp", 2, None), ("zero1", 2, None), ("fsdp", 2, None), ("fsdp", 4, Some(2))] {
        compare(untied(), world, mode, shards, &["model.config=untied.json", "batch.micro_sequences=3"], FP32);
    }
    assert!(alone().differences(untied())[0] > 1e-3, "the two models are not the same");
}

#[test]
fn what_is_computed_again_in_fsdp_trains_as_in_one_process() {
    for again in ["full", "selective"] {
        let again = format!("model.activation_checkpointing={again}");
        compare(alone(), 2, "fsdp", None, &[&again, "batch.micro_sequences=6"], FP32);
    }
}

#[test]
fn in_bf16_ranks_train_as_one_process_within_its_rounding() {
    let bf16 = ["device.precision=bf16"];
    let one = of_one(&bf16);
    for mode in ["ddp", "zero1", "fsdp"] {
        compare(&one, 2, mode, None, &bf16, IN_BF16);
    }
}

#[test]
fn gradients_that_are_summed_in_bf16_train_as_in_fp32_within_its_rounding() {
    for (mode, world) in [("ddp", 2), ("zero1", 4), ("fsdp", 4)] {
        let told = compare(alone(), world, mode, None, &["distributed.reduce=bf16"], REDUCED_IN_BF16);
        assert!(alone().differences(&told)[1] > OF_NORMS, "{mode}: summed in fp32");
    }
}

#[test]
fn ranks_started_by_srun_train_as_one_process() {
    let (folder, world, job_id) = (folder(), 2, free_port() % 10_000);
    let mut job = Job::new("train", world);
    for rank in 0..world {
        let numbers = [("SLURM_PROCID", rank), ("SLURM_STEP_NUM_TASKS", world), ("SLURM_LOCALID", rank)];
        let mut variables: Vec<_> = numbers.map(|(name, number)| (name, number.to_string())).into();
        variables.push(("SLURM_STEP_NODELIST", "gpu[07]".to_owned()));
        variables.push(("SLURM_JOB_ID", job_id.to_string()));
        job.start(within(&folder, &line(&["distributed.mode=zero1"], &[])), &variables);
    }
    all_succeed(&job.end().0);
    Told::read(&folder, "out").is_that_of_one_process("srun");
}
