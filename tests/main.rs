//! Integration tests: one binary, a module a subject.
mod corpus;
mod cuda;
mod export;
mod forge;
mod hf;
mod metrics;
mod native;
mod parity;
mod plan;
mod recipe;
mod train;
