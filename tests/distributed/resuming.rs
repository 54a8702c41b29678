//! The whole trainer goes on from a checkpoint of any number of ranks in any mode, on any number of ranks in any mode.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use hephaestus::checkpoint::{MODEL, find, load};
use hephaestus::hf::dtype::Dtype;
use hephaestus::hf::import::Weights;
use hephaestus::hf::{self, names};
use hephaestus::optim::slice::Slice;
use tch::{Device, Kind, Tensor};

use super::training::{OF_LOSSES, Told, alone, end, folder, train};
use super::*;

const MODES: [&str; 3] = ["ddp", "zero1", "fsdp"];
const WORLDS: usize = 4;

/// How many ranks in which mode.
type Ranks = (&'static str, usize);

/// Each mode on each number of ranks once; and each mode goes on from each.
const CYCLE: [Ranks; 12] = [
    ("ddp", 1),
    ("ddp", 3),
    ("zero1", 2),
    ("zero1", 4),
    ("fsdp", 3),
    ("fsdp", 1),
    ("ddp", 4),
    ("fsdp", 2),
    ("zero1", 1),
    ("ddp", 2),
    ("zero1", 3),
    ("fsdp", 4),
];

/// Every element of a checkpoint's weights, moments and masters, by name.
fn elements(checkpoint: &Path) -> BTreeMap<String, Vec<u32>> {
    let model = checkpoint.join(MODEL);
    let config = hf::config::read(&model).unwrap();
    let weights = Weights::open(&model, &config).unwrap();
    let mut states = vec!["exp_avg", "exp_avg_sq"];
    if hf::config::stored_dtype(&model).unwrap() != Some(Dtype::Fp32) {
        states.push("master");
    }
    let empty = |shape: &[i64]| Tensor::full(shape, f64::NAN, (Kind::Float, Device::Cpu));
    let mut all = vec![Slice::whole("step".to_owned(), empty(&[]))];
    for spec in names::parameters(&config) {
        let slice = |state| Slice::whole(format!("{}.{state}", spec.name), empty(&spec.shape));
        all.extend(states.iter().map(slice));
    }
    load::slices(load::files(checkpoint).unwrap(), &all).unwrap();
    all.extend(names::parameters(&config).into_iter().map(|spec| {
        let weight = weights.tensor(&spec.name).unwrap();
        Slice::whole(spec.name, weight)
    }));
    let bits = |tensor: &Tensor| {
        let values = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).reshape([-1])).unwrap();
        values.into_iter().map(f32::to_bits).collect()
    };
    all.iter().map(|slice| (slice.name.clone(), bits(&slice.tensor))).collect()
}

/// Asserts that two checkpoints hold the same weights and the same state of the optimizer.
fn assert_same(one: &Path, other: &Path, what: &str) {
    let (one, other) = (elements(one), elements(other));
    assert!(one.keys().eq(other.keys()), "{what}");
    for (name, expected) in one {
        assert!(expected == other[&name], "{what}: {name} differs");
    }
}

/// What ranks have right after they have read a checkpoint, written again: as another run that begins with it, since a run
/// that stops where it goes on writes nothing. Both read it alike.
fn written_again(folder: &TempDir, (mode, world): Ranks, from: &Path, output: &str, set: &[&str]) -> PathBuf {
    let from = format!("model={{from: {}, keep_optimizer: true, activation_checkpointing: none}}", from.display());
    let (mode, run) = (format!("distributed.mode={mode}"), format!("run.output={output}"));
    let own = [&from, &mode, &run, "validation.at_start=false"];
    train(folder, world, &[&own, set].concat(), &["--stop-at", "0"]);
    find::folder(&folder.path().join(output), 0)
}

/// Goes on to `step`; returns its checkpoint.
fn go_on(folder: &TempDir, (mode, world): Ranks, output: &str, step: u64, arguments: &[&str]) -> PathBuf {
    let (mode, run) = (format!("distributed.mode={mode}"), format!("run.output={output}"));
    let step_text = step.to_string();
    train(folder, world, &[&mode, &run], &[arguments, &["--stop-at", &step_text]].concat());
    find::folder(&folder.path().join(output), step)
}

#[test]
fn each_mode_goes_on_from_each_on_more_and_fewer_ranks_as_if_nothing_had_been() {
    let follow = |(one, other): (&Ranks, &Ranks)| (one.0, other.0);
    let mut pairs: Vec<_> = CYCLE.iter().zip(CYCLE.iter().cycle().skip(1)).map(follow).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert_eq!(pairs.len(), MODES.len().pow(2));

    let folder = folder();
    let mut step = 2;
    let mut newest = go_on(&folder, ("auto", 0), "out", step, &[]);
    for (at, ranks) in CYCLE.into_iter().chain([CYCLE[0]]).enumerate() {
        let again = written_again(&folder, ranks, &newest, &format!("again-{at}"), &[]);
        assert_same(&newest, &again, &format!("{ranks:?} at step {step}"));
        step = if at == CYCLE.len() { 50 } else { step + 3 };
        newest = go_on(&folder, ranks, "out", step, &[]);
        assert!(elements(&newest) != elements(&again), "{ranks:?}: nothing is learned");
        assert!(newest.join("manifest.json").is_file(), "{ranks:?}");
    }
    Told::read(&folder, "out").is_that_of_one_process("a run on ranks that change");
    // Counts and places in the data, too.
    let state = |output: &str| fs_err::read_to_string(folder.path().join(output).join("step-50/state.json")).unwrap();
    train(&folder, 0, &["run.output=alone", "batch.micro_sequences=24"], &[]);
    assert_eq!(state("out"), state("alone"));
}

#[test]
fn masters_and_narrow_moments_go_through_all_modes_and_numbers_of_ranks_without_losing_a_bit() {
    let folder = folder();
    let narrow = ["device.precision=bf16", "optimizer.moments=bf16"];
    train(&folder, 2, &narrow, &["--stop-at", "3"]);
    let first = folder.path().join("out/step-3");
    let mut last = first.clone();
    for (at, ranks) in CYCLE.into_iter().enumerate() {
        last = written_again(&folder, ranks, &last, &format!("again-{at}"), &narrow);
        assert_same(&first, &last, &format!("{ranks:?}"));
    }
}

#[test]
fn a_run_that_goes_on_in_another_precision_keeps_every_bit_of_its_masters() {
    let folder = folder();
    let [bf16, fp32] = ["device.precision=bf16", "device.precision=fp32"];
    train(&folder, 2, &[bf16], &["--stop-at", "3"]);
    let first = folder.path().join("out/step-3");
    let mut masters = elements(&first);
    let weights: Vec<_> = masters.keys().filter_map(|name| name.strip_suffix(".master")).map(str::to_owned).collect();
    for name in &weights {
        let master = masters.remove(&format!("{name}.master")).unwrap();
        let rounded = masters.insert(name.clone(), master.clone()).unwrap();
        assert!(rounded != master || name.contains("norm"), "{name} is not rounded");
    }
    for (at, ranks) in [("ddp", 1), ("zero1", 3), ("fsdp", 2)].into_iter().enumerate() {
        let wide = written_again(&folder, ranks, &first, &format!("wide-{at}"), &[fp32]);
        assert!(elements(&wide) == masters, "{ranks:?} in fp32");
        let back = written_again(&folder, ranks, &wide, &format!("back-{at}"), &[bf16]);
        assert_same(&first, &back, &format!("{ranks:?} in bf16 again"));
    }
    // And by --resume, from each other.
    for (set, step) in [(fp32, "4"), (bf16, "5")] {
        train(&folder, 2, &[set], &["--stop-at", step]);
    }
}

#[test]
fn ranks_go_back_once_and_then_on() {
    let folder = folder();
    let often = ["checkpoint.every=2"];
    train(&folder, 2, &often, &["--stop-at", "6"]);
    let back = |world: usize, step: &str, from: &str| {
        let ended = end(&folder, world, &often, &["--resume", "out/step-2", "--stop-at", step]);
        all_succeed(&ended);
        assert!(ended[0].text.contains(&format!("going on from out/step-{from}")), "{}", ended[0].text);
    };
    back(2, "4", "2");
    back(3, "5", "4");
    let all = find::all(&folder.path().join("out")).unwrap();
    assert_eq!(all.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4, 5]);
    assert!(["step-4.left", "step-6.left"].iter().all(|name| folder.path().join("out").join(name).is_dir()));
}

/// The whole table; `benches/resume-matrix.sh` shows it.
#[test]
#[ignore = "takes minutes: benches/resume-matrix.sh runs it"]
fn every_mode_and_number_of_ranks_goes_on_from_every() {
    let folder = folder();
    let all: Vec<_> = MODES.into_iter().flat_map(|mode| (1..=WORLDS).map(move |world| (mode, world))).collect();
    let name = |(mode, world): Ranks| format!("{mode}-{world}");
    let begun = go_on(&folder, ("auto", 0), "begun", 5, &[]).display().to_string();
    let mut table = format!("{:>8}", "from\\to");
    all.iter().for_each(|to| write!(table, " {:>8}", name(*to)).unwrap());
    let mut bad = Vec::new();
    for from in &all {
        let saved = go_on(&folder, *from, &name(*from), 10, &["--resume", &begun]);
        write!(table, "\n{:>8}", name(*from)).unwrap();
        for to in &all {
            let output = format!("{}-{}", name(*from), name(*to));
            let again = written_again(&folder, *to, &saved, &format!("again-{output}"), &[]);
            let same = elements(&saved) == elements(&again);
            go_on(&folder, *to, &output, 20, &["--resume", &saved.display().to_string()]);
            let [losses, norms, _] = alone().differences(&Told::read(&folder, &output));
            write!(table, " {:>8}", if same { format!("{losses:.1e}") } else { "differs".to_owned() }).unwrap();
            if !same || losses > OF_LOSSES {
                bad.push(format!("{output}: losses {losses:.1e}, norms {norms:.1e}"));
            }
            for name in [&output, &format!("again-{output}")] {
                fs_err::remove_dir_all(folder.path().join(name)).unwrap();
            }
        }
        eprintln!("{}", table.lines().last().unwrap());
    }
    eprintln!("{table}");
    assert!(bad.is_empty(), "{bad:#?}");
}
