//! Weights out of and back into Hugging Face folders.

use std::path::Path;
use std::process::Command;

use hephaestus::hf::companions::{Carried, Sources};
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
    hf::export::save(to, &from.0, &tensors, kind, &Carried::default(), shard)
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
    let error = hf::export::save(&other, &model.0, &tensors, Kind::Float, &Carried::default(), DEFAULT_SHARD)
        .unwrap_err()
        .to_string();
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
    assert!(
        said.contains("parameters in bfloat16, every one that of ") && said.contains("(float32) rounded\n"),
        "{said}"
    );
    // Rounding costs something, and the comparison is with what was there before it.
    let cost = said.split_once("over 128 tokens: logits differ by ").unwrap().1.split(' ').next().unwrap();
    let cost: f64 = cost.parse().unwrap();
    assert!((1e-4..0.5).contains(&cost), "{said}");
    assert_eq!(hf::config::stored_dtype(&to).unwrap(), Some(hf::dtype::Dtype::Bf16));
    let run = command().arg(out.path().join("absent")).arg(out.path().join("b")).assert().failure().code(1);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.starts_with("error: ") && said.contains("absent: expected a Hugging Face folder"), "{said}");
}

#[test]
fn weights_that_an_element_type_cannot_hold_are_named_and_leave_no_folder() {
    let out = tempfile::tempdir().unwrap();
    let (config, model) = read(&folder().join(FAMILIES[0]), Kind::Float);
    let source = out.path().join("source");
    let name = "model.layers.1.mlp.up_proj.weight";
    let spoil = |model: &Parameters, value: f64| {
        let at = model.iter().position(|(own, _)| own == name).unwrap();
        tch::no_grad(|| drop(model.tensors()[at].get(3).get(3).fill_(value)));
    };
    for (value, dtype, why) in [
        (7e4, "fp16", "in fp16; the source's largest is 7e4: use bf16 or fp32"),
        (f64::NAN, "bf16", "in bf16; 1 are so in the source"),
    ] {
        let _ = fs_err::remove_dir_all(&source);
        spoil(&model, value);
        let tensors: Vec<_> = model.iter().collect();
        hf::export::save(&source, &config, &tensors, Kind::Float, &Carried::default(), SMALL_SHARD).unwrap();
        let mut export = assert_cmd::Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-export")));
        let run = export.arg(&source).arg(out.path().join("to")).args(["--dtype", dtype]).assert().failure().code(1);
        let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
        assert!(said.contains(&format!("{name}: 1 of 1792 values are infinite or not a number {why}")), "{said}");
        let left: Vec<_> = fs_err::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["source"]);
    }
    // As at the start of a run.
    let weights = hf::import::Weights::open(&source, &config).unwrap();
    let whole = weights.tensor(name).unwrap();
    let error = weights.fill_finite(name, 0, &whole).unwrap_err().to_string();
    let file = error.split_once(": ").unwrap().0;
    assert!(Path::new(file).is_file(), "{error}");
    assert!(error.contains(&format!("{name}: 1 of 1792 values are infinite or not a number")), "{error}");
    weights.fill_finite("model.norm.weight", 0, &weights.tensor("model.norm.weight").unwrap()).unwrap();
}

#[test]
fn what_lies_beside_a_model_and_keys_that_change_nothing_go_with_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let out = tempfile::tempdir().unwrap();
    let (base, tokenizer) = (out.path().join("base"), out.path().join("tokenizer"));
    let (config, parameters) = read(&folder().join(FAMILIES[0]), Kind::Float);
    let tensors: Vec<_> = parameters.iter().collect();
    let save = |to: &Path, sources: &Sources<'_>| {
        hf::export::save(to, &config, &tensors, Kind::Float, &sources.read().unwrap(), DEFAULT_SHARD).unwrap();
        let mut found = Vec::new();
        for (inside, at) in [("", to.to_owned()), ("additional_chat_templates/", to.join("additional_chat_templates"))]
        {
            let entries = fs_err::read_dir(at).into_iter().flatten().map(Result::unwrap);
            let files = entries.filter(|entry| entry.path().is_file());
            found.extend(files.map(|entry| format!("{inside}{}", entry.file_name().display())));
        }
        found.sort();
        found
    };
    save(&base, &Sources::default());
    fs_err::create_dir_all(base.join("additional_chat_templates")).unwrap();
    for (name, text) in [
        ("generation_config.json", r#"{"eos_token_id": [2, 7, 9], "temperature": 0.6}"#),
        ("tekken.json", "{}"),
        ("tokenizer.json", "{}"),
        ("tokenizer.model.v3", "v3"),
        ("additional_chat_templates/tool_use.jinja", "tools"),
        ("LICENSE", "licence"),
        ("README.md", "card"),
        ("pytorch_model.bin", "weights"),
        ("consolidated.00.pth", "weights"),
        ("model.gguf", "weights"),
        (".gitattributes", "hidden"),
    ] {
        fs_err::write(base.join(name), text).unwrap();
    }
    for inner in ["checkpoint-500", ".cache", "onnx"] {
        fs_err::create_dir_all(base.join(inner)).unwrap();
        fs_err::write(base.join(inner).join(if inner == "onnx" { "model.onnx" } else { "config.json" }), "{}").unwrap();
    }
    fs_err::File::create(base.join("huge.txt")).unwrap().set_len(200_000_000).unwrap();
    fs_err::set_permissions(base.join("LICENSE"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut written: serde_json::Value =
        serde_json::from_slice(&fs_err::read(base.join("config.json")).unwrap()).unwrap();
    let kept = serde_json::json!({
        "pad_token_id": 2, "unk_token_id": 0, "transformers_version": "4.40.0", "id2label": {"0": "a"}, "use_cache": false,
        "task_specific_params": {"x": 1},
    });
    for (key, value) in kept.as_object().unwrap() {
        written[key] = value.clone();
    }
    fs_err::write(base.join("config.json"), written.to_string()).unwrap();

    let sources = Sources { model: Some(&base), tokenizer: None };
    let all = [
        "LICENSE",
        "README.md",
        "additional_chat_templates/tool_use.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tekken.json",
        "tokenizer.json",
        "tokenizer.model.v3",
    ];
    assert_eq!(save(&out.path().join("one"), &sources), all);
    let left_out = sources.companions().unwrap().left_out;
    let expected = ["checkpoint-500/: a model or run of its own", "huge.txt: 200 MB, where at most 100 MB are carried"];
    assert_eq!(left_out, expected);
    let again: serde_json::Value =
        serde_json::from_slice(&fs_err::read(out.path().join("one/config.json")).unwrap()).unwrap();
    assert_eq!(again, written);
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    fs_err::write(out.path().join("plain"), "").unwrap();
    for name in all {
        assert_eq!(mode(&out.path().join("one").join(name)), mode(&out.path().join("plain")), "{name}");
    }

    fs_err::create_dir(&tokenizer).unwrap();
    for name in ["tokenizer.json", "merges.txt", "generation_config.json", "LICENSE"] {
        fs_err::write(tokenizer.join(name), "other").unwrap();
    }
    let both = Sources { model: Some(&base), tokenizer: Some(&tokenizer) };
    let expected = [
        "LICENSE",
        "README.md",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
    ];
    assert_eq!(save(&out.path().join("two"), &both), expected);
    let text = |name: &str| fs_err::read_to_string(out.path().join("two").join(name)).unwrap();
    assert_eq!((text("tokenizer.json").as_str(), text("LICENSE").as_str()), ("other", "licence"));
    assert!(text("generation_config.json").contains("[2, 7, 9]"));
}
