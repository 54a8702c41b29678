//! Failing disks: every call of `hephaestus-train` that changes its output is made to fail, or to be the last one of the process,
//! and the same command then ends in the same checkpoint.
//!
//! `faults/inject.c` is what makes them fail. The suite tries some of the calls; `make faults` tries each of them in every way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hephaestus::checkpoint::find;
use hephaestus::checkpoint::manifest::Manifest;
use tempfile::TempDir;

/// Set for every call; else so many are tried.
const ALL: &str = "HEPHAESTUS_FAULTS";
const TRIED: usize = 20;

/// What befalls a call; see `inject.c`.
const KINDS: [&str; 4] = ["ENOSPC", "kill", "EIO", "torn"];

/// A run of two checkpoints, of which the second replaces the first.
const RUN: [&str; 7] = [
    "--recipe=cpt.yaml",
    "--set=stages.0.steps=2",
    "--set=stages.1.steps=2",
    "--set=checkpoint.every=2",
    "--set=checkpoint.keep_last=1",
    "--set=validation.every=2",
    "--set=validation.sequences=1",
];

/// The last checkpoint of the run.
const LAST: u64 = 4;

struct Injector {
    library: PathBuf,
    count: PathBuf,
    _folder: TempDir,
}

impl Injector {
    fn compile() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("inject.so");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let source = crate::root().join("tests/faults/inject.c");
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Self { library, count: folder.path().join("count"), _folder: folder }
    }

    /// The run, in which `kind` befalls the call of number `at`.
    fn run(&self, folder: &Path, kind: &str, at: usize) -> Output {
        let output = folder.join("out");
        fs_err::create_dir_all(&output).unwrap();
        let mut run = train(folder);
        run.env("LD_PRELOAD", &self.library).env("FAULT_UNDER", output).env("FAULT_COUNT", &self.count);
        run.env("FAULT_KIND", kind).env("FAULT_AT", at.to_string()).output().unwrap()
    }

    /// How many calls of the last run could have failed.
    fn calls(&self) -> usize {
        fs_err::read_to_string(&self.count).unwrap().trim().parse().unwrap()
    }
}

fn train(folder: &Path) -> Command {
    let mut command = Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-train")));
    command.current_dir(folder).args(RUN).env("OMP_NUM_THREADS", "1");
    command
}

/// The checkpoint at the end of the run: all that does not name a folder.
fn last(folder: &Path) -> Vec<Vec<u8>> {
    let files = ["model/model.safetensors", "optimizer.safetensors", "state.json"];
    let checkpoint = find::folder(&folder.join("out"), LAST);
    files.map(|name| fs_err::read(checkpoint.join(name)).unwrap()).into()
}

/// Every checkpoint that is there under its name is whole; returns the steps of them.
fn whole(folder: &Path, what: &str) -> Vec<u64> {
    let found = find::all(&folder.join("out")).unwrap();
    for (step, checkpoint) in &found {
        let verified = Manifest::read(checkpoint).and_then(|manifest| manifest.verify(checkpoint, (0, 1)));
        verified.unwrap_or_else(|error| panic!("{what}: step {step}: {error}"));
    }
    found.into_iter().map(|(step, _)| step).collect()
}

#[test]
fn whatever_write_fails_or_is_the_last_no_checkpoint_is_half_and_the_same_command_ends_alike() {
    let injector = Injector::compile();
    let folder = crate::train::workshop();
    let undisturbed = injector.run(folder.path(), "none", 0);
    assert!(undisturbed.status.success(), "{}", String::from_utf8_lossy(&undisturbed.stderr));
    let (calls, expected) = (injector.calls(), last(folder.path()));
    assert!(calls > 50, "only {calls} calls were seen");

    let tried: Vec<_> = match std::env::var_os(ALL) {
        Some(_) => (1..=calls).flat_map(|at| KINDS.map(|kind| (kind, at))).collect(),
        None => {
            (0..TRIED).map(|number| (KINDS[number % KINDS.len()], 1 + number * (calls - 1) / (TRIED - 1))).collect()
        }
    };
    for (kind, at) in tried {
        let what = format!("{kind} at call {at} of {calls}");
        fs_err::remove_dir_all(folder.path().join("out")).unwrap();
        let run = injector.run(folder.path(), kind, at);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!said.contains("panicked"), "{what}: {said}");
        match (kind, run.status.code()) {
            ("kill" | "torn", code) => assert_eq!(code, None, "{what}: {said}"),
            // It may go on where nothing of the run is lost, and else says why it ends.
            (_, Some(0)) => {}
            (_, code) => {
                assert!(code == Some(1) && said.lines().any(|line| line.starts_with("error: ")), "{what}: {said}")
            }
        }
        let saved = whole(folder.path(), &what);
        let told =
            said.lines().filter_map(|line| line.split("saved out/step-").nth(1)?.split(' ').next()?.parse().ok());
        assert!(told.max() <= saved.last().copied(), "{what}: {saved:?} is there: {said}");

        let again = train(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.success(), "{what}, then: {said}");
        assert!(last(folder.path()) == expected, "{what}: other weights, moments or state: {said}");
        // One that was to be removed may stay where there was nothing left to save.
        assert_eq!(whole(folder.path(), &what).last(), Some(&LAST), "{what}");
        let hidden = fs_err::read_dir(folder.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = hidden.filter(|name| name.to_string_lossy().starts_with(".step-")).collect();
        assert!(left.is_empty(), "{what}: {left:?} are left");
    }
}
