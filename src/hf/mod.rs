//! Hugging Face folders: the configuration, the names of parameters, and weights.
//!
//! [`config`], [`names`] and [`dtype`] are plain data, free of libtorch, so that recipes and plans can use them, as are
//! [`headers`], which checks weights without reading them, and [`companions`], the files beside them;
//! [`import`] and [`export`] move tensors, out of files as [`stored`] reads them, into files as [`layout`] divides them;
//! [`tensors`] is one such file. [`verify`] compares what they make.

pub mod companions;
pub mod config;
pub mod dtype;
pub mod error;
pub mod export;
mod fields;
mod fill;
pub mod folder;
pub mod harmless;
pub mod headers;
pub mod import;
pub mod layout;
mod mapped;
pub mod names;
mod rope;
pub mod stored;
pub mod tensors;
pub mod verify;

pub use error::HfError;
