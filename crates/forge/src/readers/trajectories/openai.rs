//! OpenAI's messages, with `tool_calls` and the older `function_call`; tau-bench's records of them.

use serde_json::{Map, Value};

use super::{arguments, fields, keys, kind, pairing, tau_bench, tools};
use crate::document::{Call, Conversation, Message, Role};

/// Where the messages may be.
pub(super) const KEYS: [&str; 3] = ["messages", "traj", "conversations"];

/// A conversation from a record with its messages, or from the bare list of them.
pub(super) fn conversation(value: Value) -> Result<Conversation, String> {
    let (list, mut record, pointer) = match value {
        Value::Array(list) => (list, Map::new(), String::new()),
        Value::Object(mut record) => {
            if let Some(Value::String(display)) = record.get(tau_bench::DISPLAY) {
                let messages = tau_bench::displayed(display)?;
                return Ok(Conversation { messages, tools: tools(record.remove("tools"))?, fields: fields(record) });
            }
            let Some(key) = KEYS.into_iter().find(|key| record.contains_key(*key)) else {
                return Err(format!("has {}; expected `messages` or `traj`", keys(&record)));
            };
            match record.remove(key) {
                Some(Value::Array(list)) => (list, record, format!("/{key}")),
                other => return Err(format!("/{key} is {}; expected a list", kind(&other.unwrap_or(Value::Null)))),
            }
        }
        other => return Err(format!("is {}; expected an object with `messages`", kind(&other))),
    };
    let mut messages = Vec::with_capacity(list.len());
    for (at, item) in list.into_iter().enumerate() {
        messages.push(message(item).map_err(|reason| format!("{pointer}/{at}: {reason}"))?);
    }
    if pointer == "/traj" {
        tau_bench::without_signal(&mut messages);
    }
    pairing::pair(&mut messages, &pointer)?;
    let functions = record.remove("functions");
    let tools = tools(record.remove("tools").filter(|tools| !tools.is_null()).or(functions))?;
    Ok(Conversation { messages, tools, fields: fields(record) })
}

fn message(value: Value) -> Result<Message, String> {
    let Value::Object(mut message) = value else {
        return Err(format!("is {}; expected an object", kind(&value)));
    };
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function") => Role::Tool,
        Some(other) => {
            let other = super::clipped(other, 40);
            return Err(format!("`role` is `{other}`; expected system, developer, user, assistant, tool or function"));
        }
        None => return Err(format!("has {}; expected a `role` that is a string", keys(&message))),
    };
    let content = content(message.remove("content").unwrap_or(Value::Null), role)?;
    let content = match message.remove("reasoning_content") {
        // As the templates of reasoning models write it, and read it back out of the content.
        Some(Value::String(thought)) if !thought.trim().is_empty() => {
            format!("<think>\n{}\n</think>\n\n{content}", thought.trim())
        }
        _ => content,
    };
    let mut calls = match message.remove("tool_calls") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(calls)) => calls
            .into_iter()
            .enumerate()
            .map(|(at, value)| call(value).map_err(|reason| format!("/tool_calls/{at}: {reason}")))
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(format!("`tool_calls` is {}; expected a list", kind(&other))),
    };
    if let Some(value) = message.remove("function_call").filter(|value| !value.is_null()) {
        calls.push(call(value).map_err(|reason| format!("/function_call: {reason}"))?);
    }
    if !calls.is_empty() && role != Role::Assistant {
        return Err("calls tools, which only an assistant's message can".to_owned());
    }
    let of_tool = |value: Option<Value>| match value {
        Some(Value::String(text)) if role == Role::Tool && !text.is_empty() => Some(text),
        _ => None,
    };
    let (name, call_id) = (of_tool(message.remove("name")), of_tool(message.remove("tool_call_id")));
    Ok(Message { role, content, calls, name, call_id, failed: false })
}

/// What is said: a string, nothing, or a list of parts that are text. A tool may return any JSON.
fn content(value: Value, role: Role) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text),
        Value::Array(parts) if parts.iter().all(|part| part.is_string() || part.get("type").is_some()) => {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                let of = part.get("type").and_then(Value::as_str).unwrap_or("text");
                match part.as_str().or_else(|| part.get("text")?.as_str()) {
                    Some(piece) if matches!(of, "text" | "input_text" | "output_text") => text.push_str(piece),
                    _ => {
                        let of = super::clipped(of, 40);
                        return Err(format!("/content/{at} is a part of type `{of}`; only parts of text are read"));
                    }
                }
            }
            Ok(text)
        }
        other if role == Role::Tool => Ok(other.to_string()),
        other => Err(format!("`content` is {}; expected a string, null or a list of parts", kind(&other))),
    }
}

/// A call, wrapped in `function` or not.
pub(super) fn call(value: Value) -> Result<Call, String> {
    let Value::Object(mut call) = value else {
        return Err(format!("is {}; expected an object", kind(&value)));
    };
    let id = match call.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Some(id),
        _ => None,
    };
    let mut function = match call.remove("function") {
        Some(Value::Object(function)) => function,
        Some(other) => return Err(format!("`function` is {}; expected an object", kind(&other))),
        None => call,
    };
    match function.remove("name") {
        Some(Value::String(name)) if !name.is_empty() => {
            Ok(Call { id, name, arguments: arguments(function.remove("arguments")) })
        }
        _ => Err("has no `name` of the function that is called".to_owned()),
    }
}
