//! Hephaestus: continual pre-training for language-model agents.
//!
//! In reading order:
//!
//! - [`corpus`]: the token corpus on disk: index, writer, manifest.
//! - [`forge`]: documents into corpora: readers, tokenizer training, tokenizing, inspection.
//! - [`model`]: one decoder for the Llama family.
//! - [`optim`]: the optimizer.
//! - [`hf`]: Hugging Face folders: configuration, parameter names, weights.
//! - [`ffi`]: the boundary to `native/` and with it to libtorch.

pub mod corpus;
pub mod ffi;
pub mod forge;
pub mod hf;
pub mod model;
pub mod optim;
pub mod recipe;
