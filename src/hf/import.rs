//! Weights out of a Hugging Face folder: one safetensors file, or several with an index.
//!
//! Files are mapped and checked whole against the configuration, so a wrong folder is refused with all that is wrong before
//! memory is spent on it; then each copies what it needs, and nothing else is read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::error::HfError;
use super::folder::{self, INDEX, SINGLE};
use super::names::{self, ParameterSpec};
use super::stored::Stored;
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;

/// The weights of a folder, known to be those of a configuration.
#[derive(Debug)]
pub struct Weights {
    stored: Stored,
    specs: Vec<ParameterSpec>,
}

impl Weights {
    /// Maps the weights of `folder` and checks them.
    ///
    /// Tied heads may be present or absent; where one is present it must equal the embedding.
    ///
    /// # Errors
    /// [`HfError::NoWeights`], [`HfError::Safetensors`], [`HfError::Json`] for the index, and [`HfError::Weights`] with
    /// every missing, unexpected or wrong-shaped tensor at once.
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self, HfError> {
        Self::of_files(folder, config, files(folder)?)
    }

    /// The same of a folder in which only the files `listed` count, whatever else lies there.
    ///
    /// # Errors
    /// As [`open`](Self::open), and weights that are not listed.
    pub fn open_listed(folder: &Path, config: &ModelConfig, listed: &[&str]) -> Result<Self, HfError> {
        let index = folder.join(INDEX);
        let files = if listed.contains(&INDEX) { shard_paths(folder, &index)? } else { vec![folder.join(SINGLE)] };
        let is_listed = |file: &&PathBuf| {
            file.file_name().and_then(|name| name.to_str()).is_some_and(|name| listed.contains(&name))
        };
        if let Some(file) = files.iter().find(|file| !is_listed(file)) {
            let problems = vec![format!("{} is not listed in the checkpoint's manifest.json", file.display())];
            return Err(HfError::Weights { folder: folder.to_owned(), problems });
        }
        Self::of_files(folder, config, files)
    }

    fn of_files(folder: &Path, config: &ModelConfig, files: Vec<PathBuf>) -> Result<Self, HfError> {
        let specs = names::parameters(config);
        let stored = Stored::open(files)?;
        let mut problems = problems(config, &specs, &stored);
        if problems.is_empty() && config.tied_embeddings && stored.has(names::HEAD) {
            let [head, embedding] = [names::HEAD, names::EMBEDDING];
            if stored.bytes(head) != stored.bytes(embedding) {
                let tie = "while config.json ties them (tie_word_embeddings)";
                problems.push(format!("{head} differs from {embedding} {tie}"));
            }
        }
        if problems.is_empty() {
            Ok(Self { stored, specs })
        } else {
            Err(HfError::Weights { folder: folder.to_owned(), problems })
        }
    }

    /// The parameters of the configuration, in canonical order.
    #[must_use]
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Copies the elements of the parameter `name` from the one numbered `from` on, row by row, into `tensor`, as many as it
    /// has, converted to its element type, on its device. It must be contiguous, and may be part of another.
    ///
    /// # Errors
    /// Elements that the parameter does not have, and what libtorch refuses.
    pub fn fill(&self, name: &str, from: i64, tensor: &Tensor) -> Result<(), HfError> {
        self.stored.fill(name, from, tensor)
    }

    /// All of them as `kind` on `device`.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn load(self, kind: Kind, device: Device) -> Result<Parameters, HfError> {
        let tensors = self.specs.iter().map(|spec| {
            let tensor = Tensor::f_empty(&spec.shape, (kind, device))?;
            self.fill(&spec.name, 0, &tensor)?;
            Ok(tensor)
        });
        let tensors = tensors.collect::<Result<Vec<_>, HfError>>()?;
        Ok(Parameters::new(self.specs, tensors)?)
    }

    /// A parameter on the CPU, of the element type it is stored in.
    ///
    /// # Errors
    /// One that there is none of, and what libtorch refuses.
    pub fn tensor(&self, name: &str) -> Result<Tensor, HfError> {
        self.stored.tensor(name)
    }
}

/// Loads the weights of `folder` as `kind` on `device`.
///
/// # Errors
/// As [`Weights::open`], and more memory than there is.
pub fn load(folder: &Path, config: &ModelConfig, kind: Kind, device: Device) -> Result<Parameters, HfError> {
    Weights::open(folder, config)?.load(kind, device)
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
    if files.is_empty() {
        return Err(bad("`weight_map` is empty".to_owned()));
    }
    Ok(files.into_values().collect())
}

/// All that does not fit.
fn problems(config: &ModelConfig, specs: &[ParameterSpec], stored: &Stored) -> Vec<String> {
    let mut problems = Vec::new();
    for spec in specs.iter().filter(|spec| !stored.has(&spec.name)) {
        problems.push(format!("{} {:?} is missing", spec.name, spec.shape));
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
