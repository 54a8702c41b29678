//! AdamW, clipping, and the learning-rate schedule.

pub mod schedule;
