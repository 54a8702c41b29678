//! What training and forging both stand on, free of libtorch.
//!
//! In reading order:
//!
//! - [`settings`]: files that a user writes, checked key by key.
//! - [`vocabulary`]: a tokenizer as its Hugging Face folder gives it.
//! - [`corpus`]: the token corpus on disk, and the rows that training reads from it.
//! - [`whole`]: files that are whole or not there; [`hashed`]: files that are hashed while they are written.
//! - [`figures`], [`progress`] and [`trace`]: numbers as people read them, bars for what takes a while, and what happens
//!   inside.

pub mod corpus;
pub mod figures;
pub mod hashed;
pub mod progress;
pub mod settings;
pub mod trace;
pub mod vocabulary;
pub mod whole;
