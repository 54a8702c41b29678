//! Hephaestus: continual pre-training for language-model agents.
//!
//! In reading order:
//!
//! - [`recipe`]: what the user wrote, checked key by key.
//! - [`plan`]: recipe, model, corpora and machine resolved into one plan.
//! - [`corpus`]: the token corpus on disk, and the rows that training reads from it.
//! - [`model`]: one decoder for the Llama family.
//! - [`optim`]: the optimizer, and the learning rate as a function of the step.
//! - [`hf`]: Hugging Face folders: configuration, parameter names, weights.
//! - [`checkpoint`]: what a run saves, and how it is believed again.
//! - [`distributed`]: several processes that train together: how they meet, what they share of a model, how they fail.
//! - [`train`]: the loop: one step, validation, stopping and going on.
//! - [`doctor`]: what a machine can do, checked and measured.
//! - [`figures`], [`progress`] and [`trace`]: numbers as people read them, bars for what takes a while, and what happens
//!   inside.
//! - [`ffi`]: the boundary to `native/` and with it to libtorch.

pub mod checkpoint;
pub mod distributed;
pub mod doctor;
pub mod ffi;
pub mod hf;
pub mod metrics;
pub mod model;
pub mod optim;
mod own;
pub mod plan;
pub mod recipe;
pub mod train;

pub use hephaestus_core::{corpus, figures, progress, trace};
