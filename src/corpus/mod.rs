//! The token corpus.
pub mod batch;
