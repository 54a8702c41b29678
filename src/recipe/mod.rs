//! What the user wrote: a recipe.
//!
//! In reading order: [`sections`] are its keys, [`quantity`] how numbers are written in it, [`keys`] a recipe as a flat list;
//! the rest reads and describes one.
//! Free of libtorch.

pub mod keys;
mod rules;
pub mod sections;

use std::path::Path;

use hephaestus_core::settings::{self, Settings};
pub use hephaestus_core::settings::{RecipeError, STANDARD_INPUT, problem, quantity, to_yaml};
pub use sections::Recipe;

/// A recipe, and where each of its keys was written.
pub type Loaded = settings::Loaded<Recipe>;

impl Recipe {
    /// Rows of an optimizer step.
    #[must_use]
    pub fn rows_per_step(&self) -> u64 {
        match (self.batch.tokens, self.batch.sequences) {
            (Some(tokens), _) => tokens.0 / self.data.sequence_length.0.max(1),
            (None, sequences) => sequences.map_or(1, |sequences| sequences.0),
        }
    }

    /// Tokens of an optimizer step.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        self.rows_per_step().saturating_mul(self.data.sequence_length.0)
    }
}

impl Settings for Recipe {
    const EXAMPLE: &'static str = "recipes/quickstart.yaml";

    fn broken(&self, positions: &problem::Positions) -> Vec<problem::Problem> {
        rules::broken(self, positions)
    }
}

/// Reads the recipe at `path`, or from standard input where that is [`STANDARD_INPUT`], with `overrides` of the form `KEY=VALUE` (`data.sequence_length=4096`) applied to it.
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
pub fn parse(text: &str, file: &Path, overrides: &[String]) -> Result<Loaded, problem::Problems> {
    settings::parse(text, file, overrides)
}

/// The JSON Schema of a recipe (draft 2020-12).
#[must_use]
pub fn schema() -> serde_json::Value {
    settings::schema::<Recipe>()
}

const OPENING: &str = "\
# The recipe

A recipe is a YAML file that says what is trained, on what, how and where to. `hephaestus-train --recipe FILE` runs it,
`--dry-run` prints what it comes to, `--set data.sequence_length=4096` overrides a key, `--print-schema` prints the JSON
Schema that editors complete and check by. Keys that do not exist are refused.

Paths are relative to the folder the command is run in. `~` at their beginning, `$NAME` and `${NAME}` (in quotes
inside of `{ }`) are expanded; a variable that is not set is refused, and so are URLs such as `s3://bucket/run`. `--recipe -` reads the recipe from standard input.

Quantities are written as people write them:

| quantity | written as |
|---|---|
";

/// The reference of every key, docs/recipe.md.
#[must_use]
pub fn reference() -> String {
    settings::reference::<Recipe>(OPENING)
}
