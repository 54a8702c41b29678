//! `config.json`: read into a [`ModelConfig`], and written so that transformers loads it.
//!
//! Whatever a configuration asks for that the decoder does not do is refused by name: a setting ignored is a model
//! that trains and quietly differs. Missing keys take the family's defaults in transformers, sizes must be given.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::dtype::Dtype;
use super::error::HfError;
use super::fields::Fields;
use super::harmless::is_harmless;
use super::mapped::{LFS, is_lfs_pointer};
use super::rope::{self, MAX_POSITIONS};
use crate::model::config::{Family, ModelConfig};

/// Largest width, vocabulary or MLP accepted; products of two of them fit `i64` with room to spare.
const MAX_SIZE: usize = 1 << 24;
/// Most layers or heads accepted.
const MAX_COUNT: usize = 1 << 12;
/// Largest `config.json` read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Reads the configuration of a Hugging Face folder, or a `config.json` named itself.
///
/// # Errors
/// [`HfError::Io`] where the file cannot be read, [`HfError::Json`] where it is no JSON object, and
/// [`HfError::Config`] with every missing, impossible or unimplemented setting at once.
pub fn read(folder: &Path) -> Result<ModelConfig, HfError> {
    Ok(read_parts(folder)?.0)
}

/// The keys of a folder's `config.json`, or of one named itself, that change nothing about training, as they are.
///
/// # Errors
/// As [`read`].
pub fn harmless(folder: &Path) -> Result<Map<String, Value>, HfError> {
    Ok(read_parts(folder)?.1)
}

fn read_parts(folder: &Path) -> Result<(ModelConfig, Map<String, Value>), HfError> {
    let (path, object) = read_object(folder)?;
    parts(object).map_err(|problems| HfError::Config { path, problems })
}

/// The element type a folder's `config.json` says its weights have, if it says one this trainer knows.
///
/// # Errors
/// [`HfError::Io`] or [`HfError::Json`] where the file cannot be read.
pub fn stored_dtype(folder: &Path) -> Result<Option<Dtype>, HfError> {
    let (_, object) = read_object(folder)?;
    let named = object.get("dtype").or_else(|| object.get("torch_dtype")).and_then(Value::as_str);
    Ok(named.and_then(dtype_named))
}

/// The element type of a name, which some programs write as Python shows it.
fn dtype_named(name: &str) -> Option<Dtype> {
    name.strip_prefix("torch.").unwrap_or(name).parse().ok()
}

fn read_object(folder: &Path) -> Result<(std::path::PathBuf, Map<String, Value>), HfError> {
    let path = if folder.is_file() { folder.to_owned() } else { folder.join("config.json") };
    let size = fs_err::metadata(&path)?.len();
    if size > MAX_FILE {
        let reason = format!("{size} bytes, where a configuration has at most {MAX_FILE}");
        return Err(HfError::Json { path, reason });
    }
    let text = fs_err::read(&path)?;
    match serde_json::from_slice(&text) {
        Ok(object) => Ok((path, object)),
        Err(_) if is_lfs_pointer(&text) => Err(HfError::Json { path, reason: LFS.to_owned() }),
        Err(error) => Err(HfError::Json { path, reason: error.to_string() }),
    }
}

/// Reads a configuration from its JSON object.
///
/// # Errors
/// One line for every setting that is missing, impossible or not implemented.
pub fn parse(object: Map<String, Value>) -> Result<ModelConfig, Vec<String>> {
    Ok(parts(object)?.0)
}

/// The configuration, and the keys that change nothing.
fn parts(object: Map<String, Value>) -> Result<(ModelConfig, Map<String, Value>), Vec<String>> {
    let mut fields = Fields::new(object, "");
    let Some(family) = family(&mut fields) else { return Err(fields.problems) };
    let config = shape(&mut fields, family);
    refuse_unimplemented(&mut fields);
    let rest = fields.refuse_rest(is_harmless);
    if fields.problems.is_empty() {
        check(&config, &mut fields);
    }
    if fields.problems.is_empty() { Ok((config, rest)) } else { Err(fields.problems) }
}

fn family(fields: &mut Fields) -> Option<Family> {
    let model_type = fields.take("model_type");
    let architectures = fields.take("architectures");
    let known = match model_type.as_ref().and_then(Value::as_str) {
        Some("llama") => (Family::Llama, "LlamaForCausalLM"),
        Some("mistral") => (Family::Mistral, "MistralForCausalLM"),
        Some("qwen2") => (Family::Qwen2, "Qwen2ForCausalLM"),
        Some("qwen3") => (Family::Qwen3, "Qwen3ForCausalLM"),
        _ => {
            let found = model_type.map_or("missing".to_owned(), |value| format!("{value}"));
            fields.complain("model_type", format_args!("is {found}: llama, mistral, qwen2 and qwen3 are implemented"));
            return None;
        }
    };
    if let Some(value) = architectures
        && value != json!([known.1])
    {
        fields.complain("architectures", format_args!("is {value}: only [\"{}\"] is implemented", known.1));
        return None;
    }
    Some(known.0)
}

fn shape(fields: &mut Fields, family: Family) -> ModelConfig {
    let hidden_size = fields.size("hidden_size", MAX_SIZE);
    let heads = fields.size("num_attention_heads", MAX_COUNT);
    let layers = fields.size("num_hidden_layers", MAX_COUNT);
    // Absent and null differ: absent takes the class default, null means one key head a query head.
    let kv_default = match family {
        Family::Mistral if !fields.has("num_key_value_heads") => 8,
        _ => heads,
    };
    let head_default = match family {
        Family::Qwen3 if !fields.has("head_dim") => 128,
        _ => hidden_size / heads.max(1),
    };
    let head_dim = fields.size_or("head_dim", head_default.max(1), MAX_COUNT);
    let attention_bias = match family {
        Family::Llama | Family::Qwen3 => fields.flag_or("attention_bias", false),
        Family::Mistral | Family::Qwen2 => false,
    };
    let default_window = (family == Family::Mistral && !fields.has("sliding_window")).then_some(4096);
    let sliding_window = window(fields, family, layers).or(default_window);
    let (bos_token_id, eos_token_ids) = special_tokens(fields, family);
    let (rope_theta, rope_scaling) = rope::read(fields);
    ModelConfig {
        family,
        vocab_size: fields.size("vocab_size", MAX_SIZE),
        hidden_size,
        intermediate_size: fields.size("intermediate_size", MAX_SIZE),
        layers,
        heads,
        kv_heads: fields.size_or("num_key_value_heads", kv_default, MAX_COUNT),
        head_dim,
        max_positions: fields.size("max_position_embeddings", MAX_POSITIONS),
        rope_theta,
        rope_scaling,
        norm_eps: fields.number_or("rms_norm_eps", 1e-6, 0.0),
        tied_embeddings: fields.flag_or("tie_word_embeddings", false),
        qkv_bias: attention_bias || family == Family::Qwen2,
        output_bias: attention_bias,
        mlp_bias: family == Family::Llama && fields.flag_or("mlp_bias", false),
        qk_norm: family == Family::Qwen3,
        sliding_window,
        initializer_range: fields.number_or("initializer_range", 0.02, 0.0),
        bos_token_id,
        eos_token_ids,
    }
}

/// The window every layer has. Qwen keeps a window's size in the file even where `use_sliding_window` turns it off.
fn window(fields: &mut Fields, family: Family, layers: usize) -> Option<usize> {
    if family == Family::Llama {
        return None;
    }
    let size = fields.has("sliding_window").then(|| fields.size_or("sliding_window", 0, MAX_POSITIONS));
    let size = size.filter(|size| *size > 0);
    if family == Family::Mistral {
        return size;
    }
    let used = fields.flag_or("use_sliding_window", false);
    let first = fields.take("max_window_layers").map(|value| value.as_u64().map_or(usize::MAX, |first| first as usize));
    let types = fields.take("layer_types");
    if !used || size.is_none() {
        if let Some(types) = types
            && !is_all(&types, "full_attention", layers)
        {
            fields.complain("layer_types", "holds layers other than full_attention while no sliding window is used");
        }
        return None;
    }
    let sliding = match types {
        Some(types) if is_all(&types, "sliding_attention", layers) => Some(true),
        Some(types) if is_all(&types, "full_attention", layers) => Some(false),
        Some(_) => None,
        None => match first.unwrap_or(28) {
            0 => Some(true),
            first if first >= layers => Some(false),
            _ => None,
        },
    };
    if sliding.is_none() {
        fields.complain(
            "use_sliding_window",
            "gives only some layers a sliding window (`layer_types`, `max_window_layers`): only all or none is implemented",
        );
    }
    size.filter(|_| sliding == Some(true))
}

fn is_all(types: &Value, kind: &str, layers: usize) -> bool {
    types.as_array().is_some_and(|types| types.len() == layers && types.iter().all(|found| found == kind))
}

fn special_tokens(fields: &mut Fields, family: Family) -> (Option<u32>, Vec<u32>) {
    let llama = matches!(family, Family::Llama | Family::Mistral);
    let default = |fields: &Fields, key: &str, id: u32| (llama && !fields.has(key)).then(|| json!(id));
    let bos_default = default(fields, "bos_token_id", 1);
    let eos_default = default(fields, "eos_token_id", 2);
    let bos = fields.take("bos_token_id").or(bos_default);
    let eos = fields.take("eos_token_id").or(eos_default);
    let bos_token_id = bos.and_then(|value| token(fields, "bos_token_id", &value));
    let eos_token_ids = match eos {
        None => Vec::new(),
        Some(Value::Array(ids)) => ids.iter().filter_map(|id| token(fields, "eos_token_id", id)).collect(),
        Some(id) => token(fields, "eos_token_id", &id).into_iter().collect(),
    };
    (bos_token_id, eos_token_ids)
}

fn token(fields: &mut Fields, key: &str, value: &Value) -> Option<u32> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    if id.is_none() {
        fields.complain(key, format_args!("is {value}: expected a token id"));
    }
    id
}

fn refuse_unimplemented(fields: &mut Fields) {
    for (key, names) in [("hidden_act", ["silu", "swish"]), ("activation", ["silu", "swiglu"])] {
        if let Some(value) = fields.value(key).filter(|value| !names.iter().any(|name| *value == name)).cloned() {
            fields.complain(key, format_args!("is {value}: only \"silu\" is implemented"));
        }
    }
    fields.take("hidden_act");
    fields.only("attention_dropout", &json!(0.0));
    fields.only("partial_rotary_factor", &json!(1.0));
    for key in ["dtype", "torch_dtype"] {
        if let Some(value) = fields.take(key) {
            let known = value.as_str().is_some_and(|name| name == "auto" || dtype_named(name).is_some());
            if !known {
                fields.complain(key, format_args!("is {value}: only bfloat16, float16 and float32 are implemented"));
            }
        }
    }
    if let Some(value) = fields.take("quantization_config") {
        let method = value.get("quant_method").cloned().unwrap_or(Value::Null);
        fields.complain(
            "quantization_config",
            format_args!(
                "asks for quantized weights (quant_method {method}): not implemented, use the original weights"
            ),
        );
    }
}

/// Checks that span several keys.
fn check(config: &ModelConfig, fields: &mut Fields) {
    if !config.heads.is_multiple_of(config.kv_heads) {
        let text = format!("is {}: must divide num_attention_heads, {}", config.kv_heads, config.heads);
        fields.complain("num_key_value_heads", text);
    }
    if config.family == Family::Llama && !config.hidden_size.is_multiple_of(config.heads) {
        let text = format!("is {}: must be a multiple of num_attention_heads, {}", config.hidden_size, config.heads);
        fields.complain("hidden_size", text);
    }
    if !config.head_dim.is_multiple_of(2) {
        fields.complain("head_dim", format_args!("is {}: rotary embedding needs an even size", config.head_dim));
    }
    let vocab = config.vocab_size;
    if let Some(id) = config.bos_token_id.filter(|id| *id as usize >= vocab) {
        fields.complain("bos_token_id", format_args!("is {id}: must be below vocab_size, {vocab}"));
    }
    for id in config.eos_token_ids.iter().filter(|id| **id as usize >= vocab) {
        fields.complain("eos_token_id", format_args!("is {id}: must be below vocab_size, {vocab}"));
    }
}

/// The `config.json` of a configuration, spelled for transformers 5 and for 4, which vLLM and others build on; `dtype` is that
/// of the weights beside it.
#[must_use]
pub fn to_json(config: &ModelConfig, dtype: Dtype) -> Map<String, Value> {
    let (model_type, architecture) = match config.family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Mistral => ("mistral", "MistralForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
    };
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("architectures", json!([architecture]));
    put("model_type", json!(model_type));
    put("vocab_size", json!(config.vocab_size));
    put("hidden_size", json!(config.hidden_size));
    put("intermediate_size", json!(config.intermediate_size));
    put("num_hidden_layers", json!(config.layers));
    put("num_attention_heads", json!(config.heads));
    put("num_key_value_heads", json!(config.kv_heads));
    put("head_dim", json!(config.head_dim));
    put("hidden_act", json!("silu"));
    put("max_position_embeddings", json!(config.max_positions));
    put("initializer_range", json!(config.initializer_range));
    put("rms_norm_eps", json!(config.norm_eps));
    put("tie_word_embeddings", json!(config.tied_embeddings));
    put("rope_parameters", rope::parameters_json(config.rope_theta, &config.rope_scaling));
    // Readers of transformers 4 know these two alone.
    put("rope_theta", json!(config.rope_theta));
    if let Some(scaling) = rope::scaling_json(&config.rope_scaling) {
        put("rope_scaling", Value::Object(scaling));
    }
    put("attention_dropout", json!(0.0));
    match config.family {
        Family::Llama => {
            put("attention_bias", json!(config.output_bias));
            put("mlp_bias", json!(config.mlp_bias));
        }
        Family::Mistral => {
            put("sliding_window", json!(config.sliding_window));
        }
        Family::Qwen2 | Family::Qwen3 => {
            put("use_sliding_window", json!(config.sliding_window.is_some()));
            put("sliding_window", json!(config.sliding_window));
            put("max_window_layers", json!(if config.sliding_window.is_some() { 0 } else { config.layers }));
            if config.family == Family::Qwen3 {
                put("attention_bias", json!(config.output_bias));
            }
        }
    }
    put("bos_token_id", json!(config.bos_token_id));
    put("eos_token_id", eos_json(&config.eos_token_ids));
    put("use_cache", json!(true));
    put("dtype", json!(dtype.config_name()));
    put("torch_dtype", json!(dtype.config_name()));
    object
}

/// The keys of `config.json` in which two configurations differ, each with what it is in the one and the other.
#[must_use]
pub fn differing(one: &ModelConfig, other: &ModelConfig) -> Vec<String> {
    let [one_json, other_json] = [one, other].map(|config| to_json(config, Dtype::Fp32));
    let keys: std::collections::BTreeSet<_> = one_json.keys().chain(other_json.keys()).collect();
    let differing = keys.into_iter().filter(|key| one_json.get(*key) != other_json.get(*key));
    let shown = |of: &Map<String, Value>, key: &str| of.get(key).map_or_else(|| "not set".to_owned(), Value::to_string);
    differing
        .map(|key| format!("{key} is {} there, and {} now", shown(&one_json, key), shown(&other_json, key)))
        .collect()
}

/// One id, a list of several, or null for none.
pub(super) fn eos_json(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    }
}
