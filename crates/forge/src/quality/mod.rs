//! Which documents are good enough to learn from, and what is taken out of those that are.
//!
//! In reading order: [`Settings`] say what a source asks for; [`Scrubber`] takes personal data and secrets out of a
//! document before it is rendered; [`Filter`] judges the rendered text by the published heuristics ([`settings`] names
//! their sources) and by its language; [`decontamination`] finds benchmark items in it.

mod c4;
mod code;
pub mod decontamination;
mod filter;
mod fineweb;
mod gopher;
mod language;
mod lines;
mod repetition;
pub mod scrub;
pub mod settings;
mod words;

pub use filter::{Drop, Filter, FilterError};
pub use language::UnknownLanguage;
pub use scrub::{Scrubbed, Scrubber};
pub use settings::Settings;

#[cfg(test)]
mod tests;
