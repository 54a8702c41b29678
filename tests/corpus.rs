//! Corpora as others write them.

use std::path::PathBuf;
use std::sync::Arc;

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
        let stream = Stream::new(&corpus, ranges, Some(0)).unwrap();
        let mut batch = Batch::default();
        stream.row(0, stream.length() as usize, &mut batch).unwrap();
        (batch.tokens, batch.segments)
    };
    assert_eq!(row(&split.held_out), (vec![60000, 12, 0], vec![3]));
    assert_eq!(row(&split.train), (vec![1, 2, 3, 0, 0, 4, 5, 6, 7, 8, 9, 10, 0, 11, 0], vec![4, 1, 8, 2]));
}
