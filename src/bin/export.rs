//! hephaestus-export.
fn main() {}
