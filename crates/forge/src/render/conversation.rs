//! Conversations into text, with what of them is learned.
//!
//! The built-in template writes plain text that any base model's tokenizer takes as it is:
//!
//! ```text
//! System: You are an airline agent.
//!
//! Tools:
//! {"name":"get_user","description":"…","parameters":{…}}
//!
//! User: Book me a flight.
//!
//! Assistant: I look you up first.
//! Call: {"name":"get_user","arguments":{"id":"mia"}}
//!
//! Result: {"name": "Mia"}
//! ```
//!
//! The other choice is the chat template of the tokenizer's folder, run exactly as Hugging Face runs it.

use std::path::{Path, PathBuf};

use hephaestus_core::settings::quantity::Share;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat_template::ChatTemplate;
use crate::document::{Call, Conversation, LEARNED, Message, Role, Text};

/// How conversations become text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which template writes them.
    pub template: Template,
    /// Write the tools on offer before the first turn; they are part of what a call is learned from.
    pub tools: bool,
    /// How much of the loss falls on whose turns.
    pub weights: Weights,
}

/// Which template writes conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Plain text with `User:`, `Assistant:`, `Call:` and `Result:`, for base models, which have no chat template.
    #[default]
    Builtin,
    /// The chat template in the tokenizer's folder.
    Tokenizer,
}

/// Loss weights by who speaks, 0 (never learned) to 1. The heading that opens an assistant's turn is never learned: whoever
/// runs the model writes it.
///
/// The defaults are those of continual pre-training, not of instruction tuning: a trajectory is learned as a whole, what the
/// environment answers and what users ask included, as the Hephaestus paper (arXiv 2502.06589) trains on feedback; learning
/// from both sides also helps where turns are short (arXiv 2405.14394). Two parts are not learned: system prompts, which
/// stand word for word in every conversation of a set, and the turns that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// System prompts and the tools on offer. They repeat throughout a set; unlearned, they only condition what follows.
    pub system: Share,
    /// What users say.
    pub user: Share,
    /// What the assistant says and calls, with the end of its turn.
    pub assistant: Share,
    /// What tools return, errors included.
    pub tool: Share,
    /// Assistants' turns that called for an error: the recovery from them is learned, they are not (AgentRefine, arXiv
    /// 2501.01702).
    pub failed: Share,
}

impl Default for Settings {
    fn default() -> Self {
        Self { template: Template::default(), tools: true, weights: Weights::default() }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { system: Share(0.0), user: Share(1.0), assistant: Share(1.0), tool: Share(1.0), failed: Share(0.0) }
    }
}

impl Weights {
    /// The weight of a message, 0 to 255.
    pub(super) fn of(&self, message: &Message) -> u8 {
        let share = match message.role {
            Role::System => self.system,
            Role::User => self.user,
            Role::Assistant if message.failed => self.failed,
            Role::Assistant => self.assistant,
            Role::Tool => self.tool,
        };
        byte(share)
    }

    /// The weight of the tools on offer.
    pub(super) fn of_tools(&self) -> u8 {
        byte(self.system)
    }
}

/// A share as the `.loss` file has it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 255 before")]
fn byte(share: Share) -> u8 {
    (share.0.clamp(0.0, 1.0) * f64::from(LEARNED)).round() as u8
}

/// A chat template that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// A file of the tokenizer's folder cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// A file of the tokenizer's folder is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder has no chat template.
    #[error(
        "{}: no chat template here (chat_template.jinja, or chat_template in tokenizer_config.json), as base models have none; \
         set `template: builtin`",
        .0.display()
    )]
    Missing(PathBuf),
    /// The template does not compile.
    #[error("{}: the chat template `{name}` does not compile: {reason}", folder.display())]
    Template {
        /// The tokenizer's folder.
        folder: PathBuf,
        /// The template's name: `default`, `tool_use`.
        name: String,
        /// What the template engine says.
        reason: String,
    },
}

/// Renders conversations; any number of threads may at once.
#[derive(Debug, Default)]
pub struct Conversations {
    settings: Settings,
    template: Option<ChatTemplate>,
}

impl Conversations {
    /// Reads what the settings need of the tokenizer's folder: nothing for the built-in template.
    ///
    /// # Errors
    /// The folder has no chat template, or one that cannot be used.
    pub fn new(settings: &Settings, tokenizer: &Path) -> Result<Self, ChatError> {
        let template = match settings.template {
            Template::Builtin => None,
            Template::Tokenizer => Some(ChatTemplate::load(tokenizer)?),
        };
        Ok(Self { settings: settings.clone(), template })
    }

    /// A conversation's text, with its loss weights and, from the tokenizer's template, its special tokens.
    ///
    /// # Errors
    /// In words, where the tokenizer's template refuses the conversation or it cannot be told whose text is whose. The
    /// built-in template takes every conversation.
    pub fn text(&self, conversation: &Conversation) -> Result<Text, String> {
        let tools = if self.settings.tools { conversation.tools.as_slice() } else { &[] };
        match &self.template {
            Some(template) => template.text(&conversation.messages, tools, &self.settings.weights),
            None => Ok(plain(&conversation.messages, tools, &self.settings.weights)),
        }
    }
}

/// The built-in template.
fn plain(messages: &[Message], tools: &[Value], weights: &Weights) -> Text {
    let mut out = Text::default();
    // What ends a turn is learned as the turn is: by it a model stops.
    let mut last = None;
    let mut open = |out: &mut Text, weight: u8| {
        if let Some(last) = last.replace(weight) {
            out.push("\n\n", last);
        }
    };
    let mut tools = Some(tools).filter(|tools| !tools.is_empty());
    // Whether the results to come must say which call they answer.
    let mut several = false;
    for message in messages {
        if message.role != Role::System
            && let Some(tools) = tools.take()
        {
            open(&mut out, weights.of_tools());
            list(tools, weights.of_tools(), &mut out);
        }
        let weight = weights.of(message);
        open(&mut out, weight);
        let said = message.content.trim();
        match message.role {
            Role::System => out.push("System:", weight),
            Role::User => out.push("User:", weight),
            Role::Assistant => {
                several = message.calls.len() > 1;
                out.push("Assistant:", 0);
            }
            Role::Tool => match message.name.as_deref().filter(|_| several) {
                Some(name) => out.push(&format!("Result of {name}:"), weight),
                None => out.push("Result:", weight),
            },
        }
        if !said.is_empty() {
            // A page begins below its heading; whoever speaks goes on behind it.
            let page = matches!(message.role, Role::System | Role::Tool) && said.contains('\n');
            out.push(if page { "\n" } else { " " }, weight);
            out.push(said, weight);
        }
        for call in &message.calls {
            out.push("\nCall: ", weight);
            out.push(&json(call), weight);
        }
    }
    if let Some(tools) = tools {
        open(&mut out, weights.of_tools());
        list(tools, weights.of_tools(), &mut out);
    }
    out.simplified()
}

fn list(tools: &[Value], weight: u8, out: &mut Text) {
    out.push("Tools:", weight);
    for tool in tools {
        out.push("\n", weight);
        out.push(&tool.to_string(), weight);
    }
}

/// `{"name":…,"arguments":…}` without spaces.
fn json(call: &Call) -> String {
    format!("{{\"name\":{},\"arguments\":{}}}", Value::String(call.name.clone()), call.arguments)
}

#[cfg(test)]
mod tests;
