//! Integration tests: one binary, a module a subject.
mod corpus;
mod cuda;
mod distributed;
mod doctor;
mod export;
mod hf;
mod kernels;
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

/// The training recipes that are shipped; those that begin with `forge` are the forge's.
fn recipes() -> Vec<std::path::PathBuf> {
    let entries = fs_err::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let forges = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().starts_with("forge");
    paths.filter(|path| path.extension().is_some_and(|end| end == "yaml") && !forges(path)).collect()
}
