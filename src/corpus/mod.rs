//! The token corpus on disk, in Megatron-LM's `.bin`/`.idx` with a manifest beside it.
//!
//! [`writer`] writes one whole or not at all, [`index`] opens one at the same cost whatever its size, [`manifest`] is what
//! is known of it besides its tokens, [`mod@format`] what they agree on. For training, [`held_out`] sets documents aside,
//! [`stream`] packs the others into the rows of a [`batch`], and a [`permutation`] is their order. Free of libtorch.

pub mod batch;
pub mod format;
pub mod held_out;
pub mod index;
pub mod manifest;
pub mod permutation;
mod row;
mod storage;
pub mod stream;
pub mod writer;

pub use format::CorpusError;
pub use index::Corpus;
pub use manifest::{Manifest, ManifestInfo};
pub use writer::Writer;
