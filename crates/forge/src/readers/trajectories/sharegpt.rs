//! ShareGPT's conversations: turns of `from` and `value`, with calls as turns of their own or in Hermes's tags.

use serde_json::{Map, Value};

use super::{clipped, fields, keys, kind, openai, pairing, python_literal, tools};
use crate::document::{Call, Conversation, Message, Role};

/// Where the turns may be.
pub(super) const KEYS: [&str; 2] = ["conversations", "conversation"];

/// Who speaks, and whether the turn is nothing but calls.
fn role(from: &str) -> Option<(Role, bool)> {
    Some(match from {
        "system" => (Role::System, false),
        "human" | "user" => (Role::User, false),
        "gpt" | "assistant" | "model" | "chatgpt" => (Role::Assistant, false),
        "function_call" | "tool_call" => (Role::Assistant, true),
        "observation" | "tool" | "function" | "function_response" | "tool_response" => (Role::Tool, false),
        _ => return None,
    })
}

/// The turns of a record.
pub(super) struct Turns {
    /// In order.
    pub(super) turns: Vec<Turn>,
    /// What else the record holds.
    pub(super) record: Map<String, Value>,
    /// The JSON pointer of the list of turns.
    pub(super) pointer: String,
}

/// One turn.
pub(super) struct Turn {
    pub(super) role: Role,
    /// Whether it is nothing but calls.
    calls: bool,
    pub(super) said: String,
}

/// The turns of a record, or of the bare list of them.
pub(super) fn turns(value: Value) -> Result<Turns, String> {
    let (list, record, pointer) = match value {
        Value::Array(list) => (list, Map::new(), String::new()),
        Value::Object(mut record) => {
            let Some(key) = KEYS.into_iter().find(|key| record.contains_key(*key)) else {
                return Err(format!("has {}; expected `conversations`", keys(&record)));
            };
            match record.remove(key) {
                Some(Value::Array(list)) => (list, record, format!("/{key}")),
                other => return Err(format!("/{key} is {}; expected a list", kind(&other.unwrap_or(Value::Null)))),
            }
        }
        other => return Err(format!("is {}; expected an object with `conversations`", kind(&other))),
    };
    let mut turns = Vec::with_capacity(list.len());
    for (at, item) in list.into_iter().enumerate() {
        let wrong = |reason: String| format!("{pointer}/{at}: {reason}");
        let Value::Object(mut turn) = item else {
            return Err(wrong(format!("is {}; expected an object", kind(&item))));
        };
        let Some(from) = turn.get("from").and_then(Value::as_str) else {
            return Err(wrong(format!("has {}; expected a `from` that is a string", keys(&turn))));
        };
        let Some((role, calls)) = role(from) else {
            let from = clipped(from, 40);
            return Err(wrong(format!(
                "`from` is `{from}`; expected system, human, gpt, function_call or observation"
            )));
        };
        let said = match turn.remove("value") {
            Some(Value::String(text)) => text,
            None | Some(Value::Null) => return Err(wrong("has no `value`".to_owned())),
            Some(other) => other.to_string(),
        };
        turns.push(Turn { role, calls, said });
    }
    Ok(Turns { turns, record, pointer })
}

/// A conversation from a record, or from the bare list of its turns.
pub(super) fn conversation(value: Value) -> Result<Conversation, String> {
    let Turns { turns, mut record, pointer } = turns(value)?;
    let mut messages = Vec::with_capacity(turns.len() + 1);
    for (at, Turn { role, calls: only_calls, said }) in turns.into_iter().enumerate() {
        match (role, only_calls) {
            (Role::Assistant, true) => {
                let calls = calls(&said).map_err(|reason| format!("{pointer}/{at}: {reason}"))?;
                messages.push(assistant(String::new(), calls));
            }
            (Role::Assistant, false) => {
                let (content, calls) = tagged(said);
                messages.push(assistant(content, calls));
            }
            (Role::Tool, _) => messages.extend(responses(&said).into_iter().map(|said| plain(Role::Tool, said))),
            (Role::System | Role::User, _) => messages.push(plain(role, said)),
        }
    }
    pairing::pair(&mut messages, &pointer)?;
    if let Some(Value::String(system)) = record.remove("system")
        && !system.trim().is_empty()
        && messages.first().is_none_or(|first| first.role != Role::System)
    {
        messages.insert(0, plain(Role::System, system));
    }
    Ok(Conversation { messages, tools: tools(record.remove("tools"))?, fields: fields(record) })
}

pub(super) fn plain(role: Role, content: String) -> Message {
    Message { role, content, calls: Vec::new(), name: None, call_id: None, failed: false }
}

pub(super) fn assistant(content: String, calls: Vec<Call>) -> Message {
    Message { calls, ..plain(Role::Assistant, content) }
}

/// The calls that a turn is: one as JSON, or a list of them.
fn calls(text: &str) -> Result<Vec<Call>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("a call that is not JSON: {error}"))?;
    match value {
        Value::Array(list) => list.into_iter().map(openai::call).collect(),
        one => Ok(vec![openai::call(one)?]),
    }
}

/// Takes `<tool_call>…</tool_call>` out of what an assistant says, as the Hermes data sets write calls. Where one is no
/// call, what was said stays as it was.
fn tagged(said: String) -> (String, Vec<Call>) {
    let (pieces, inner) = cut(&said, "<tool_call>", "</tool_call>");
    let calls: Option<Vec<Call>> = inner
        .iter()
        .map(|text| {
            let text = text.trim();
            let value = serde_json::from_str(text).ok().or_else(|| Some(python_literal::parse(text)?.0))?;
            openai::call(value).ok()
        })
        .collect();
    match calls {
        Some(calls) if !calls.is_empty() => {
            let said: Vec<&str> = pieces.into_iter().map(str::trim).filter(|piece| !piece.is_empty()).collect();
            (said.join("\n\n"), calls)
        }
        _ => (said, Vec::new()),
    }
}

/// The results in a tool's turn: each in `<tool_response>`, or the whole.
fn responses(said: &str) -> Vec<String> {
    let (_, inner) = cut(said, "<tool_response>", "</tool_response>");
    if inner.is_empty() {
        return vec![said.to_owned()];
    }
    inner.into_iter().map(|text| text.trim().to_owned()).collect()
}

/// What is outside and what is inside of pairs of tags.
fn cut<'a>(text: &'a str, open: &str, close: &str) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut outside, mut inside, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some((before, after)) = rest.split_once(open)
        && let Some((inner, after)) = after.split_once(close)
    {
        outside.push(before);
        inside.push(inner);
        rest = after;
    }
    outside.push(rest);
    (outside, inside)
}
