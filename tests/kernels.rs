//! The kernels' arithmetic, on a machine without a GPU: compiled as C++ and run by `kernels/emulator.h`.

use std::process::Command;

#[test]
fn every_kernel_computes_what_the_loops_for_the_cpu_do() {
    let root = crate::root();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kernels");
    let mut kernels: Vec<_> = fs_err::read_dir(root.join("native/kernels"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cu"))
        .collect();
    kernels.sort();
    assert!(!kernels.is_empty());
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let compiled = Command::new(compiler)
        .args(["-std=c++17", "-O1", "-fno-strict-aliasing", "-DHEPHAESTUS_EMULATED", "-o"])
        .arg(&program)
        .arg("-I")
        .arg(root.join("tests/kernels"))
        .args(["-x", "c++"])
        .args(kernels)
        .arg(root.join("native/rows.cpp"))
        .arg(root.join("tests/kernels/main.cpp"))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(program).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}
