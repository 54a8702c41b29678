//! One decoder for the Llama family, from a Hugging Face folder or fresh.
//!
//! In reading order: [`config`] is its shape, [`parameters`] its weights, [`decoder`] the whole; [`norm`], [`rope`],
//! [`attention`] and [`mlp`] are what a layer is made of, [`loss`] comes after the last, or [`generate`]; [`batch`] and [`segments`] are what
//! it reads. Everything runs on the flattened tokens of a packed batch.

pub mod attention;
pub mod batch;
pub mod config;
pub mod decoder;
pub mod generate;
mod layer;
mod linear;
pub mod loss;
pub mod mlp;
pub mod norm;
pub mod parameters;
pub mod rope;
pub mod segments;
pub mod twins;
