//! Exports in releases of transformers other than the one in `.venv`, as `make compat` installs them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::parity::{FAMILIES, folder};

/// Folders that `make compat` makes, separated by colons; each is named for what is in it, such as `transformers-4.51.3`.
const FOLDERS: &str = "HEPHAESTUS_COMPAT";

/// The models of every family, and one with linear scaling, as fp32 folders in the spelling of transformers 5.
fn originals(into: &Path) -> Vec<PathBuf> {
    let mut originals: Vec<_> = FAMILIES.iter().map(|name| folder().join(name)).collect();
    let linear = into.join("llama_linear");
    fs_err::create_dir(&linear).unwrap();
    fs_err::copy(folder().join("llama2/model.safetensors"), linear.join("model.safetensors")).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs_err::read(folder().join("llama2/config.json")).unwrap()).unwrap();
    config["rope_parameters"] = json!({ "rope_type": "linear", "rope_theta": 1e4, "factor": 4.0 });
    fs_err::write(linear.join("config.json"), config.to_string()).unwrap();
    originals.push(linear);
    originals
}

/// The logits of `models` in the transformers of `version`, found in `packages` before `.venv`.
fn logits(packages: Option<&Path>, version: &str, models: &[PathBuf], into: &Path) -> HashMap<String, Tensor> {
    let file = into.join(format!("{version}.safetensors"));
    let mut python = Command::new(crate::python());
    if let Some(packages) = packages {
        python.env("PYTHONPATH", packages);
    }
    let run = python.arg(crate::root().join("tests/compat/logits.py")).arg(version).arg(&file).args(models).output();
    let run = run.expect("`make setup` installs the Python in .venv");
    assert!(run.status.success(), "{version}: {}", String::from_utf8_lossy(&run.stderr));
    Tensor::read_safetensors(&file).unwrap().into_iter().collect()
}

#[test]
fn exports_compute_the_same_in_transformers_4_as_their_originals_in_transformers_5() {
    let Some(folders) = std::env::var_os(FOLDERS) else {
        crate::skipped(
            "exports_compute_the_same_in_transformers_4_as_their_originals_in_transformers_5",
            "no older releases of transformers: `make compat` installs them",
        );
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let originals = originals(out.path());
    let exports: Vec<_> = originals
        .iter()
        .map(|original| {
            let to = out.path().join(format!("{}-export", original.file_name().unwrap().display()));
            let mut export = assert_cmd::Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-export")));
            export.arg(original).arg(&to).assert().success();
            to
        })
        .collect();
    let expected = logits(None, "5.", &originals, out.path());
    let mut versions = vec![(None, "5.".to_owned())];
    for packages in std::env::split_paths(&folders) {
        let name = packages.file_name().unwrap().to_string_lossy().into_owned();
        versions.push((Some(packages), name.trim_start_matches("transformers-").to_owned()));
    }
    for (packages, version) in versions {
        let found = logits(packages.as_deref(), &version, &exports, out.path());
        for (original, export) in originals.iter().zip(&exports) {
            let [expected, found] =
                [(&expected, original), (&found, export)].map(|(all, path)| &all[path.to_str().unwrap()]);
            let difference = (found - expected).abs().max().double_value(&[]);
            assert_eq!(found.kind(), Kind::Float);
            assert!(difference < 1e-4, "{} in transformers {version}: {difference:e}", export.display());
        }
    }
}
