//! Benches of the corpus.
fn main() {}
