//! What comes up while a plan is made: problems that refuse it, and remarks that it is shown with.

use crate::recipe::problem::{Positions, Problem};

/// Problems and remarks so far.
pub(super) struct Findings<'a> {
    positions: &'a Positions,
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<String>,
}

impl<'a> Findings<'a> {
    /// None yet, in a recipe whose keys stand there.
    pub(super) fn new(positions: &'a Positions) -> Self {
        Self { positions, problems: Vec::new(), remarks: Vec::new() }
    }

    /// Refuses the plan for what `key` says.
    pub(super) fn complain(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(self.positions.problem(key, message));
    }

    /// Says something beside the plan.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }
}
