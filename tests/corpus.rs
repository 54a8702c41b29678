//! Corpora as others write them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hephaestus::corpus::batch::Batch;
use hephaestus::corpus::stream::Stream;
use hephaestus::corpus::{Corpus, held_out};

/// The documents of `fixtures/megatron/make.py`.
const DOCUMENTS: [&[i64]; 5] = [&[1, 2, 3], &[], &[4, 5, 6, 7, 8, 9, 10], &[11], &[60000, 12]];

fn fixture(name: &str) -> PathBuf {
    crate::root().join("tests/fixtures/megatron").join(name)
}

#[test]
fn what_megatrons_own_builder_wrote_is_read_in_both_widths() {
    for (name, width) in [("uint16", 2), ("int32", 4)] {
        let corpus = Corpus::open(&fixture(name)).unwrap();
        assert_eq!((corpus.documents(), corpus.tokens(), corpus.token_size()), (5, 13, width));
        assert!(corpus.manifest().is_none());
        for (number, expected) in DOCUMENTS.iter().enumerate() {
            let mut tokens = Vec::new();
            corpus.read(corpus.document_range(number as u64).unwrap(), &mut tokens).unwrap();
            assert_eq!(&tokens, expected, "{name}: document {number}");
        }
    }
}

#[test]
fn documents_of_several_sequences_are_packed_as_wholes_and_held_out_ones_stay_out() {
    let corpus = Arc::new(Corpus::open(&fixture("uint16")).unwrap());
    let split = held_out::split(corpus.documents(), 0.2);
    let row = |ranges: &[std::ops::Range<u64>]| {
        let stream = Stream::new(&corpus, ranges, Some(0), 1 << 16).unwrap();
        let mut batch = Batch::default();
        stream.row(0, stream.length() as usize, &mut batch).unwrap();
        (batch.tokens, batch.segments)
    };
    assert_eq!(row(&split.held_out), (vec![60000, 12, 0], vec![3]));
    assert_eq!(row(&split.train), (vec![1, 2, 3, 0, 0, 4, 5, 6, 7, 8, 9, 10, 0, 11, 0], vec![4, 1, 8, 2]));
}

/// Waits until a run has made a step.
fn wait_for_a_step(run: &mut Child, metrics: &std::path::Path) {
    while !fs_err::read_to_string(metrics).is_ok_and(|text| text.contains("\"event\":\"train\"")) {
        assert!(run.try_wait().unwrap().is_none(), "the run ended before its first step");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_corpus_cut_short_while_a_run_reads_it_is_an_error_that_saves_what_was_trained() {
    let folder = crate::train::workshop();
    let mut run = Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-train")))
        .current_dir(folder.path())
        .args(["--recipe", "cpt.yaml", "--set", "stages.0.steps=1000000", "--set", "checkpoint.every=1000000"])
        .args(["--set", "validation.every=0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_a_step(&mut run, &folder.path().join("out/metrics.jsonl"));
    let corpus = folder.path().join("corpora/prose.bin");
    fs_err::OpenOptions::new().write(true).open(&corpus).unwrap().set_len(1000).unwrap();
    let ended = run.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    let told = err.lines().find(|line| line.contains("corpora/prose.bin: byte ")).unwrap_or_else(|| panic!("{err}"));
    assert!(told.contains("cannot be read: the file has 1000 bytes, and had "), "{told}");
    let names = fs_err::read_dir(folder.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().starts_with("step-")), "{err}");
}
