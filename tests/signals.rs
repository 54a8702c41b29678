//! Signals to a run: no thread that computes ever takes one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::train::{program, workshop};

const SIGNALS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// A run that does not end by itself, once it has saved a checkpoint.
fn under_way(folder: &TempDir) -> Child {
    let mut run = Command::new(program("train"));
    run.args(["--recipe", "cpt.yaml", "--set", "stages.0.steps=1000000"]).current_dir(folder.path());
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !folder.path().join("out/step-4").is_dir() {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        thread::sleep(Duration::from_millis(1));
    }
    run
}

/// The signals of a line of a status file, such as `SigBlk`, by their numbers; `None` of a thread that has ended.
fn set(status: &Path, line: &str) -> Option<u64> {
    let text = fs_err::read_to_string(status).ok()?;
    let found = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))?;
    u64::from_str_radix(found.trim(), 16).ok()
}

#[test]
fn every_thread_blocks_signals_and_none_has_a_handler() {
    let folder = workshop();
    let mut run = under_way(&folder);
    let process = Path::new("/proc").join(run.id().to_string());
    let tasks = fs_err::read_dir(process.join("task")).unwrap().map(|task| task.unwrap().path());
    // The thread that waits for signals computes nothing; the kernel shows them unblocked while it waits.
    let waits = |task: &PathBuf| fs_err::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "signals");
    let (waiting, others): (Vec<_>, Vec<_>) = tasks.partition(waits);
    let blocked: Vec<_> = others.iter().filter_map(|task| set(&task.join("status"), "SigBlk")).collect();
    let caught = set(&process.join("status"), "SigCgt").unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(waiting.len(), 1, "threads that wait for signals");
    assert!(blocked.len() > 2, "the run has threads that compute, read and wait: {blocked:?}");
    for signal in SIGNALS {
        let bit = 1 << (signal as u32 - 1);
        assert!(caught & bit == 0, "{signal} has a handler");
        assert!(blocked.iter().all(|set| set & bit != 0), "{signal} is not blocked in every thread: {blocked:x?}");
    }
}

#[test]
fn thousands_of_signals_are_answered_with_one_checkpoint() {
    let folder = workshop();
    let run = under_way(&folder);
    let process = Pid::from_raw(run.id().cast_signed());
    let began = Instant::now();
    let mut sent = 0;
    // Well within the time in which they are one request, on busy cores too.
    while sent < 20_000 && began.elapsed() < Duration::from_millis(500) {
        for signal in SIGNALS {
            sent += u32::from(kill(process, signal).is_ok());
        }
    }
    assert!(sent > 1000, "{sent} signals were sent");
    let ended = run.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(130), "{:?}: {out}{err}", ended.status);
    let saved = out.strip_prefix("stopped: ").and_then(|out| out.split_once(';')).unwrap().0;
    assert!(folder.path().join(saved).join("manifest.json").is_file(), "{out}");
}
