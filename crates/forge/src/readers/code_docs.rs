//! Documentation comments of Rust, JavaScript and TypeScript sources.
