//! What is tau-bench's own: how its simulated user ends a conversation, and its conversations as displayed text.

use super::failure::is_failure;
use crate::document::{Message, Role};

/// The key of a conversation as text.
pub(super) const DISPLAY: &str = "messages_display";

/// What the simulated user says to the harness when it is done; no user would, and no model should learn to expect it.
const SIGNAL: &str = "###STOP###";

/// Takes the signal out of what users say, and the turns that were nothing else.
pub(super) fn without_signal(messages: &mut Vec<Message>) {
    messages.retain_mut(|message| {
        if message.role != Role::User || !message.content.contains(SIGNAL) {
            return true;
        }
        message.content = message.content.replace(SIGNAL, "").trim().to_owned();
        !message.content.is_empty()
    });
}

/// Reads displayed text: `user: …`, `assistant: …`, `tool: …`, each at the beginning of a line.
///
/// The display leaves out the calls (`assistant: None` is where they were), so results stand without one here.
pub(super) fn displayed(text: &str) -> Result<Vec<Message>, String> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text.split('\n') {
        let turn = line.split_once(':').and_then(|(name, said)| {
            let role = match name {
                "system" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "tool" => Role::Tool,
                _ => return None,
            };
            Some((role, said.strip_prefix(' ').unwrap_or(said)))
        });
        match (turn, messages.last_mut()) {
            (Some((role, said)), _) => messages.push(Message {
                role,
                content: said.to_owned(),
                calls: Vec::new(),
                name: None,
                call_id: None,
                failed: false,
            }),
            (None, Some(message)) => {
                message.content.push('\n');
                message.content.push_str(line);
            }
            (None, None) if line.trim().is_empty() => {}
            (None, None) => {
                let line = super::clipped(line, 60);
                return Err(format!("`{DISPLAY}` begins with `{line}`; expected `user: …` or another role"));
            }
        }
    }
    without_signal(&mut messages);
    messages.retain(|message| message.role != Role::Assistant || message.content != "None");
    for message in messages.iter_mut().filter(|message| message.role == Role::Tool) {
        message.failed = is_failure(&message.content);
    }
    if messages.is_empty() { Err(format!("`{DISPLAY}` holds no turn")) } else { Ok(messages) }
}
