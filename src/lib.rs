//! Hephaestus: continual pre-training for language-model agents.
//!
//! In reading order:
//!
//! - [`recipe`]: what the user wrote.
//! - [`plan`]: recipe, model, corpora and machine resolved into one plan; every cross-field error is found here.
//! - [`corpus`]: the token corpus on disk: index, writer, packing, mixture, loader.
//! - [`forge`]: documents into corpora: tokenizer training, readers, inspection.
//! - [`model`]: one decoder for the Llama family.
//! - [`optim`]: AdamW, clipping, the learning-rate schedule.
//! - [`hf`]: Hugging Face folders: configuration, names, import, export.
//! - [`checkpoint`]: saving and loading a run, whole or not at all.
//! - [`metrics`]: what a run tells: console, files, throughput.
//! - [`train`]: the loop, one step, validation.
//! - [`ffi`]: the boundary to `native/`.

pub mod checkpoint;
pub mod corpus;
pub mod ffi;
pub mod forge;
pub mod hf;
pub mod metrics;
pub mod model;
pub mod optim;
pub mod plan;
pub mod recipe;
pub mod train;
