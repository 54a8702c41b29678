//! Integration tests: one binary, a module a subject.
mod corpus;
mod export;
mod forge;
mod hf;
mod native;
mod parity;
mod plan;
mod recipe;
