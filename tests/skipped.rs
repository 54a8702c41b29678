//! What tests of all packages say when they skip.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that a test skipped, past the test runner, which shows nobody what a passing test prints; and in the file that
/// `HEPHAESTUS_SKIPPED` names, which `make test` shows at its end.
pub(crate) fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    let Some(path) = std::env::var_os("HEPHAESTUS_SKIPPED") else { return };
    let told =
        OpenOptions::new().append(true).create(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    told.expect("HEPHAESTUS_SKIPPED names a file that can be written");
}
