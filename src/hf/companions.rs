//! What lies in a model's folder beside its configuration and weights, and goes with the model wherever it is written: the
//! tokenizer, generation settings, chat templates, licences. Free of libtorch.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::config;
use super::error::HfError;
use crate::figures::size;

/// Settings of generation, which are the model's.
pub(super) const GENERATION: &str = "generation_config.json";

/// Largest file carried, in bytes; the largest tokenizers have a third of it.
const MAX_FILE: u64 = 100_000_000;
/// Most bytes carried: they are held in memory.
const MAX_BYTES: u64 = 500_000_000;
/// Most files carried.
const MAX_FILES: usize = 1000;

/// Endings of weights, in any program's format, and of their indices.
const WEIGHTS: [&str; 22] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".npy",
    ".pkl",
    ".tflite",
    ".mlmodel",
    ".engine",
    ".pte",
    ".xml.bin",
    ".index.json",
    ".safetensors.json",
    ".data-00000-of-00001",
];

/// Files of a tokenizer are named so, or begin so.
const TOKENIZER: [&str; 12] = [
    "tokenizer",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece",
    "chat_template",
    "additional_chat_templates",
    "preprocessor_config.json",
];

/// Files that make a folder inside a model's a model, a checkpoint or a run of its own.
const OF_ITS_OWN: [&str; 4] = ["config.json", "adapter_config.json", "manifest.json", "metrics.jsonl"];

/// Where a model comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// Its Hugging Face folder, or a `config.json` alone.
    pub model: Option<&'a Path>,
    /// The folder of its tokenizer, where that is another: its tokenizer's files replace the model's.
    pub tokenizer: Option<&'a Path>,
}

/// The files that go with a model.
#[derive(Debug, Default)]
pub struct Companions {
    /// By path inside the folder, with `/` between its parts, and where each lies now.
    pub files: Vec<(String, PathBuf)>,
    /// What is left out though it is no weights, and why, a sentence each.
    pub left_out: Vec<String>,
    bytes: u64,
}

/// What goes with a model, in memory: a run that has it needs the model's source no more.
#[derive(Debug, Default)]
pub struct Carried {
    /// The files, by path inside the folder, with `/` between its parts.
    pub files: Vec<(String, Vec<u8>)>,
    /// Keys of `config.json` that change nothing about training.
    pub keys: Map<String, Value>,
    /// What is left out though it is no weights, and why, a sentence each.
    pub left_out: Vec<String>,
}

impl Sources<'_> {
    /// The files that go with the model: all but weights, configuration, and what is hidden.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn companions(&self) -> Result<Companions, HfError> {
        let mut found = Companions::default();
        let model = self.model.filter(|model| model.is_dir());
        let other = self.tokenizer.filter(|tokenizer| !model.is_some_and(|model| same(model, tokenizer)));
        if let Some(model) = model {
            found.gather(model, "", &|top| other.is_none() || !is_tokenizer(top))?;
        }
        if let Some(tokenizer) = other {
            // A tokenizer without a model beside it has the settings of generation, if anyone has.
            found.gather(tokenizer, "", &|top| is_tokenizer(top) || (model.is_none() && top == GENERATION))?;
        }
        Ok(found)
    }

    /// Reads what goes with the model.
    ///
    /// # Errors
    /// A file or folder that cannot be read.
    pub fn read(&self) -> Result<Carried, HfError> {
        let Companions { files, left_out, .. } = self.companions()?;
        let read = |(name, path)| Ok((name, fs_err::read(path)?));
        let files = files.into_iter().map(read).collect::<Result<_, HfError>>()?;
        let keys = self.model.map_or_else(|| Ok(Map::new()), config::harmless)?;
        Ok(Carried { files, keys, left_out })
    }
}

impl Companions {
    /// Adds the files in `folder`, which is `inside` the one wanted, whose first part `wanted` takes.
    fn gather(&mut self, folder: &Path, inside: &str, wanted: &dyn Fn(&str) -> bool) -> Result<(), HfError> {
        let mut entries = fs_err::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                self.left_out.push(format!("{inside}{}: its name is not UTF-8", name.display()));
                continue;
            };
            let skipped = name.starts_with('.') || (inside.is_empty() && (name == "config.json" || !wanted(name)));
            if skipped || WEIGHTS.iter().any(|end| name.ends_with(end)) {
                continue;
            }
            let path = entry.path();
            let named = format!("{inside}{name}");
            let Ok(metadata) = fs_err::metadata(&path) else {
                self.left_out.push(format!("{named}: it cannot be read"));
                continue;
            };
            if metadata.is_dir() {
                if OF_ITS_OWN.iter().any(|file| path.join(file).exists()) {
                    self.left_out.push(format!("{named}/: a model or run of its own"));
                } else if entry.file_type()?.is_symlink() {
                    self.left_out.push(format!("{named}/: a link to a folder"));
                } else {
                    self.gather(&path, &format!("{named}/"), wanted)?;
                }
            } else if metadata.len() > MAX_FILE {
                let most = size(MAX_FILE);
                self.left_out.push(format!("{named}: {}, where at most {most} are carried", size(metadata.len())));
            } else if self.files.len() >= MAX_FILES {
                self.left_out.push(format!("{named}: {MAX_FILES} files are carried already"));
            } else if self.bytes + metadata.len() > MAX_BYTES {
                self.left_out.push(format!("{named}: with it, more than {} would be carried", size(MAX_BYTES)));
            } else if metadata.is_file() {
                self.bytes += metadata.len();
                self.files.push((named, path));
            }
        }
        Ok(())
    }
}

fn is_tokenizer(name: &str) -> bool {
    TOKENIZER.iter().any(|known| name.starts_with(known))
}

fn same(one: &Path, other: &Path) -> bool {
    one == other
        || fs_err::canonicalize(one).is_ok_and(|one| fs_err::canonicalize(other).is_ok_and(|other| one == other))
}
