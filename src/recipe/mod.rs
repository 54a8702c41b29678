//! What the user wrote: a recipe.
//!
//! [`sections`] are its keys, [`quantity`] how numbers are written in it. Free of libtorch.

pub mod quantity;
pub mod sections;
mod written;

pub use sections::Recipe;
