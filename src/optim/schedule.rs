//! The learning rate as a pure function of the step.

/// Learning rate by step of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {}
