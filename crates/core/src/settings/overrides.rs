//! `--set data.sequence_length=4096`: a key of the recipe by its path, and a value written as YAML.
//!
//! They are applied to the tree before it is checked, so a key that does not exist is refused as one in the file is.

use super::problem::Place;
use super::tree::{self, Complaint, Entry, Node, Value};

/// Applies override number `at` to the recipe.
pub(super) fn apply(root: &mut Node, at: usize, text: &str) -> Result<(), Vec<Complaint>> {
    let place = Place::Override(at);
    let refused = |message: String| vec![(place, message)];
    let Some((path, written)) = text.split_once('=') else {
        return Err(refused("expected KEY=VALUE, such as data.sequence_length=4096".to_owned()));
    };
    let steps: Vec<&str> = path.trim().split('.').collect();
    if steps.contains(&"") {
        return Err(refused(format!("`{path}` is not a key: write names with a dot between them")));
    }
    let (node, complaints) = tree::parse(written, &|_| place);
    if !complaints.is_empty() {
        return Err(complaints);
    }
    let empty = || Node { place, value: Value::Scalar { text: String::new(), plain: true } };
    let mut here = root;
    let mut behind = String::new();
    for (number, step) in steps.iter().enumerate() {
        if here.is_null() {
            *here = Node::empty(place);
        }
        let found = here.describe();
        here = match &mut here.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|entry| entry.key == *step).unwrap_or_else(|| {
                    entries.push(Entry { key: (*step).to_owned(), place, node: empty() });
                    entries.len() - 1
                });
                if number + 1 == steps.len() {
                    entries[at].place = place;
                }
                &mut entries[at].node
            }
            Value::List(items) => {
                let held = items.len();
                match step.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                    Some(item) => item,
                    None => {
                        return Err(refused(format!(
                            "{behind}.{step}: there is no such entry, {behind} holds {held}, counted from 0"
                        )));
                    }
                }
            }
            Value::Scalar { .. } => return Err(refused(format!("{behind} is {found}, not a section"))),
        };
        if !behind.is_empty() {
            behind.push('.');
        }
        behind.push_str(step);
    }
    *here = node.unwrap_or_else(empty);
    Ok(())
}
