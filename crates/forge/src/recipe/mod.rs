//! What the user wrote: a forge recipe.
//!
//! [`sections`] are its keys; a section that a component owns lies with the component. The file is read and checked as a
//! training recipe is: every problem at once, with line and column.

mod rules;
pub mod sections;

use std::path::Path;

use hephaestus_core::settings::problem::{Positions, Problem, Problems};
use hephaestus_core::settings::{self, RecipeError, Settings};
use hephaestus_core::vocabulary::{Vocabulary, VocabularyError};

pub use sections::{Input, Recipe, Source};

/// A recipe, and where each of its keys was written.
pub type Loaded = settings::Loaded<Recipe>;

impl Settings for Recipe {
    const EXAMPLE: &'static str = "recipes/forge-agent.yaml";

    fn broken(&self, positions: &Positions) -> Vec<Problem> {
        rules::broken(self, positions)
    }
}

impl Recipe {
    /// The tokenizer.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn vocabulary(&self) -> Result<Vocabulary, VocabularyError> {
        Vocabulary::load(&self.tokenizer)
    }

    /// The token that follows each document, if any.
    ///
    /// # Errors
    /// The tokenizer does not have it.
    pub fn end_of_document(&self, vocabulary: &Vocabulary) -> Result<Option<u32>, VocabularyError> {
        match self.end_of_document.as_str() {
            "none" => Ok(None),
            "auto" => vocabulary.end_of_document().map(Some),
            token => vocabulary.token(token, "end_of_document").map(Some),
        }
    }
}

/// Reads the recipe at `path`, with `overrides` of the form `KEY=VALUE` applied to it.
///
/// # Errors
/// The file cannot be read, or whatever is wrong in it or in an override, all at once and in order.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
    settings::load(path, overrides)
}

/// Reads a recipe from its text; `file` is the name that problems give it.
///
/// # Errors
/// Whatever is wrong in it or in an override, all at once and in order.
pub fn parse(text: &str, file: &Path, overrides: &[String]) -> Result<Loaded, Problems> {
    settings::parse(text, file, overrides)
}

const OPENING: &str = "\
# The forge recipe

A forge recipe is a YAML file that says which corpora to build from which documents, how these become text, and which are left
out. `hephaestus-forge build --recipe FILE` builds them, `--dry-run` prints what would be read, `--set seed=1` overrides a key,
`--print-schema` prints the JSON Schema that editors complete and check by. Keys that do not exist are refused.
[forge-agent.yaml](../recipes/forge-agent.yaml) is a whole one, commented.

Paths are relative to the folder the command is run in. `~` at their beginning, `$NAME` and `${NAME}` (in quotes
inside of `{ }`) are expanded; a variable that is not set is refused, and so are URLs such as `s3://bucket/run`.

Quantities are written as people write them:

| quantity | written as |
|---|---|
";

/// The reference of every key, docs/forge.md.
#[must_use]
pub fn reference() -> String {
    settings::reference::<Recipe>(OPENING)
}
