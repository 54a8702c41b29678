//! Hugging Face folders: what is refused, and that a configuration survives being written.

use std::fmt::Write as _;
use std::path::Path;

use hephaestus::hf::{self, HfError};
use hephaestus::model::config::ModelConfig;
use hephaestus::model::parameters::Parameters;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// A configuration of two heads over eight tokens, with changes.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8, "hidden_size": 4,
        "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16,
        "tie_word_embeddings": true,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn load(folder: &Path) -> Result<Parameters, HfError> {
    let config = hf::config::read(folder)?;
    hf::import::load(folder, &config, Kind::Float, Device::Cpu)
}

/// A folder with this configuration and all weights of the unchanged one, altered by `alter`.
fn folder(config: &Value, alter: impl Fn(&mut Vec<(String, Tensor)>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let sound = hf::config::parse(self::config(json!({})).as_object().unwrap().clone()).unwrap();
    let parameters = Parameters::fresh(&sound, 1, Kind::Float, Device::Cpu).unwrap();
    let mut tensors: Vec<_> = parameters.iter().map(|(name, tensor)| (name.to_owned(), tensor.detach())).collect();
    alter(&mut tensors);
    Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

#[test]
fn what_is_wrong_with_a_folder_is_said_by_name_and_all_at_once() {
    let mut said = String::new();
    let mut refused = |title: &str, folder: &Path| {
        let error = load(folder).expect_err(title).to_string();
        let error = error.replace(&folder.display().to_string(), "FOLDER");
        writeln!(said, "# {title}\n{error}\n").unwrap();
    };
    let configured = |changes: Value| folder(&config(changes), |_| {});
    let file = |folder: &tempfile::TempDir, name: &str| folder.path().join(name);

    refused("no such folder", Path::new("/nonexistent/model"));
    let broken = configured(json!({}));
    fs_err::write(file(&broken, "config.json"), "{\"model_type\": ").unwrap();
    refused("a configuration cut short", broken.path());
    refused("an unknown architecture", configured(json!({"model_type": "gpt2"})).path());
    let wrong = json!({
        "hidden_size": "four", "num_key_value_heads": 3, "hidden_act": "gelu", "attention_dropout": 0.1,
        "rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "quantization_config": {"quant_method": "gptq"},
        "logit_softcap": 30.0,
    });
    refused("settings that are not implemented", configured(wrong).path());
    refused("heads that do not divide", configured(json!({"num_key_value_heads": 3})).path());
    let empty = configured(json!({}));
    fs_err::remove_file(file(&empty, "model.safetensors")).unwrap();
    refused("no weights", empty.path());
    fs_err::write(file(&empty, "pytorch_model.bin"), "").unwrap();
    refused("pickled weights only", empty.path());
    fs_err::write(file(&empty, "model.safetensors.index.json"), r#"{"weight_map": {"a": "../a.safetensors"}}"#)
        .unwrap();
    refused("an index that leaves the folder", empty.path());
    let cut = configured(json!({}));
    let bytes = fs_err::read(file(&cut, "model.safetensors")).unwrap();
    fs_err::write(file(&cut, "model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    refused("weights cut short", cut.path());
    let misshapen = folder(&config(json!({})), |tensors| {
        drop(tensors.remove(1));
        tensors[0].1 = tensors[0].1.narrow(0, 0, 7).contiguous();
        tensors[1].1 = tensors[1].1.to_kind(Kind::Double);
        tensors.push(("model.extra".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu))));
    });
    refused("weights that do not fit", misshapen.path());
    let untied = folder(&config(json!({})), |tensors| {
        tensors.push(("lm_head.weight".to_owned(), Tensor::zeros([8, 4], (Kind::Float, Device::Cpu))));
    });
    refused("a tied head that differs", untied.path());
    insta::assert_snapshot!(said);
}

#[test]
fn a_configuration_survives_being_written_and_read() {
    let scaled = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    });
    let (mistral, qwen2, qwen3) = (["MistralForCausalLM"], ["Qwen2ForCausalLM"], ["Qwen3ForCausalLM"]);
    for changes in [
        json!({"rope_scaling": scaled, "rope_theta": 500000.0, "eos_token_id": [2, 3], "attention_bias": true}),
        json!({"model_type": "mistral", "architectures": mistral, "sliding_window": 6, "num_key_value_heads": 1}),
        json!({"model_type": "qwen2", "architectures": qwen2, "use_sliding_window": false, "sliding_window": 6}),
        json!({"model_type": "qwen3", "architectures": qwen3, "head_dim": 8, "tie_word_embeddings": false}),
    ] {
        let read = |value: Value| -> ModelConfig { hf::config::parse(value.as_object().unwrap().clone()).unwrap() };
        let first = read(config(changes));
        assert_eq!(read(hf::config::to_json(&first, hf::dtype::Dtype::Bf16).into()), first);
    }
}

#[test]
fn both_spellings_of_rotary_settings_are_written_and_read_and_must_mean_the_same() {
    let parse = |value: &Value| hf::config::parse(value.as_object().unwrap().clone());
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    });
    let linear = json!({"type": "linear", "factor": 4.0});
    for scaling in [llama3, linear.clone()] {
        let old = parse(&config(json!({"rope_scaling": scaling, "rope_theta": 5e5}))).unwrap();
        let mut written = Value::Object(hf::config::to_json(&old, hf::dtype::Dtype::Bf16));
        assert_eq!(written["rope_scaling"]["factor"], scaling["factor"]);
        assert!(written["rope_scaling"].get("rope_theta").is_none());
        assert_eq!((&written["rope_theta"], &written["rope_parameters"]["rope_theta"]), (&json!(5e5), &json!(5e5)));
        assert_eq!((&written["torch_dtype"], &written["dtype"]), (&json!("bfloat16"), &json!("bfloat16")));
        assert_eq!(parse(&written).unwrap(), old);
        written["rope_scaling"]["factor"] = json!(2.0);
        let problems = parse(&written).unwrap_err().join("\n");
        assert!(
            problems.starts_with("`rope_scaling` asks for {") && problems.ends_with("keep the right one"),
            "{problems}"
        );
        written["rope_scaling"] = Value::Null;
        assert_eq!(parse(&written).unwrap(), old);
        written["rope_theta"] = json!(1e4);
        let problems = parse(&written).unwrap_err();
        assert_eq!(problems, ["`rope_theta` is given twice, as 500000 and as 10000: keep the right one"]);
    }
    let plain = parse(&config(json!({}))).unwrap();
    assert_eq!(hf::config::to_json(&plain, hf::dtype::Dtype::Bf16).get("rope_scaling"), None);
    let problems = parse(&config(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}))).unwrap_err();
    assert_eq!(problems, ["`rope_scaling.type` is \"dynamic\": only default, linear and llama3 are implemented"]);
}

#[test]
fn keys_that_change_nothing_are_accepted_and_kept_and_others_are_refused_by_name() {
    use hf::harmless::{OTHERS, TRANSFORMERS};
    let folder = tempfile::tempdir().unwrap();
    let parse = |changes: Value| hf::config::parse(config(changes).as_object().unwrap().clone());
    let plain = parse(json!({})).unwrap();
    let read = |changes: Value| {
        assert_eq!(parse(changes.clone()).unwrap(), plain, "{changes}");
        fs_err::write(folder.path().join("config.json"), config(changes).to_string()).unwrap();
        hf::config::harmless(folder.path()).unwrap()
    };
    for key in TRANSFORMERS.into_iter().chain(OTHERS).filter(|key| *key != "activation") {
        assert_eq!(read(json!({key: [1, "two"]})), *json!({key: [1, "two"]}).as_object().unwrap());
    }
    for kept in [
        json!({"rope_interleaved": false, "pruned_heads": {}, "transformers.js_config": {"kv_cache_dtype": {}}}),
        json!({"activation": "swiglu", "_anything": 1, "mergekit_version": "0.1", "unsloth_fixed": true}),
    ] {
        assert_eq!(Value::Object(read(kept.clone())), kept);
    }
    for read_with_rules in [
        json!({"torch_dtype": "torch.bfloat16"}),
        json!({"hidden_act": "swish"}),
        json!({"rope_scaling": {"rope_type": "default"}}),
        json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "rope_scaling": {"type": "default"}}),
    ] {
        assert!(read(read_with_rules).is_empty());
    }
    let problems = parse(json!({"logit_scale": 0.5, "activation": "gelu", "pruned_heads": {"0": [1]}})).unwrap_err();
    let advice = "not implemented; if it does not change what the model computes, remove it";
    assert_eq!(
        problems,
        [
            "`activation` is \"gelu\": only \"silu\" is implemented".to_owned(),
            format!("`logit_scale` is 0.5: {advice}"),
            format!("`pruned_heads` is {{\"0\":[1]}}: {advice}"),
        ]
    );
}

#[test]
fn fresh_parameters_follow_their_seed() {
    let config = hf::config::parse(config(json!({})).as_object().unwrap().clone()).unwrap();
    let draw = |seed| Parameters::fresh(&config, seed, Kind::Float, Device::Cpu).unwrap();
    let (one, same, other) = (draw(1), draw(1), draw(2));
    assert_eq!(one.tensors()[0], same.tensors()[0]);
    assert_ne!(one.tensors()[0], other.tensors()[0]);
    assert_eq!(one.total(), one.tensors().iter().map(Tensor::numel).sum::<usize>() as u64);
}
