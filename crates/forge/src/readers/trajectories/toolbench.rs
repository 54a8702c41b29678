//! ToolBench's conversations (arXiv 2307.16789): ShareGPT's turns, with the APIs in the system prompt as a Python list and
//! each assistant's turn a thought, an action and its input.

use serde_json::Value;

use super::{fields, pairing, python_literal, react, sharegpt};
use crate::document::{Conversation, Role};

/// What comes before the list of APIs in the system prompt.
const MARKERS: [&str; 2] =
    ["Specifically, you have access to the following APIs:", "You have access to the following APIs:"];

/// Whether ShareGPT's turns are ToolBench's: an assistant acts in words.
pub(super) fn looks_like(turns: &[Value]) -> bool {
    turns.iter().any(|turn| {
        let from = turn.get("from").and_then(Value::as_str);
        let value = turn.get("value").and_then(Value::as_str).unwrap_or_default();
        matches!(from, Some("assistant" | "gpt")) && value.contains("\nAction:") && value.contains("\nAction Input:")
    })
}

/// A conversation from a record. The list of APIs moves from the system prompt to the conversation's tools.
pub(super) fn conversation(value: Value) -> Result<Conversation, String> {
    let sharegpt::Turns { turns, record, pointer } = sharegpt::turns(value)?;
    let mut conversation = Conversation { fields: fields(record), ..Conversation::default() };
    for sharegpt::Turn { role, said, .. } in turns {
        conversation.messages.push(match role {
            Role::Assistant => react::turn(&said),
            Role::System => {
                let (said, tools) = apis(&said);
                conversation.tools.extend(tools);
                sharegpt::plain(role, said)
            }
            Role::User | Role::Tool => sharegpt::plain(role, said.trim().to_owned()),
        });
    }
    pairing::pair(&mut conversation.messages, &pointer)?;
    Ok(conversation)
}

/// The system prompt without its list of APIs, and the list; the prompt as it is where the list does not parse.
fn apis(prompt: &str) -> (String, Vec<Value>) {
    for marker in MARKERS {
        let Some((before, after)) = prompt.split_once(marker) else { continue };
        let list = after.trim_start();
        if let Some((Value::Array(tools), length)) = python_literal::parse(list)
            && tools.iter().all(|tool| tool.get("name").is_some_and(Value::is_string))
        {
            return (format!("{}\n{}", before.trim_end(), list[length..].trim()).trim().to_owned(), tools);
        }
    }
    (prompt.trim().to_owned(), Vec::new())
}
