//! Files of settings: what a user writes in YAML, held against the types that describe it.
//!
//! In reading order: [`quantity`] is how numbers are written; [`load`](mod@load) reads a file, [`problem`] is what it says
//! of one that is wrong; [`schema`](mod@schema) and [`reference`](mod@reference) describe all of a kind.

mod check;
pub mod load;
mod overrides;
mod path;
pub mod problem;
pub mod quantity;
pub mod reference;
pub mod schema;
mod tree;
mod written;

pub use check::or;
pub use load::{Loaded, RecipeError, STANDARD_INPUT, Settings, load, parse};
pub use reference::reference;
pub use schema::{schema, to_yaml};
