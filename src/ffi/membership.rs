//! Who a group is, and what is said where one of its members fails.

use std::fmt;
use std::time::Duration;

use tch::{Device, TchError};

/// Who a group is, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// What errors call it, such as "shard group".
    pub name: String,
    /// The rank of this process among all.
    pub rank: usize,
    /// How many processes there are in all.
    pub world: usize,
    /// The ranks among all of the group's members, in the order of their ranks in the group.
    pub members: Vec<usize>,
    /// Where its tensors lie.
    pub device: Device,
    /// How long a member waits for the others in any one collective.
    pub timeout: Duration,
}

/// What became of a collective that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{collective} on rank {rank} of {world} ({group}): {}{detail}", because(*.timed_out))]
pub struct CollectiveError {
    /// What was to be done.
    pub collective: &'static str,
    /// The rank among all of the process that says so.
    pub rank: usize,
    /// How many processes there are in all.
    pub world: usize,
    /// The group's name and members.
    pub group: String,
    /// How long the others had, where that passed without an answer.
    pub timed_out: Option<Duration>,
    /// c10d's words.
    pub detail: String,
}

fn because(timed_out: Option<Duration>) -> String {
    timed_out.map_or(String::new(), |limit| format!("no answer within {} s: ", limit.as_secs_f64()))
}

impl Membership {
    pub(crate) fn failed(&self, collective: &'static str, error: &TchError) -> CollectiveError {
        let text = match error {
            TchError::Torch(text) => text.clone(),
            other => other.to_string(),
        };
        let lower = text.to_lowercase();
        let timed_out = ["timed out", "timeout"].iter().any(|words| lower.contains(words));
        CollectiveError {
            collective,
            rank: self.rank,
            world: self.world,
            group: self.to_string(),
            timed_out: timed_out.then_some(self.timeout),
            detail: reason(&text),
        }
    }
}

/// What went wrong, in a line. NCCL's reason is the line after this heading, far below the code that it was called from.
fn reason(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| *line != "Last error:").skip(1);
    match lines.next().filter(|line| !line.is_empty()) {
        Some(reason) => format!("NCCL: {reason}"),
        None => text.lines().next().unwrap_or_default().to_owned(),
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let members = &self.members;
        if members.len() == self.world {
            return Ok(());
        }
        if let [first, second, .., last] = members.as_slice()
            && members.len() > 8
        {
            return write!(f, " of ranks {first}, {second} to {last}");
        }
        let listed: Vec<_> = members.iter().map(usize::to_string).collect();
        write!(f, " of {} {}", if members.len() == 1 { "rank" } else { "ranks" }, listed.join(", "))
    }
}
