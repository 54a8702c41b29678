//! Integration tests: one binary, a module a subject.
mod export;
mod forge;
mod hf;
mod native;
mod parity;
