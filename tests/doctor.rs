//! `hephaestus-doctor`, as a user runs it.

use assert_cmd::Command;

#[test]
fn the_doctor_finds_nothing_bad_on_a_cpu_and_measures_every_function() {
    let output = Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-doctor")))
        .args(["--device", "cpu"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let line =
        |what: &str| text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what}:\n{text}"));
    for what in ["libtorch", "disk", "memory, copied", "matrix product"] {
        line(what);
    }
    for function in ["rms_norm", "rotate", "swiglu", "norm_linear", "attention", "cross_entropy", "adamw"] {
        for kind in ["fp32", "bf16"] {
            let line = line(&format!("{function}, {kind}"));
            assert!(line.starts_with("ok") && line.contains("off by") && line.contains(" ms"), "{line}");
        }
    }
    for way in ["parameters, bf16", "parameters, fp8"] {
        assert!(line(way).starts_with("ok") && line(way).contains("tokens/s"), "{text}");
    }
}
