//! What keys of a recipe owe each other, as far as the recipe alone can tell.

use hephaestus_core::settings::or;
use hephaestus_core::settings::problem::{Positions, Problem, nearest};

use super::sections::{Input, Recipe};
use crate::readers::Kind;

/// Every rule that is broken.
pub(super) fn broken(recipe: &Recipe, positions: &Positions) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut complain = |key: &str, message: String| problems.push(positions.problem(key, message));
    if recipe.sources.is_empty() {
        complain("sources", "holds no source: name at least one".to_owned());
    }
    if recipe.end_of_document.is_empty() {
        complain("end_of_document", "is empty: expected auto, none or a token of the tokenizer".to_owned());
    }
    if recipe.work.part.0 < 1_000 {
        complain("work.part", format!("is {}: a part has 1k bytes at least", recipe.work.part));
    }
    for (name, source) in &recipe.sources {
        let key = format!("sources.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_') {
            complain(&key, "a source is named by letters, digits, - and _: its files have the name".to_owned());
        }
        if source.inputs.is_empty() {
            complain(&format!("{key}.inputs"), "is empty: give at least one input".to_owned());
        }
        for (at, input) in source.inputs.iter().enumerate() {
            options(input, &format!("{key}.inputs.{at}"), positions, &mut complain);
        }
        for (option, message) in source.quality.broken() {
            complain(&format!("{key}.quality.{option}"), message);
        }
        if let Some(select) = &source.select
            && !recipe.classifiers.contains_key(&select.classifier)
        {
            let names: Vec<&str> = recipe.classifiers.keys().map(String::as_str).collect();
            let message = match (nearest(&select.classifier, names.iter().copied()), names.is_empty()) {
                (Some(near), _) => format!("no classifier is called {}; did you mean {near}?", select.classifier),
                (None, true) => "there are no classifiers: describe one in the section classifiers".to_owned(),
                (None, false) => format!("no classifier is called {}; there is {}", select.classifier, or(&names)),
            };
            complain(&format!("{key}.select.classifier"), message);
        }
    }
    for (option, message) in recipe.decontamination.broken() {
        complain(&format!("decontamination.{option}"), message);
    }
    for (name, classifier) in &recipe.classifiers {
        for (key, message) in classifier.broken() {
            complain(&format!("classifiers.{name}.{key}"), message);
        }
        for (list, inputs) in [("positive", &classifier.positive), ("negative", &classifier.negative)] {
            let key = format!("classifiers.{name}.{list}");
            if inputs.is_empty() {
                complain(&key, "is empty: give at least one input".to_owned());
            }
            for (at, input) in inputs.iter().enumerate() {
                options(input, &format!("{key}.{at}"), positions, &mut complain);
            }
        }
    }
    problems
}

/// Keys that only some readers have.
fn options(input: &Input, key: &str, positions: &Positions, complain: &mut dyn FnMut(&str, String)) {
    use Kind::{Jsonl, Parquet, Records, Trajectories};
    if input.paths.is_empty() {
        complain(&format!("{key}.paths"), "is empty: give at least one file or folder".to_owned());
    }
    for (option, readers) in [
        ("field", &[Jsonl, Parquet][..]),
        ("fields", &[Records]),
        ("form", &[Trajectories]),
        ("at_least", &[Trajectories]),
    ] {
        let option_key = format!("{key}.{option}");
        if positions.written(&option_key) && !readers.contains(&input.reader) {
            let names: Vec<&str> = readers.iter().map(|kind| kind.name()).collect();
            complain(
                &option_key,
                format!("has no part in the {} reader: it belongs to {}", input.reader.name(), or(&names)),
            );
        }
    }
    if input.reader == Records && !input.fields.contains_key("name") {
        complain(&format!("{key}.fields"), "names no field `name`: say where a record holds the API's name".to_owned());
    }
}
