//! One decoder for the Llama family.

pub mod config;
