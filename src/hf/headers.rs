//! Whether a folder has the weights of a configuration, by the headers of its files alone. Free of libtorch.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::HfError;
use super::folder::{self, INDEX, SINGLE};
use super::names::{self, ParameterSpec};
use super::stored::Stored;
use crate::model::config::ModelConfig;

/// Maps the weights of `folder`, of which only headers are read, and checks them.
///
/// # Errors
/// [`HfError::NoWeights`], [`HfError::Safetensors`], [`HfError::Json`] for the index, [`HfError::Tensors`] for missing shards,
/// and [`HfError::Weights`] with every missing, unexpected or wrong-shaped tensor at once.
pub fn open(folder: &Path, config: &ModelConfig) -> Result<Stored, HfError> {
    check(folder, config, files(folder)?)
}

/// The same of a folder in which only the files `listed` count, whatever else lies there.
///
/// # Errors
/// As [`open`], and weights that are not listed.
pub fn open_listed(folder: &Path, config: &ModelConfig, listed: &[&str]) -> Result<Stored, HfError> {
    let index = folder.join(INDEX);
    let files = if listed.contains(&INDEX) { shard_paths(folder, &index)? } else { vec![folder.join(SINGLE)] };
    let is_listed =
        |file: &&PathBuf| file.file_name().and_then(|name| name.to_str()).is_some_and(|name| listed.contains(&name));
    if let Some(file) = files.iter().find(|file| !is_listed(file)) {
        let problems = vec![format!("{} is not listed in the checkpoint's manifest.json", file.display())];
        return Err(HfError::Weights { folder: folder.to_owned(), problems });
    }
    check(folder, config, files)
}

fn check(folder: &Path, config: &ModelConfig, files: Vec<PathBuf>) -> Result<Stored, HfError> {
    let stored = Stored::open(files)?;
    let problems = problems(config, &names::parameters(config), &stored);
    if problems.is_empty() { Ok(stored) } else { Err(HfError::Weights { folder: folder.to_owned(), problems }) }
}

/// The weight files of a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, HfError> {
    let index = folder.join(INDEX);
    folder::require_weights(folder)?;
    if index.is_file() { shard_paths(folder, &index) } else { Ok(vec![folder.join(SINGLE)]) }
}

/// Files the index names; names that would leave the folder are refused.
fn shard_paths(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, HfError> {
    let bad = |reason: String| HfError::Json { path: index.to_owned(), reason };
    let value: Value = serde_json::from_slice(&fs_err::read(index)?).map_err(|error| bad(error.to_string()))?;
    let Some(weights) = value.get("weight_map").and_then(Value::as_object) else {
        return Err(bad("`weight_map` is missing: expected an object of tensor names and files".to_owned()));
    };
    let mut files = BTreeMap::new();
    for (tensor, file) in weights {
        let plain = file.as_str().filter(|name| Path::new(name).file_name().is_some_and(|plain| plain == *name));
        let Some(name) = plain else {
            return Err(bad(format!("`weight_map` gives {file} for {tensor}: expected the name of a file beside it")));
        };
        files.entry(name.to_owned()).or_insert_with(|| folder.join(name));
    }
    let missing: Vec<_> = files.values().filter(|file: &&PathBuf| !file.is_file()).collect();
    if !missing.is_empty() {
        let named = missing.iter().map(|file| {
            let name = file.file_name().unwrap_or_default().display();
            format!("{name} is missing, which {INDEX} names: copy it here, or fetch the model again")
        });
        return Err(HfError::Tensors { path: folder.to_owned(), problems: named.collect() });
    }
    if files.is_empty() {
        return Err(bad("`weight_map` is empty".to_owned()));
    }
    Ok(files.into_values().collect())
}

/// All that does not fit.
fn problems(config: &ModelConfig, specs: &[ParameterSpec], stored: &Stored) -> Vec<String> {
    let mut problems = Vec::new();
    for spec in specs.iter().filter(|spec| !stored.has(&spec.name)) {
        let tie = match spec.name.as_str() {
            names::HEAD => ": if the head is the embedding, config.json must say so (tie_word_embeddings: true)",
            _ => "",
        };
        problems.push(format!("{} {:?} is missing{tie}", spec.name, spec.shape));
    }
    let embedding = [config.vocab_size as i64, config.hidden_size as i64];
    let mut expected: HashMap<&str, &[i64]> =
        specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
    expected.entry(names::HEAD).or_insert(&embedding);
    for name in stored.names() {
        if let Some(shape) = expected.get(name) {
            stored.check(name, shape, &(0..shape.iter().product()), &mut problems);
        } else if !name.ends_with(".rotary_emb.inv_freq") {
            // But for rotary frequencies: older checkpoints of Llama hold them, and they follow from the configuration.
            let shape = stored.shape(name).unwrap_or_default();
            problems.push(format!("{name} {shape:?} is not a parameter of this model"));
        }
    }
    problems
}
