//! Integration tests: one binary, a module a subject.
mod corpus;
mod cuda;
mod export;
mod hf;
mod metrics;
mod native;
mod parity;
mod plan;
mod recipe;
mod train;

/// Says that a test skipped, past the test runner, which shows what a passing test prints to nobody.
fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
