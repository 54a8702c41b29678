//! Documents into corpora: readers, tokenizer training, tokenizing, and looking at the result.
//!
//! In reading order: [`readers`] turn files into documents, with [`python`] understanding installed Python packages;
//! [`bpe`] trains a tokenizer on documents; [`vocabulary`] loads one; [`tokenize`](mod@tokenize) writes a corpus;
//! [`inspect`](mod@inspect) and [`verify`](mod@verify) look at one. Nothing here imports `tch`.

pub mod bpe;
pub mod inspect;
pub mod python;
pub mod readers;
pub mod tokenize;
pub mod verify;
pub mod vocabulary;
