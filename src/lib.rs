//! Hephaestus: continual pre-training for language-model agents.
//!
//! In reading order:
//!
//! - [`corpus`]: the token corpus on disk: index, writer, manifest.
//! - [`forge`]: documents into corpora: readers, tokenizer training, tokenizing, inspection.
//! - [`model`]: the shape of a decoder of the Llama family.
//! - [`hf`]: Hugging Face folders: configuration and parameter names.
//! - [`ffi`]: the boundary to `native/` and with it to libtorch.

pub mod corpus;
pub mod ffi;
pub mod forge;
pub mod hf;
pub mod model;
