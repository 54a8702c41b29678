//! Integration tests: one binary, a module a subject.
mod forge;
mod native;
mod parity;
