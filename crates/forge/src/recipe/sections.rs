//! The sections of a forge recipe: what a user writes, key by key, with its defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hephaestus_core::settings::quantity::Count;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::readers::{Kind, trajectories};
use crate::{duplicates, quality, render, retrieval};

/// A corpus build: which sources, read and rendered how, what is left out, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the recipe format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Folder of the corpora, the report and, while it is built, of the work.
    #[schemars(extend("format" = "path"))]
    pub output: PathBuf,
    /// Folder with `tokenizer.json` and its companions, as Hugging Face lays it out.
    #[schemars(extend("format" = "path"))]
    pub tokenizer: PathBuf,
    /// What follows each document: `auto` for the tokenizer's end-of-document token, a token by its text, or `none`.
    #[serde(default = "auto")]
    pub end_of_document: String,
    /// Seed of the choice among phrasings.
    #[serde(default)]
    pub seed: u64,
    /// The sources by name, in order of precedence among duplicates; each becomes a corpus, `OUTPUT/NAME.bin`.
    pub sources: IndexMap<String, Source>,
    /// Which equal and nearly equal documents are left out, across all sources.
    #[serde(default)]
    pub duplicates: duplicates::Settings,
    /// Which documents are left out because a benchmark is in them.
    #[serde(default)]
    pub decontamination: quality::decontamination::Settings,
    /// Classifiers by name, trained before the sources are read, for sources to be selected by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub classifiers: BTreeMap<String, retrieval::Settings>,
    /// How the work is cut.
    #[serde(default)]
    pub work: Work,
}

/// One source: what becomes one corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is read from, in order.
    pub inputs: Vec<Input>,
    /// How its documents become text.
    #[serde(default)]
    pub render: render::Settings,
    /// Which of its documents are good enough.
    #[serde(default)]
    pub quality: quality::Settings,
    /// Select by a classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<Select>,
}

/// Files of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// How they are read.
    pub reader: Kind,
    /// Files and folders.
    #[schemars(extend("items" = { "type": "string", "format": "path" }))]
    pub paths: Vec<PathBuf>,
    /// Extensions taken from folders, instead of the reader's own; `.gz` and `.zst` behind them are understood.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// Globs of paths, relative to each folder, that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Largest file, or record of a stream of records, that is read, in bytes; the reader's own limit where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<Count>,
    /// Who provides the APIs of these files, where they do not say so themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// For `jsonl` and `parquet`: the key or column that holds the text, or a JSON pointer; `text` where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// For `records`: where each field of a document lies in a record: its name, and JSON pointers (or keys) of which the
    /// first that is there counts. `name` is the API's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Vec<String>>,
    /// For `trajectories`: the form they are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<trajectories::Form>,
    /// For `trajectories`: least value of numeric fields of a record, by JSON pointer or key, such as `reward: 1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub at_least: BTreeMap<String, f64>,
}

impl Input {
    /// An input with its reader's defaults.
    #[must_use]
    pub fn new(reader: Kind, paths: &[PathBuf]) -> Self {
        Self {
            reader,
            paths: paths.to_vec(),
            extensions: Vec::new(),
            exclude: Vec::new(),
            max_bytes: None,
            provider: None,
            field: None,
            fields: BTreeMap::new(),
            form: None,
            at_least: BTreeMap::new(),
        }
    }
}

/// Selection by a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// Its name among `classifiers`.
    pub classifier: String,
    /// Least score of a document that is kept.
    #[schemars(range(min = 0, max = 1))]
    pub threshold: f64,
}

/// How the work is cut, and what of it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Work {
    /// Bytes of input that are finished together: what a killed build repeats at most, for each of its phases.
    pub part: Count,
    /// Keep the documents and signatures after the corpora are written.
    pub keep: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self { part: Count(64_000_000), keep: false }
    }
}

fn auto() -> String {
    "auto".to_owned()
}
