//! Settings from their file: read, overridden, checked, and only then deserialized.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use saphyr_parser::Marker;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::{Place, Positions, Problem, Problems};
use super::tree::{self, Node, Value};
use super::{check, overrides, schema};

/// The version of the recipe format that this program reads.
const VERSION: &str = "1";
/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";
/// Largest file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What a file of settings holds: a recipe of one kind or another.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema {
    /// A recipe that a user can look at, for the error that says there is none.
    const EXAMPLE: &'static str;

    /// Every rule between keys that is broken, as far as the settings alone can tell.
    fn broken(&self, positions: &Positions) -> Vec<Problem>;
}

/// A recipe, and where each of its keys was written.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What was written, with defaults for what was not.
    pub recipe: T,
    /// Where.
    pub positions: Positions,
}

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// There is no such file.
    #[error("{}: no such file: give the path of a recipe, such as {example}", path.display())]
    Missing {
        /// As given.
        path: PathBuf,
        /// One that exists.
        example: &'static str,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What is wrong in it, all at once.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// Reads the recipe at `path`, or from standard input where that is `-`, with `overrides` of the form `KEY=VALUE` (`data.sequence_length=4096`) applied to it.
///
/// # Errors
/// The file cannot be read, or whatever is wrong in it or in an override, all at once and in order.
pub fn load<T: Settings>(path: &Path, overrides: &[String]) -> Result<Loaded<T>, RecipeError> {
    let (path, file): (&Path, Box<dyn Read>) = if path == Path::new(STANDARD_INPUT) {
        (Path::new("standard input"), Box::new(std::io::stdin()))
    } else if path.exists() {
        (path, Box::new(fs_err::File::open(path)?))
    } else {
        return Err(RecipeError::Missing { path: path.to_owned(), example: T::EXAMPLE });
    };
    let refuse = |message: String| {
        let positions = Positions::new(path, overrides);
        Problems::new(vec![positions.problem("", message)])
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refuse(format!("more than {MAX_FILE} bytes: a recipe has at most so many")).into());
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            return Err(refuse(format!("byte {at} is not UTF-8: a recipe is a text file")).into());
        }
    };
    Ok(parse(&text, path, overrides)?)
}

/// Reads a recipe from its text; `file` is the name that problems give it.
///
/// # Errors
/// Whatever is wrong in it or in an override, all at once and in order.
pub fn parse<T: Settings>(text: &str, file: &Path, overrides: &[String]) -> Result<Loaded<T>, Problems> {
    let mut positions = Positions::new(file, overrides);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (root, complaints) = tree::parse(text, &in_file);
    let mut problems: Vec<Problem> =
        complaints.into_iter().map(|(place, message)| positions.problem_at(place, "", message)).collect();
    let Some(mut root) = root else {
        if problems.is_empty() {
            problems.push(positions.problem("", "empty: expected a recipe, which begins with `version: 1`"));
        }
        return Err(Problems::new(problems));
    };
    if !matches!(root.value, Value::Map(_)) {
        let message = format!("the file holds {}: expected the sections of a recipe", root.describe());
        problems.push(positions.problem_at(root.place, "", message));
        return Err(Problems::new(problems));
    }
    for (at, text) in overrides.iter().enumerate() {
        if let Err(complaints) = overrides::apply(&mut root, at, text) {
            problems.extend(complaints.into_iter().map(|(place, message)| positions.problem_at(place, "", message)));
        }
    }
    if let Some(problem) = other_version(&root, &positions) {
        return Err(Problems::new(vec![problem]));
    }
    let (value, wrong) = check::check(&root, &schema::schema::<T>(), &mut positions);
    problems.extend(wrong);
    match serde_json::from_value::<T>(value) {
        Ok(recipe) => {
            // Rules between keys hold for what is sound; a section with a problem of its own is not accused further.
            let suspects: HashSet<&str> = problems.iter().map(|problem| section(&problem.key)).collect();
            let mut broken = recipe.broken(&positions);
            broken.retain(|problem| !suspects.contains(section(&problem.key)));
            problems.extend(broken);
            if problems.is_empty() { Ok(Loaded { recipe, positions }) } else { Err(Problems::new(problems)) }
        }
        Err(error) => {
            if problems.is_empty() {
                problems.push(positions.problem("", error.to_string()));
            }
            Err(Problems::new(problems))
        }
    }
}

/// The section a key lies in.
fn section(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

fn in_file(marker: Marker) -> Place {
    Place::File { line: marker.line(), column: marker.col() + 1 }
}

/// A recipe of another version is another format: nothing else is said of it.
fn other_version(root: &Node, positions: &Positions) -> Option<Problem> {
    let node = root.get("version").filter(|node| !node.is_null())?;
    match &node.value {
        Value::Scalar { text, .. } if text == VERSION => None,
        _ => {
            let message = format!("is {}: this program reads recipes of version {VERSION}", node.describe());
            Some(positions.problem_at(node.place, "version", message))
        }
    }
}
