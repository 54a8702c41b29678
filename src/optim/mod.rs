//! The optimizer: [`adamw`] updates, [`schedule`] says at what rate.

pub mod adamw;
pub mod schedule;
