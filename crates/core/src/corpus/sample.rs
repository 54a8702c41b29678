//! A small corpus for tests.

use std::path::PathBuf;

use super::format::TokenType;
use super::{ManifestInfo, Writer};

/// The first token; every token of the corpus is one more than that before it, so that each can be told from all others.
pub(super) const FIRST: i64 = 100;

/// Writes documents of these lengths, with these loss weights; returns the folder and the prefix in it.
pub(super) fn corpus(lengths: &[usize], weights: Option<&[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("c");
    let mut writer = Writer::create(&prefix, TokenType::I32).unwrap();
    let mut next = FIRST as u32..;
    let mut weights = weights;
    for length in lengths {
        let own = weights.map(|all| {
            let (own, rest) = all.split_at(*length);
            weights = Some(rest);
            own
        });
        writer.document(&next.by_ref().take(*length).collect::<Vec<_>>(), own).unwrap();
    }
    let info = ManifestInfo { vocab_size: 1 << 30, ..ManifestInfo::default() };
    writer.finish(info).unwrap();
    (folder, prefix)
}
