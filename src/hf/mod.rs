//! Hugging Face folders: the configuration and the names of parameters.
//!
//! Plain data, free of libtorch, so that recipes and plans can use it.

pub mod config;
pub mod dtype;
pub mod error;
mod fields;
pub mod names;
mod rope;

pub use error::HfError;
