//! Weights out of and back into Hugging Face folders.

use std::path::Path;
use std::process::Command;

use hephaestus::hf::export::DEFAULT_SHARD;
use hephaestus::hf::{self, HfError};
use hephaestus::model::config::ModelConfig;
use hephaestus::model::parameters::Parameters;
use tch::{Device, Kind, Tensor};

use crate::parity::{FAMILIES, folder};

/// Few enough bytes that every tiny model takes several files.
const SMALL_SHARD: u64 = 10_000;

fn read(folder: &Path, kind: Kind) -> (ModelConfig, Parameters) {
    let config = hf::config::read(folder).unwrap();
    let parameters = hf::import::load(folder, &config, kind, Device::Cpu).unwrap();
    (config, parameters)
}

fn save(to: &Path, from: &(ModelConfig, Parameters), kind: Kind, shard: u64) -> Result<(), HfError> {
    let tensors: Vec<_> = from.1.iter().collect();
    hf::export::save(to, &from.0, &tensors, kind, None, shard)
}

fn same_bits(a: &Parameters, b: &Parameters) -> bool {
    a.iter().zip(b.iter()).all(|((name, a), (other, b))| name == other && a.kind() == b.kind() && a == b)
}

#[test]
fn transformers_loads_an_export_with_every_key_and_the_same_logits() {
    let out = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for (at, name) in FAMILIES.into_iter().enumerate() {
        let (original, exported) = (folder().join(name), out.path().join(name));
        let shard = if at % 2 == 0 { SMALL_SHARD } else { DEFAULT_SHARD };
        save(&exported, &read(&original, Kind::Float), Kind::Float, shard).unwrap();
        let sharded = exported.join("model.safetensors.index.json").is_file();
        assert_eq!(sharded, at % 2 == 0);
        pairs.extend([original, exported]);
    }
    let run = Command::new(crate::python()).arg(crate::root().join("tests/parity/loads.py")).args(pairs).output();
    let run = run.expect("`make setup` installs the Python in .venv");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_round_trip_keeps_every_bit_in_every_element_type() {
    let out = tempfile::tempdir().unwrap();
    for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
        for name in FAMILIES {
            let first = read(&folder().join(name), kind);
            let exported = out.path().join(format!("{name}-{kind:?}"));
            save(&exported, &first, kind, SMALL_SHARD).unwrap();
            let second = read(&exported, kind);
            assert_eq!(first.0, second.0, "{name}");
            assert!(same_bits(&first.1, &second.1), "{name} as {kind:?}");
        }
    }
}

#[test]
fn any_part_of_a_parameter_is_read_into_any_part_of_a_tensor() {
    let out = tempfile::tempdir().unwrap();
    let model = read(&folder().join(FAMILIES[0]), Kind::Float);
    save(&out.path().join("model"), &model, Kind::BFloat16, SMALL_SHARD).unwrap();
    let weights = hf::import::Weights::open(&out.path().join("model"), &model.0).unwrap();
    for (name, weight) in model.1.iter() {
        let stored = weight.detach().to_kind(Kind::BFloat16);
        let read = weights.tensor(name).unwrap();
        assert!(read.kind() == Kind::BFloat16 && read == stored, "{name}");
        let elements = weight.numel() as i64;
        let (from, count) = (elements / 3, elements / 2);
        let buffer = Tensor::full([count + 2], -7.0, (Kind::Float, Device::Cpu));
        weights.fill(name, from, &buffer.narrow(0, 1, count)).unwrap();
        let part = stored.reshape([-1]).narrow(0, from, count).to_kind(Kind::Float);
        let edge = Tensor::from_slice(&[-7_f32]);
        assert_eq!(buffer, Tensor::cat(&[&edge, &part, &edge], 0), "{name}");
        let error = weights.fill(name, from, &Tensor::zeros([elements], (Kind::Float, Device::Cpu))).unwrap_err();
        let expected = format!("{name}: elements {elements}..{} are missing", from + elements);
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
    assert!(weights.tensor("lm_head.bias").unwrap_err().to_string().contains("lm_head.bias [] is missing"));
}

#[test]
fn an_export_replaces_nothing_and_a_failed_one_leaves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let model = read(&folder().join(FAMILIES[0]), Kind::Float);
    let to = out.path().join("model");
    save(&to, &model, Kind::Float, DEFAULT_SHARD).unwrap();
    let error = save(&to, &model, Kind::Float, DEFAULT_SHARD).unwrap_err().to_string();
    assert!(error.ends_with("model: already there and not empty: name another folder or remove it"), "{error}");

    let mut tensors: Vec<_> = model.1.iter().collect();
    tensors.pop();
    let wrong = Tensor::zeros([3], (Kind::Float, Device::Cpu));
    tensors[1].1 = &wrong;
    tensors.push(("extra", &wrong));
    let other = out.path().join("other");
    let error = hf::export::save(&other, &model.0, &tensors, Kind::Float, None, DEFAULT_SHARD).unwrap_err().to_string();
    for said in ["3 problems", "lm_head.weight [96, 32] is missing", "has shape [3]: expected [32]", "extra is not"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    let left: Vec<_> = fs_err::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["model"]);
}

#[test]
fn the_command_converts_a_folder_and_says_that_its_logits_agree() {
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("bf16");
    let command = || assert_cmd::Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-export")));
    let run = command().arg(folder().join("qwen3_qk_norm")).arg(&to).args(["--dtype", "bf16"]).assert().success();
    let said = String::from_utf8_lossy(&run.get_output().stdout).into_owned();
    assert!(said.contains("in bfloat16; over 64 tokens its logits are those of"), "{said}");
    assert_eq!(hf::config::stored_dtype(&to).unwrap(), Some(hf::dtype::Dtype::Bf16));
    let run = command().arg(out.path().join("absent")).arg(out.path().join("b")).assert().failure().code(1);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.starts_with("error: ") && said.contains("absent: expected a Hugging Face folder"), "{said}");
}
