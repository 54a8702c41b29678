//! Hugging Face folders: the configuration, the names of parameters, and weights.
//!
//! [`config`], [`names`] and [`dtype`] are plain data, free of libtorch, so that recipes and plans can use them;
//! [`import`] moves tensors.

pub mod config;
pub mod dtype;
pub mod error;
mod fields;
pub mod import;
pub mod names;
mod rope;

pub use error::HfError;
