//! Ranks that are not told the same do not begin.

use super::training::{folder, line, within};
use super::*;

/// What the second of two ranks is told of, which runs in `other` with `set` besides.
fn refused(first: &TempDir, other: &TempDir, set: &[&str]) -> String {
    let (port, mut job) = (free_port(), Job::new("train", 2));
    let shared = format!("run.output={}", first.path().join("out").display());
    for (rank, folder) in [first, other].into_iter().enumerate() {
        let set: Vec<_> = [shared.as_str()].into_iter().chain(set.iter().copied().filter(|_| rank == 1)).collect();
        job.start(within(folder, &line(&set, &[])), &by_hand(rank, 2, port));
    }
    let (ended, _) = job.end();
    assert!(ended.iter().all(|ended| ended.code == Some(1)), "{ended:#?}");
    let errors: Vec<_> = ended.iter().flat_map(failures::errors).collect();
    let [error] = errors[..] else { panic!("{} reports: {ended:#?}", errors.len()) };
    assert!(!first.path().join("out/step-0").exists());
    error.to_owned()
}

#[test]
fn a_recipe_that_differs_is_refused_by_the_keys() {
    let folder = folder();
    let said = refused(&folder, &folder, &["optimizer.weight_decay=0.2", "batch.micro_sequences=4"]);
    let expected = "batch.micro_sequences is 4 here, and 2 on rank 0; optimizer.weight_decay is 0.2 here, and 0.1 on rank 0: \
                    give all machines the same";
    assert!(said.contains("rank 1 of 2 (") && said.ends_with(expected), "{said}");
}

#[test]
fn a_corpus_that_differs_is_refused_by_its_name() {
    let (first, other) = (folder(), folder());
    for end in ["bin", "idx"] {
        let corpora = other.path().join("corpora");
        fs_err::copy(corpora.join(format!("code.{end}")), corpora.join(format!("prose.{end}"))).unwrap();
    }
    let said = refused(&first, &other, &[]);
    assert!(said.contains("rank 1 of 2 (") && said.contains("corpus corpora/prose is "), "{said}");
}
