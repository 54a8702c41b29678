//! The token corpus on disk, in Megatron-LM's `.bin`/`.idx` with a manifest beside it.
//!
//! [`writer`] writes one whole or not at all, [`index`] opens one at the same cost whatever its size, [`manifest`] is what
//! is known of it besides its tokens, [`mod@format`] what they agree on; a [`batch`] is what training takes from it and a
//! [`permutation`] the order in which it does. Free of libtorch.

pub mod batch;
pub mod format;
pub mod index;
pub mod manifest;
pub mod permutation;
pub mod writer;

pub use format::CorpusError;
pub use index::Corpus;
pub use manifest::{Manifest, ManifestInfo};
pub use writer::Writer;
