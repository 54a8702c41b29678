//! Integration tests: one binary, a module a subject.
mod compat;
mod corpus;
mod cuda;
mod distributed;
mod doctor;
mod export;
mod faults;
mod hf;
mod kernels;
mod memory;
mod metrics;
mod native;
mod parity;
mod plan;
mod recipe;
mod resume;
mod signals;
mod skipped;
mod survival;
mod train;

use std::path::{Path, PathBuf};

use skipped::skipped;

/// The checkout: the current directory where that is one, as on a machine that these tests were carried to, else where they
/// were compiled.
fn root() -> PathBuf {
    let here = Path::new("Cargo.toml").is_file().then(|| std::env::current_dir().ok()).flatten();
    here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}

/// The Python with the oracle in it: `HEPHAESTUS_PYTHON` where it is set, else what `make setup` installs.
fn python() -> PathBuf {
    std::env::var_os("HEPHAESTUS_PYTHON").map_or_else(|| root().join(".venv/bin/python"), PathBuf::from)
}

/// A program that was built with these tests, or of that name in the folder `HEPHAESTUS_PROGRAMS`.
fn program(built: &str) -> PathBuf {
    let built = Path::new(built);
    let carried = std::env::var_os("HEPHAESTUS_PROGRAMS").zip(built.file_name());
    carried.map_or_else(|| built.to_owned(), |(folder, name)| Path::new(&folder).join(name))
}

/// The training recipes that are shipped; those that begin with `forge` are the forge's.
fn recipes() -> Vec<PathBuf> {
    let entries = fs_err::read_dir(root().join("recipes")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let forges = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("forge");
    paths.filter(|path| path.extension().is_some_and(|end| end == "yaml") && !forges(path)).collect()
}
