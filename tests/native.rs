//! The boundary to libtorch.

use std::process::Command;

#[test]
fn the_versions_are_those_that_python_reports_of_the_same_libtorch() {
    let python = crate::python();
    let program = "import torch; print(torch.__version__.split('+')[0], torch.version.cuda)";
    let output = Command::new(&python).args(["-c", program]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", python.display()));
    let said = String::from_utf8(output.stdout).unwrap();
    let (libtorch, cuda) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{said:?}"));
    let versions = hephaestus::ffi::versions();
    assert_eq!(versions.libtorch, libtorch);
    let found = versions.cuda.map_or("None".to_owned(), |(major, minor)| format!("{major}.{minor}"));
    assert_eq!(found, cuda);
}
