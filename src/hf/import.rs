//! Weights out of a Hugging Face folder: one safetensors file, or several with an index.
//!
//! Files are mapped, checked whole against the configuration, and only then copied tensor by tensor, so a wrong folder
//! is refused with all that is wrong before memory is spent on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tch::{Device, Kind};

use super::error::HfError;
use super::folder::{self, INDEX, SINGLE};
use super::names::{self, ParameterSpec};
use super::tensors::{Mapped, copy, has_shape, kind_of};
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;

/// Loads the weights of `folder` as `kind` on `device`.
///
/// Tied heads may be present or absent; where one is present it must equal the embedding.
///
/// # Errors
/// [`HfError::NoWeights`], [`HfError::Safetensors`], [`HfError::Json`] for the index, and [`HfError::Weights`] with
/// every missing, unexpected or wrong-shaped tensor at once.
pub fn load(folder: &Path, config: &ModelConfig, kind: Kind, device: Device) -> Result<Parameters, HfError> {
    let specs = names::parameters(config);
    let maps = map_files(folder)?;
    let mut files = Vec::with_capacity(maps.len());
    for map in &maps {
        files.push((&map.path, map.tensors()?));
    }
    let found = check(folder, config, &specs, &files)?;
    let tensors = specs
        .iter()
        .map(|spec| copy(&found[spec.name.as_str()], kind, device))
        .collect::<Result<Vec<_>, tch::TchError>>()?;
    if config.tied_embeddings
        && let Some(head) = found.get(names::HEAD)
        && head.data() != found[names::EMBEDDING].data()
    {
        let problem = format!(
            "{} differs from {} while config.json ties them (tie_word_embeddings)",
            names::HEAD,
            names::EMBEDDING
        );
        return Err(HfError::Weights { folder: folder.to_owned(), problems: vec![problem] });
    }
    Ok(Parameters::new(specs, tensors)?)
}

/// The weight files of a folder, in order.
fn map_files(folder: &Path) -> Result<Vec<Mapped>, HfError> {
    let index = folder.join(INDEX);
    let single = folder.join(SINGLE);
    folder::require_weights(folder)?;
    let paths = if index.is_file() { shard_paths(folder, &index)? } else { vec![single] };
    paths.into_iter().map(Mapped::open).collect()
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
    if files.is_empty() {
        return Err(bad("`weight_map` is empty".to_owned()));
    }
    Ok(files.into_values().collect())
}

/// Finds every parameter in the files, or says all that does not fit.
fn check<'data>(
    folder: &Path,
    config: &ModelConfig,
    specs: &[ParameterSpec],
    files: &[(&PathBuf, SafeTensors<'data>)],
) -> Result<BTreeMap<String, TensorView<'data>>, HfError> {
    let mut problems = Vec::new();
    let mut found = BTreeMap::new();
    for (path, file) in files {
        for (name, view) in file.tensors() {
            if found.insert(name.clone(), view).is_some() {
                problems.push(format!("{name} is in {} and in another file", path.display()));
            }
        }
    }
    let mut expected: BTreeMap<&str, &[i64]> =
        specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
    let embedding = [config.vocab_size as i64, config.hidden_size as i64];
    for spec in specs.iter().filter(|spec| !found.contains_key(&spec.name)) {
        problems.push(format!("{} {:?} is missing", spec.name, spec.shape));
    }
    expected.entry(names::HEAD).or_insert(&embedding);
    for (name, view) in &found {
        let Some(shape) = expected.get(name.as_str()) else {
            // Rotary frequencies: older checkpoints of Llama hold them, and they follow from the configuration.
            if !name.ends_with(".rotary_emb.inv_freq") {
                problems.push(format!("{name} {:?} is not a parameter of this model", view.shape()));
            }
            continue;
        };
        if !has_shape(view, shape) {
            problems.push(format!("{name} has shape {:?}: expected {shape:?}", view.shape()));
        }
        if kind_of(view.dtype()).is_none() {
            problems.push(format!("{name} is stored as {:?}: expected BF16, F16 or F32", view.dtype()));
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(HfError::Weights { folder: folder.to_owned(), problems }) }
}
