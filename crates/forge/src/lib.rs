//! Documents into corpora: readers, tokenizer training, tokenizing, and looking at the result.
//!
//! In reading order: [`readers`] turn files into documents, with [`python`] understanding installed Python packages;
//! [`bpe`] trains a tokenizer on documents; [`tokenize`](mod@tokenize) writes a corpus;
//! [`inspect`](mod@inspect) and [`verify`](mod@verify) look at one. Free of libtorch.

pub mod bpe;
pub mod document;
pub mod duplicates;
pub mod encode;
pub mod inspect;
pub mod python;
pub mod quality;
pub mod readers;
pub mod recipe;
pub mod render;
pub mod retrieval;
pub mod tokenize;
pub mod verify;
