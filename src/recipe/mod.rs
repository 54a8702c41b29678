//! What the user wrote: a recipe.
//!
//! In reading order: [`sections`] are its keys, [`quantity`] how numbers are written in it; [`load`](mod@load) reads one,
//! [`problem`] is what it says of one that is wrong, [`schema`](mod@schema) and [`reference`](mod@reference) describe all of them. Free of
//! libtorch.

mod check;
pub mod load;
mod overrides;
pub mod problem;
pub mod quantity;
pub mod reference;
mod rules;
pub mod schema;
pub mod sections;
mod tree;
mod written;

pub use load::{Loaded, RecipeError, load};
pub use reference::reference;
pub use schema::{schema, to_yaml};
pub use sections::Recipe;
