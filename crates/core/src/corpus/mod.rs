//! The token corpus on disk, in Megatron-LM's `.bin`/`.idx` with a manifest beside it.
//!
//! [`writer`] writes one whole or not at all, [`index`] opens one at the same cost whatever its size, [`manifest`] is what
//! is known of it besides its tokens, [`mod@format`] what they agree on. For training, a [`source`] is one corpus as rows:
//! [`held_out`] sets documents aside, [`stream`] packs the others into the rows of a [`batch`] (or `best_fit` does). A [`mixture`] of sources,
//! each in the order of a [`permutation`], is the one [`order`] of a run, and a [`loader`] reads its steps ahead. Free of
//! libtorch.

pub mod batch;
mod best_fit;
pub mod format;
pub mod held_out;
pub mod index;
pub mod loader;
pub mod manifest;
pub mod mixture;
pub mod order;
pub mod permutation;
mod reader;
mod row;
#[cfg(test)]
mod sample;
pub mod source;
mod storage;
pub mod stream;
pub mod writer;

pub use format::CorpusError;
pub use index::Corpus;
pub use manifest::{Manifest, ManifestInfo};
pub use writer::Writer;
