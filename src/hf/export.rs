//! A Hugging Face folder out of weights: safetensors, index, configuration, tokenizer.
//!
//! The folder is written under a hidden name beside its own, synced and renamed: what has its name is whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::config;
use super::dtype::Dtype;
use super::error::HfError;
use super::folder::{INDEX, SINGLE};
use super::{names, tensors};
use crate::model::config::ModelConfig;

/// Files that make a tokenizer, and what generation defaults a model came with; those there are copied.
pub const COMPANIONS: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Largest shard where nothing else is asked for, in bytes; transformers' own default.
pub const DEFAULT_SHARD: u64 = 5_000_000_000;

/// Writes `tensors`, converted to `kind`, as the Hugging Face folder `folder`, which must not exist or be empty.
///
/// `tensors` must be the parameters of `config` by name, in any order; a tied head is not among them. The tokenizer's
/// files are copied from `tokenizer`. Each file is at most `max_shard_bytes` of weights, or one tensor.
///
/// # Errors
/// [`HfError::Weights`] with every tensor that does not fit, [`HfError::Io`] where writing fails; nothing is left under
/// `folder` then.
pub fn save(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    kind: Kind,
    tokenizer: Option<&Path>,
    max_shard_bytes: u64,
) -> Result<(), HfError> {
    let dtype = dtype_of(kind)?;
    let ordered = check(folder, config, tensors)?;
    if fs_err::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(already(folder));
    }
    let temporary = hidden_sibling(folder)?;
    if temporary.exists() {
        fs_err::remove_dir_all(&temporary)?;
    }
    fs_err::create_dir_all(&temporary)?;
    let written = write_all(&temporary, config, &ordered, (kind, dtype), tokenizer, max_shard_bytes)
        .and_then(|()| Ok(publish(&temporary, folder)?));
    if written.is_err() {
        // The first error is the one to tell; a leftover hidden folder is cleared by the next attempt.
        let _ = fs_err::remove_dir_all(&temporary);
    }
    written
}

fn already(folder: &Path) -> HfError {
    let text = format!("{}: already there and not empty: name another folder or remove it", folder.display());
    HfError::Io(std::io::Error::new(std::io::ErrorKind::AlreadyExists, text))
}

fn dtype_of(kind: Kind) -> Result<Dtype, HfError> {
    match kind {
        Kind::BFloat16 => Ok(Dtype::Bf16),
        Kind::Half => Ok(Dtype::Fp16),
        Kind::Float => Ok(Dtype::Fp32),
        other => {
            Err(HfError::Torch(tch::TchError::Kind(format!("weights are stored as bf16, fp16 or fp32, not {other:?}"))))
        }
    }
}

/// The libtorch name of a stored element type.
#[must_use]
pub fn kind_of(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::Fp16 => Kind::Half,
        Dtype::Fp32 => Kind::Float,
    }
}

/// The tensors in canonical order, or all that does not fit.
fn check<'t>(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &'t Tensor)],
) -> Result<Vec<(String, &'t Tensor)>, HfError> {
    let mut by_name: HashMap<&str, &Tensor> = tensors.iter().copied().collect();
    let mut problems = Vec::new();
    let mut ordered = Vec::with_capacity(tensors.len());
    for spec in names::parameters(config) {
        match by_name.remove(spec.name.as_str()) {
            None => problems.push(format!("{} {:?} is missing", spec.name, spec.shape)),
            Some(tensor) if tensor.size() != spec.shape => {
                problems.push(format!("{} has shape {:?}: expected {:?}", spec.name, tensor.size(), spec.shape));
            }
            Some(tensor) => ordered.push((spec.name, tensor)),
        }
    }
    let mut rest: Vec<_> = by_name.into_keys().collect();
    rest.sort_unstable();
    problems.extend(rest.iter().map(|name| format!("{name} is not a parameter of this model")));
    if problems.is_empty() { Ok(ordered) } else { Err(HfError::Weights { folder: folder.to_owned(), problems }) }
}

fn hidden_sibling(folder: &Path) -> Result<PathBuf, HfError> {
    let Some(name) = folder.file_name() else {
        let text = format!("{}: names no folder to write", folder.display());
        return Err(HfError::Io(std::io::Error::new(std::io::ErrorKind::InvalidInput, text)));
    };
    Ok(folder.with_file_name(format!(".{}.writing", name.to_string_lossy())))
}

fn write_all(
    into: &Path,
    config: &ModelConfig,
    tensors: &[(String, &Tensor)],
    (kind, dtype): (Kind, Dtype),
    tokenizer: Option<&Path>,
    max_shard_bytes: u64,
) -> Result<(), HfError> {
    write_weights(into, tensors, kind, dtype.size() as u64, max_shard_bytes)?;
    write_json(&into.join("config.json"), &config::to_json(config, dtype))?;
    for name in COMPANIONS {
        let Some(from) = tokenizer.map(|folder| folder.join(name)).filter(|path| path.is_file()) else { continue };
        fs_err::copy(&from, into.join(name))?;
        fs_err::File::open(into.join(name))?.sync_all()?;
    }
    let generation = into.join("generation_config.json");
    if !generation.exists() {
        write_json(&generation, &generation_json(config))?;
    }
    Ok(())
}

fn generation_json(config: &ModelConfig) -> Value {
    let mut object = Map::new();
    object.insert("_from_model_config".to_owned(), json!(true));
    if let Some(id) = config.bos_token_id {
        object.insert("bos_token_id".to_owned(), json!(id));
    }
    if !config.eos_token_ids.is_empty() {
        object.insert("eos_token_id".to_owned(), config::eos_json(&config.eos_token_ids));
    }
    Value::Object(object)
}

fn write_json(path: &Path, value: &Value) -> Result<(), HfError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    let mut file = fs_err::File::create(path)?;
    std::io::Write::write_all(&mut file, &text)?;
    Ok(file.sync_all()?)
}

/// Cuts the tensors into shards in order: a shard is closed when the next tensor would not fit.
fn shards<'a, 't>(
    tensors: &'a [(String, &'t Tensor)],
    element: u64,
    most: u64,
) -> Vec<(u64, &'a [(String, &'t Tensor)])> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, (_, tensor)) in tensors.iter().enumerate() {
        let size = tensor.numel() as u64 * element;
        if at > start && bytes + size > most {
            shards.push((bytes, &tensors[start..at]));
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    shards.push((bytes, &tensors[start..]));
    shards
}

fn write_weights(
    into: &Path,
    tensors: &[(String, &Tensor)],
    kind: Kind,
    element: u64,
    most: u64,
) -> Result<(), HfError> {
    let shards = shards(tensors, element, most);
    if let [(_, all)] = shards.as_slice() {
        return tensors::write(&into.join(SINGLE), all, kind);
    }
    let mut weight_map = Map::new();
    for (at, (_, shard)) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", at + 1, shards.len());
        tensors::write(&into.join(&name), shard, kind)?;
        weight_map.extend(shard.iter().map(|(tensor, _)| (tensor.clone(), json!(name))));
    }
    let total: u64 = shards.iter().map(|(bytes, _)| bytes).sum();
    write_json(&into.join(INDEX), &json!({ "metadata": { "total_size": total }, "weight_map": weight_map }))
}

/// Syncs the finished folder and gives it its name.
fn publish(temporary: &Path, folder: &Path) -> std::io::Result<()> {
    sync_folder(temporary)?;
    if folder.is_dir() {
        // Empty, as checked: a rename does not replace a folder everywhere.
        fs_err::remove_dir(folder)?;
    }
    fs_err::rename(temporary, folder)?;
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}
