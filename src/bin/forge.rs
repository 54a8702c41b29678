//! hephaestus-forge.
fn main() {}
