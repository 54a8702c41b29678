//! What a run wrote, read by others: TensorBoard's own readers.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hephaestus::metrics::reporter::{Reporter, Settings};
use hephaestus::metrics::{Progress, SourceLoss, Validation};
use serde_json::{Value, json};

fn progress(step: u64, loss: f64) -> Progress {
    Progress {
        step,
        steps: 400,
        stage: "main".to_owned(),
        tokens: step * 16_384,
        loss,
        grad_norm: 0.5,
        lr: 3e-4,
        tokens_per_second: 12_345.5,
        mfu: Some(0.375),
        communicated: None,
        memory: 3_100_000_000,
        waited: 0.125,
        skipped: 0,
        sources: vec![("tool docs".to_owned(), loss + 1.0)],
        eta: Duration::from_secs(130),
    }
}

fn validation(step: u64, loss: f64) -> Validation {
    let sources = vec![SourceLoss { name: "code".to_owned(), loss, tokens: 512 }];
    Validation { step, tokens: step * 16_384, sources }
}

fn reporter(output: &Path, from_step: u64) -> Reporter {
    let settings = Settings { output, name: "test", steps: 400, from_step, tensorboard: true, terminal: false };
    Reporter::open(&settings)
}

fn read(output: &Path) -> Value {
    let python = crate::python();
    let script = crate::root().join("tests/metrics/read.py");
    let run = Command::new(&python).arg(script).arg(output.join("tensorboard")).output();
    let run = run.unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", python.display()));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// What one of TensorBoard's readers says of a tag, in the single precision that event files have.
fn points(seen: &Value, tag: &str) -> Vec<(u64, f32)> {
    let points = seen[tag].as_array().unwrap_or_else(|| panic!("no tag {tag} in {seen}"));
    points.iter().map(|point| (point[0].as_u64().unwrap(), point[1].as_f64().unwrap() as f32)).collect()
}

#[test]
fn tensorboard_reads_what_a_run_wrote_and_forgets_what_a_resume_trains_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let mut first = reporter(&output, 0);
    first.validation(&validation(0, 9.0));
    for (step, loss) in [(10, 8.1), (20, 7.2), (30, 6.3)] {
        first.step(step);
        first.progress(&progress(step, loss));
    }
    first.close();
    // Killed after step 30 while it wrote: the last checkpoint is of step 20.
    let mut second = reporter(&output, 20);
    second.progress(&progress(30, 6.25));
    second.validation(&validation(30, 1.0));
    second.close();

    let seen = read(&output);
    assert_eq!(
        seen["files"],
        json!([
            { "version": "brain.Event:2", "status": 1, "step": 0, "events": 6 },
            { "version": "brain.Event:2", "status": 1, "step": 21, "events": 4 },
        ])
    );
    let each = |value: f32| [(10, value), (20, value), (30, value)];
    let expected = [
        ("train/loss", &[(10, 8.1), (20, 7.2), (30, 6.25)][..]),
        ("train/loss/tool docs", &[(10, 9.1), (20, 8.2), (30, 7.25)]),
        ("train/grad_norm", &each(0.5)),
        ("train/lr", &each(3e-4)),
        ("train/tokens_per_second", &each(12_345.5)),
        ("train/mfu", &each(0.375)),
        ("validation/loss/code", &[(0, 9.0), (30, 1.0)]),
        ("validation/perplexity/code", &[(0, 9_f64.exp() as f32), (30, 1_f64.exp() as f32)]),
    ];
    for reader in ["old", "new"] {
        for (tag, expected) in expected {
            assert_eq!(points(&seen[reader], tag), expected, "{reader}: {tag}");
        }
        assert_eq!(seen[reader].as_object().unwrap().len(), expected.len(), "{reader}");
    }
}

#[test]
fn tensorboard_reads_on_past_an_event_that_a_killed_run_left_half() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = reporter(folder.path(), 0);
    first.progress(&progress(10, 8.0));
    first.progress(&progress(20, 7.0));
    first.close();
    let events = fs_err::read_dir(folder.path().join("tensorboard")).unwrap().next().unwrap().unwrap().path();
    let whole = fs_err::read(&events).unwrap();
    fs_err::write(&events, &whole[..whole.len() - 7]).unwrap();
    let mut second = reporter(folder.path(), 10);
    second.progress(&progress(20, 6.0));
    second.close();
    assert_eq!(points(&read(folder.path())["new"], "train/loss"), [(10, 8.0), (20, 6.0)]);
}

#[test]
fn tensorboard_forgets_what_was_in_the_folder_before_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    for loss in [8.0, 7.5] {
        let mut run = reporter(folder.path(), 0);
        run.validation(&validation(0, loss));
        run.close();
    }
    assert_eq!(points(&read(folder.path())["new"], "validation/loss/code"), [(0, 7.5)]);
}
