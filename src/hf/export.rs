//! A Hugging Face folder out of weights: safetensors, index, configuration, tokenizer.
//!
//! The files of weights are written by one or several, as a [`Layout`] says; all else by the first of them. [`save`] does
//! all of it alone: the folder is written under a hidden name beside its own, synced and renamed, so that what has its name
//! is whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use hephaestus_core::hashed::{self, Entry};
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::companions::{Carried, GENERATION};
use super::config;
use super::dtype::Dtype;
use super::error::HfError;
use super::folder::INDEX;
use super::layout::{Layout, WeightFile};
use super::tensors::{self, Unwritten};
use crate::model::config::ModelConfig;

/// Largest shard where nothing else is asked for, in bytes; transformers' own default.
pub const DEFAULT_SHARD: u64 = 5_000_000_000;

/// Writes `tensors`, converted to `kind`, as the Hugging Face folder `folder`, which must not exist or be empty.
///
/// # Errors
/// As [`stage`]; nothing is left under `folder` then.
pub fn save(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    kind: Kind,
    carried: &Carried,
    max_shard_bytes: u64,
) -> Result<(), HfError> {
    stage(folder, config, tensors, kind, carried, max_shard_bytes)?.publish()
}

/// A folder that is written, and does not have its name yet; it is removed again unless it is published.
#[derive(Debug)]
pub struct Staged {
    temporary: PathBuf,
    folder: PathBuf,
}

/// Writes what [`save`] writes, under a hidden name.
///
/// `tensors` must be the parameters of `config` by name, in any order; a tied head is not among them. Each file is at most
/// `max_shard_bytes` of weights, or one tensor. `carried` goes with the model.
///
/// # Errors
/// [`HfError::Weights`] with every tensor that does not fit, [`HfError::Io`] where writing fails.
pub fn stage(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    kind: Kind,
    carried: &Carried,
    max_shard_bytes: u64,
) -> Result<Staged, HfError> {
    let layout = Layout::of(config, kind, max_shard_bytes, 1)?;
    let files = check(folder, &layout, 0, tensors)?;
    if fs_err::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(already(folder));
    }
    let temporary = hidden_sibling(folder)?;
    if temporary.exists() {
        fs_err::remove_dir_all(&temporary)?;
    }
    fs_err::create_dir_all(&temporary)?;
    let staged = Staged { temporary, folder: folder.to_owned() };
    tensors::write_all(unwritten(staged.path(), kind, &files)?)?;
    write_rest(staged.path(), config, &layout, carried)?;
    Ok(staged)
}

impl Staged {
    /// Where it lies meanwhile.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// [`HfError::Io`] where it cannot be synced or renamed.
    pub fn publish(self) -> Result<(), HfError> {
        Ok(publish(&self.temporary, &self.folder)?)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed by now, unless something failed, which is the error to tell; a leftover is cleared by the next attempt.
        let _ = fs_err::remove_dir_all(&self.temporary);
    }
}

/// The files in `folder` that `layout` has `writer` write, out of exactly the parameters in them, in any order, by their names.
///
/// # Errors
/// [`HfError::Weights`] with every tensor that does not fit.
pub fn weights(
    folder: &Path,
    layout: &Layout,
    writer: usize,
    tensors: &[(&str, &Tensor)],
) -> Result<Vec<(String, Unwritten)>, HfError> {
    unwritten(folder, layout.kind(), &check(folder, layout, writer, tensors)?)
}

/// Writes into `folder` all that is there beside the files of weights (their index where there are several, the configuration
/// with what its source says besides, and what goes with the model), and describes it by
/// the names of its files.
///
/// # Errors
/// [`HfError::Io`] where writing fails.
pub fn write_rest(
    folder: &Path,
    config: &ModelConfig,
    layout: &Layout,
    carried: &Carried,
) -> Result<BTreeMap<String, Entry>, HfError> {
    let mut written = BTreeMap::new();
    if layout.files().len() > 1 {
        let mut weight_map = Map::new();
        for WeightFile { name, parameters, .. } in layout.files() {
            weight_map.extend(parameters.iter().map(|spec| (spec.name.clone(), json!(name))));
        }
        let total: u64 = layout.files().iter().map(|file| file.bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        written.insert(INDEX.to_owned(), write_json(&folder.join(INDEX), &index)?);
    }
    let mut object = config::to_json(config, layout.dtype());
    object.extend(carried.keys.clone());
    let name = "config.json";
    written.insert(name.to_owned(), write_json(&folder.join(name), &Value::Object(object))?);
    for (name, bytes) in &carried.files {
        let entry = write_bytes(&folder.join(name), bytes)?;
        written.insert(name.clone(), entry);
    }
    if !written.contains_key(GENERATION) {
        written.insert(GENERATION.to_owned(), write_json(&folder.join(GENERATION), &generation_json(config))?);
    }
    Ok(written)
}

fn already(folder: &Path) -> HfError {
    let text = format!("{}: already there and not empty: name another folder or remove it", folder.display());
    HfError::Io(std::io::Error::new(std::io::ErrorKind::AlreadyExists, text))
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

/// A file, and the tensors in it.
type Filled<'l, 't> = (&'l WeightFile, Vec<(String, &'t Tensor)>);

/// The files of a writer with their tensors, or all that does not fit.
fn check<'l, 't>(
    folder: &Path,
    layout: &'l Layout,
    writer: usize,
    tensors: &[(&str, &'t Tensor)],
) -> Result<Vec<Filled<'l, 't>>, HfError> {
    let mut by_name: HashMap<&str, &Tensor> = tensors.iter().copied().collect();
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for file in layout.of_writer(writer) {
        let mut ordered = Vec::with_capacity(file.parameters.len());
        for spec in &file.parameters {
            match by_name.remove(spec.name.as_str()) {
                None => problems.push(format!("{} {:?} is missing", spec.name, spec.shape)),
                Some(tensor) if tensor.size() != spec.shape => {
                    problems.push(format!("{} has shape {:?}: expected {:?}", spec.name, tensor.size(), spec.shape));
                }
                Some(tensor) => ordered.push((spec.name.clone(), tensor)),
            }
        }
        files.push((file, ordered));
    }
    let mut rest: Vec<_> = by_name.into_keys().collect();
    rest.sort_unstable();
    let all: HashSet<_> =
        layout.files().iter().flat_map(|file| &file.parameters).map(|spec| spec.name.as_str()).collect();
    problems.extend(rest.into_iter().map(|name| {
        let whose = if all.contains(name) { "for another writer" } else { "not a parameter of this model" };
        format!("{name} is {whose}")
    }));
    if problems.is_empty() { Ok(files) } else { Err(HfError::Weights { folder: folder.to_owned(), problems }) }
}

fn unwritten(into: &Path, kind: Kind, files: &[Filled<'_, '_>]) -> Result<Vec<(String, Unwritten)>, HfError> {
    let unwritten = files
        .iter()
        .map(|(file, tensors)| Ok((file.name.clone(), Unwritten::new(into.join(&file.name), tensors, kind)?)));
    unwritten.collect()
}

fn hidden_sibling(folder: &Path) -> Result<PathBuf, HfError> {
    let Some(name) = folder.file_name() else {
        let text = format!("{}: names no folder to write", folder.display());
        return Err(HfError::Io(std::io::Error::new(std::io::ErrorKind::InvalidInput, text)));
    };
    Ok(folder.with_file_name(format!(".{}.writing", name.to_string_lossy())))
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

fn write_json(path: &Path, value: &Value) -> Result<Entry, HfError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from)?;
    text.push(b'\n');
    write_bytes(path, &text)
}

/// Writes and syncs a file; the folder that it lies in, too, as it may be new.
fn write_bytes(path: &Path, bytes: &[u8]) -> Result<Entry, HfError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let entry = hashed::write(path, bytes)?;
    sync_folder(folder)?;
    Ok(entry)
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
