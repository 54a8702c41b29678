//! Conversations with tools, in the forms that people publish them in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The form of a trajectory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Told by the keys of each record.
    #[default]
    Auto,
    /// OpenAI's messages with `tool_calls`; tau-bench's records of them.
    Openai,
    /// ShareGPT's `conversations` of `from` and `value`.
    Sharegpt,
    /// ToolBench's `conversations` of thoughts, actions and inputs.
    Toolbench,
    /// ReAct text: `Thought:`, `Action:`, `Action Input:`, `Observation:`.
    React,
}
