//! The optimizer: [`adamw`] updates, [`schedule`] says at what rate, [`slice`](mod@slice) is what of a tensor a rank holds.

pub mod adamw;
pub mod schedule;
pub mod slice;
