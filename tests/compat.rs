//! Exports in releases of transformers other than the one in `.venv`, as `make compat` installs them.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hephaestus::hf::harmless::TRANSFORMERS;
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

/// The logits of `models` in the transformers of `version`.
fn logits(packages: Option<&Path>, version: &str, models: &[PathBuf], into: &Path) -> HashMap<String, Tensor> {
    let file = into.join(format!("{version}.safetensors"));
    let program = crate::root().join("tests/compat/logits.py");
    let mut arguments = vec![program.as_os_str(), version.as_ref(), file.as_os_str()];
    arguments.extend(models.iter().map(|model| model.as_os_str()));
    python(packages, &arguments);
    Tensor::read_safetensors(&file).unwrap().into_iter().collect()
}

/// Those folders, each with the release in it; none, said aloud, where `test` is to be skipped.
fn releases(test: &str) -> Option<Vec<(Option<PathBuf>, String)>> {
    let Some(folders) = std::env::var_os(FOLDERS) else {
        crate::skipped(test, "no older releases of transformers: `make compat` installs them and runs it");
        return None;
    };
    let named = std::env::split_paths(&folders).map(|packages| {
        let name = packages.file_name().unwrap().to_string_lossy().into_owned();
        (Some(packages), name.trim_start_matches("transformers-").to_owned())
    });
    Some(std::iter::once((None, "5.".to_owned())).chain(named).collect())
}

/// What a Python program prints, with the packages in a folder before those in `.venv`.
fn python(packages: Option<&Path>, arguments: &[&OsStr]) -> String {
    let mut python = Command::new(crate::python());
    if let Some(packages) = packages {
        python.env("PYTHONPATH", packages);
    }
    let run = python.args(arguments).output().expect("`make setup` installs the Python in .venv");
    assert!(run.status.success(), "{packages:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn exports_compute_the_same_in_transformers_4_as_their_originals_in_transformers_5() {
    let test = "exports_compute_the_same_in_transformers_4_as_their_originals_in_transformers_5";
    let Some(releases) = releases(test) else { return };
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
    for (packages, version) in releases {
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

#[test]
fn keys_that_change_nothing_are_those_that_no_release_of_transformers_computes_with() {
    let test = "keys_that_change_nothing_are_those_that_no_release_of_transformers_computes_with";
    let Some(releases) = releases(test) else { return };
    let (mut harmless, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (packages, version) in releases {
        let program = crate::root().join("tests/compat/keys.py");
        for line in python(packages.as_deref(), &[program.as_os_str()]).lines() {
            let (verdict, key) = line.split_once(' ').unwrap();
            if verdict == "+" { &mut harmless } else { &mut refused }.insert(key.to_owned());
        }
        let whole = "import json, transformers\nfor name in ['Llama', 'Mistral', 'Qwen2', 'Qwen3']:\n    \
                     config = getattr(transformers, name + 'Config')(architectures=[name + 'ForCausalLM'])\n    \
                     print(json.dumps(config.to_dict()))";
        for line in python(packages.as_deref(), &["-c".as_ref(), whole.as_ref()]).lines() {
            let config: Value = serde_json::from_str(line).unwrap();
            let read = hephaestus::hf::config::parse(config.as_object().unwrap().clone());
            assert!(read.is_ok(), "{version}: {read:?}");
        }
    }
    let harmless: Vec<_> = harmless.difference(&refused).collect();
    assert_eq!(harmless, TRANSFORMERS.iter().collect::<Vec<_>>());
}
