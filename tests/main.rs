//! Integration tests: one binary, a module a subject.
mod forge;
mod hf;
mod native;
mod parity;
