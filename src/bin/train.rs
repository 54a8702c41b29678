//! hephaestus-train.
fn main() {}
