//! What a recipe makes of one source, document by document, with nothing written.

use hephaestus_core::settings::problem::nearest;

use super::BuildError;
use super::mill::{Mill, Outcome};
use crate::readers::BadRecord;
use crate::recipe::Recipe;

/// A document as a build would see it.
#[derive(Debug)]
pub struct Preview {
    /// Where it came from.
    pub origin: String,
    /// Its text, scrubbed and rendered.
    pub text: String,
    /// `RULE: DETAIL` where a rule leaves it out.
    pub dropped: Option<String>,
}

/// Reads `source` as a build of `recipe` does, in its order, and hands every document or bad record to `show`. Classifiers
/// and duplicates are left aside: both need more than one document.
///
/// # Errors
/// There is no such source, an input or a benchmark cannot be read, or the first error of `show`.
pub fn preview<E: From<BuildError>>(
    recipe: &Recipe,
    source: &str,
    show: &mut dyn FnMut(Result<Preview, BadRecord>) -> Result<(), E>,
) -> Result<(), E> {
    let names = || recipe.sources.keys().map(String::as_str);
    let Some(number) = names().position(|name| name == source) else {
        return Err(E::from(BuildError::NoSource {
            name: source.to_owned(),
            near: nearest(source, names()).map(str::to_owned),
            sources: names().map(str::to_owned).collect(),
        }));
    };
    let mill = Mill::new(recipe)?;
    for input in 0..recipe.sources[number].inputs.len() {
        let reader = mill.reader(number, input);
        let slices = reader.list().map_err(BuildError::from)?.slices();
        for unit in reader.units(&slices) {
            for outcome in mill.grind(number, input, &unit) {
                show(match outcome {
                    Outcome::Bad(record) => Err(record),
                    Outcome::Dropped { rule, detail, origin, text, .. } => {
                        Ok(Preview { origin, text, dropped: Some(format!("{rule}: {detail}")) })
                    }
                    Outcome::Kept { stored, .. } => {
                        Ok(Preview { origin: stored.origin, text: stored.text.text, dropped: None })
                    }
                })?;
            }
        }
    }
    Ok(())
}
