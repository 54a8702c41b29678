//! The optimizer: [`adamw`].

pub mod adamw;
