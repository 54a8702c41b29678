//! The work of a build, cut into parts by its inputs alone: the same on every machine and in every run.

use std::path::Path;

use hephaestus_core::corpus::manifest::hex;
use hephaestus_core::settings::to_yaml;
use hephaestus_core::vocabulary::Vocabulary;
use hephaestus_core::whole;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::BuildError;
use crate::readers::{Reader, Slice};
use crate::recipe::Recipe;

/// What marks an output folder as built, and by which plan.
const BUILT: &str = "build.json";

/// The parts of a build, and what they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The program's version: another may render otherwise.
    pub program: String,
    /// The recipe, every default filled in.
    pub recipe: String,
    /// SHA-256 of the tokenizer.
    pub tokenizer: String,
    /// What each input held when it was listed: paths, sizes and times.
    pub inputs: Vec<String>,
    /// In order of sources, inputs and files.
    pub parts: Vec<Part>,
}

/// What is finished together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its number.
    pub number: u32,
    /// Its source's place in the recipe.
    pub source: usize,
    /// Its input's place in the source.
    pub input: usize,
    /// What of which files.
    pub slices: Vec<Slice>,
    /// Bytes of input.
    pub bytes: u64,
}

/// Every n-th part, from the i-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// i, from 1.
    pub index: u32,
    /// n.
    pub of: u32,
}

impl Shard {
    /// Whether a part belongs to it.
    #[must_use]
    pub fn has(self, part: u32) -> bool {
        part % self.of == self.index - 1
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a shard: write i/n with 1 <= i <= n, such as 3/8");
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        match (index.parse(), of.parse()) {
            (Ok(index), Ok(of)) if 1 <= index && index <= of => Ok(Self { index, of }),
            _ => Err(wrong()),
        }
    }
}

/// What an output folder was built by.
#[derive(Serialize, Deserialize)]
struct Mark {
    plan: String,
}

impl Plan {
    /// Lists every input and cuts what they hold into parts.
    ///
    /// # Errors
    /// An input that is not there or holds nothing that its reader takes.
    pub fn new(recipe: &Recipe, vocabulary: &Vocabulary) -> Result<Self, BuildError> {
        let (mut inputs, mut parts) = (Vec::new(), Vec::new());
        for (source, (_, described)) in recipe.sources.iter().enumerate() {
            for (at, input) in described.inputs.iter().enumerate() {
                let reader = Reader::new(input.clone());
                let listing = reader.list()?;
                inputs.push(listing.fingerprint());
                for slices in reader.parts(&listing, recipe.work.part.0)? {
                    let bytes = slices.iter().map(|slice| slice.bytes).sum();
                    parts.push(Part { number: parts.len() as u32, source, input: at, slices, bytes });
                }
            }
        }
        Ok(Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            recipe: to_yaml(recipe),
            tokenizer: vocabulary.fingerprint.clone(),
            inputs,
            parts,
        })
    }

    /// The parts of a shard.
    pub fn share(&self, shard: Option<Shard>) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| shard.is_none_or(|shard| shard.has(part.number)))
    }

    /// In which way another plan is another; `None` where it is the same.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Option<String> {
        let line = || {
            let lines = self.recipe.lines().zip(other.recipe.lines());
            let first = lines.into_iter().find(|(mine, theirs)| mine != theirs);
            first.map_or(String::new(), |(mine, theirs)| format!(" (`{}` was `{}`)", mine.trim(), theirs.trim()))
        };
        match self {
            _ if self == other => None,
            _ if self.recipe != other.recipe => Some(format!("the recipe has changed{}", line())),
            _ if self.tokenizer != other.tokenizer => Some("the tokenizer is another".to_owned()),
            _ if self.program != other.program => {
                Some(format!("it was begun by version {}, this is {}", other.program, self.program))
            }
            _ => Some("the inputs have changed: other files, sizes or times".to_owned()),
        }
    }

    /// This plan as another machine would have made it: with its output folder, and its inputs' times.
    pub(super) fn at_home(&self, other: &Self) -> Self {
        let output = |recipe: &str| recipe.lines().find(|line| line.starts_with("output:")).map(str::to_owned);
        let mut plan = Self { inputs: other.inputs.clone(), ..self.clone() };
        if let (Some(mine), Some(theirs)) = (output(&self.recipe), output(&other.recipe)) {
            plan.recipe = plan.recipe.replacen(&mine, &theirs, 1);
        }
        plan
    }

    /// The plan as it is written.
    ///
    /// # Errors
    /// Never, but the library cannot know.
    pub fn to_json(&self) -> std::io::Result<Vec<u8>> {
        let mut json = serde_json::to_vec(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Whether `output` holds what this plan builds.
    pub(super) fn is_built(&self, output: &Path) -> Result<bool, BuildError> {
        let path = output.join(BUILT);
        if !path.is_file() {
            return Ok(false);
        }
        let mark: Mark = serde_json::from_slice(&fs_err::read(&path)?)
            .map_err(|error| BuildError::Damaged { path, reason: error.to_string() })?;
        Ok(mark.plan == self.hash()?)
    }

    /// Marks `output` as holding what this plan builds.
    pub(super) fn mark_built(&self, output: &Path) -> Result<(), BuildError> {
        let mut json = serde_json::to_vec_pretty(&Mark { plan: self.hash()? }).map_err(std::io::Error::from)?;
        json.push(b'\n');
        Ok(whole::write(&output.join(BUILT), &json)?)
    }

    fn hash(&self) -> std::io::Result<String> {
        Ok(hex(&Sha256::digest(self.to_json()?)))
    }
}
