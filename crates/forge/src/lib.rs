//! Documents into corpora. Free of libtorch.
//!
//! In reading order:
//!
//! - [`recipe`]: what the user wrote.
//! - [`document`]: a document on its way from a file to tokens.
//! - [`readers`]: files into documents; [`python`] understands installed packages.
//! - [`render`]: documents into text, with what of it is learned.
//! - [`quality`], [`retrieval`] and [`duplicates`]: which of them stay.
//! - [`encode`]: texts into tokens.
//! - [`build`]: all of it together, part by part, so that it may be interrupted and spread over machines.
//! - [`report`]: what became of everything.
//! - [`bpe`] trains a tokenizer; [`inspect`](mod@inspect) and [`verify`](mod@verify) look at a corpus.

mod ahead;
pub mod bpe;
pub mod build;
pub mod document;
pub mod duplicates;
pub mod encode;
pub mod inspect;
pub mod python;
pub mod quality;
pub mod readers;
pub mod recipe;
pub mod render;
pub mod report;
pub mod retrieval;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
pub mod verify;
mod visible;

#[cfg(test)]
use skipped::skipped;
