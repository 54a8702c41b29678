//! Forge recipes: those that are shipped, and what is said of those that are wrong.

use std::path::Path;

use hephaestus_forge::recipe;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn every_shipped_forge_recipe_loads() {
    for name in ["recipes/forge-agent.yaml", "recipes/quickstart/forge.yaml"] {
        recipe::load(&Path::new(ROOT).join(name), &[]).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_reference_is_what_the_types_say() {
    let path = Path::new(ROOT).join("docs/forge.md");
    let reference = recipe::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs_err::write(&path, &reference).unwrap();
    }
    let found = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(
        found == reference,
        "docs/forge.md is out of date: UPDATE_REFERENCE=1 cargo test --release the_reference writes it anew"
    );
}

#[test]
fn what_is_wrong_with_a_forge_recipe_is_said_all_at_once_with_line_and_column() {
    let text = "\
version: 1
output: out
tokenizer: tok
sources:
  tools:
    inputs:
      - { reader: openapis, paths: [x] }
      - { reader: records, paths: [], field: body }
      - { reader: text, path: [x], fields: { name: [a] } }
    select: { classifier: agent, threshold: 2 }
  \"bad name\":
    inputs: []
duplicates: { near: maybe, bands: 0 }
work: { part: 64Q }
";
    let problems = recipe::parse(text, Path::new("forge.yaml"), &["seed=-1".to_owned()]).unwrap_err();
    insta::assert_snapshot!(problems.to_string());
}
