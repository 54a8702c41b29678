//! The token corpus.
pub mod batch;
pub mod index;
