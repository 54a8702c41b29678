//! Conversations with tools, in the forms that people publish them in.
//!
//! Each form becomes the same [`Conversation`]: thoughts are what an assistant's turn says, actions are its calls,
//! observations are tools' turns. Results are then paired with the calls they answer, and what ended in an
//! error is marked as failed, so that rendering may leave it unlearned.

mod failure;
mod openai;
mod pairing;
mod python_literal;
mod react;
mod sharegpt;
mod tau_bench;
mod toolbench;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json::kind;
use super::{BadRecord, Read};
use crate::document::{Content, Conversation, Document, Facts};
use crate::recipe::Input;

/// Longest text of a record's other fields that is kept to select by, in bytes.
const FIELD: usize = 200;

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

/// Reads one record: an element of an array, a line of JSON, or a whole file.
///
/// Pushes what it makes of it, one [`Read`] (of ReAct text: one an episode), or nothing where `input.at_least` does not
/// select the record.
pub fn documents(origin: &str, value: Value, input: &Input, out: &mut Vec<Read>) {
    let bad = |reason: String| Err(BadRecord { origin: origin.to_owned(), reason });
    match selected(&value, input) {
        Ok(true) => {}
        Ok(false) => return,
        Err(reason) => return out.push(bad(reason)),
    }
    match form_of(&value, input) {
        Err(reason) => out.push(bad(reason)),
        Ok(Form::React) => match react::text_of(value) {
            Ok(episodes) => text(origin, &episodes, input, out),
            Err(reason) => out.push(bad(reason)),
        },
        Ok(form) => {
            let read = match form {
                Form::Toolbench => toolbench::conversation(value),
                Form::Sharegpt => sharegpt::conversation(value),
                Form::Openai | Form::Auto | Form::React => openai::conversation(value),
            };
            out.push(match read {
                Ok(conversation) => Ok(document(origin.to_owned(), conversation, input)),
                Err(reason) => bad(reason),
            });
        }
    }
}

/// Reads plain ReAct text: a conversation for each `Question:`.
pub fn text(origin: &str, text: &str, input: &Input, out: &mut Vec<Read>) {
    for (line, read) in react::episodes(text) {
        let origin = format!("{origin}:{line}");
        out.push(match read {
            Ok(conversation) => Ok(document(origin, conversation, input)),
            Err(reason) => Err(BadRecord { origin, reason }),
        });
    }
}

fn document(origin: String, conversation: Conversation, input: &Input) -> Document {
    let facts = Facts { api: None, provider: input.provider.clone() };
    Document { origin, facts, content: Content::Conversation(conversation) }
}

/// Whether every field that `at_least` names is large enough; one that is missing is likelier misspelled than small.
fn selected(value: &Value, input: &Input) -> Result<bool, String> {
    for (field, least) in &input.at_least {
        let found = if field.starts_with('/') { value.pointer(field) } else { value.get(field) };
        let number = match found {
            Some(Value::Bool(yes)) => Some(f64::from(u8::from(*yes))),
            Some(Value::Number(number)) => number.as_f64(),
            _ => None,
        };
        match number {
            None => return Err(format!("holds no number at `{field}`, which at_least selects by")),
            Some(number) if number < *least => return Ok(false),
            Some(_) => {}
        }
    }
    Ok(true)
}

/// The form that the recipe names, or that the record's keys show.
fn form_of(value: &Value, input: &Input) -> Result<Form, String> {
    if let Some(form) = input.form.filter(|form| *form != Form::Auto) {
        return Ok(form);
    }
    let turns = match value {
        Value::String(_) => return Ok(Form::React),
        Value::Array(turns) => turns,
        Value::Object(record) => {
            if ["messages", "traj", tau_bench::DISPLAY].iter().any(|key| record.contains_key(*key)) {
                return Ok(Form::Openai);
            }
            match sharegpt::KEYS.iter().find_map(|key| record.get(*key)) {
                Some(Value::Array(turns)) => turns,
                Some(_) => return Err("`conversations` is no list of turns".to_owned()),
                None => return Err(format!("is of no form known here: it has {}; {EXPECTED}", keys(record))),
            }
        }
        other => return Err(format!("is {}; {EXPECTED}", kind(other))),
    };
    match turns.first() {
        Some(Value::Object(turn)) if turn.contains_key("from") => {
            Ok(if toolbench::looks_like(turns) { Form::Toolbench } else { Form::Sharegpt })
        }
        Some(Value::Object(turn)) if turn.contains_key("role") => Ok(Form::Openai),
        Some(Value::Object(turn)) => Err(format!("its first turn has {}; expected `role` or `from`", keys(turn))),
        Some(other) => Err(format!("its first turn is {}; expected an object with `role` or `from`", kind(other))),
        None => Err("holds no turn".to_owned()),
    }
}

/// What a record must have to be told.
const EXPECTED: &str = "expected `messages` or `traj` (OpenAI, tau-bench), `conversations` (ShareGPT, ToolBench), or ReAct \
                        text; where another reader fits, name it, else set `form`";

/// A record's keys, for people.
fn keys(record: &Map<String, Value>) -> String {
    const SHOWN: usize = 12;
    if record.is_empty() {
        return "no keys".to_owned();
    }
    let shown: Vec<String> = record.keys().take(SHOWN).map(|key| format!("`{}`", clipped(key, 40))).collect();
    let more = record.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("the keys {}{more}", shown.join(", "))
}

/// At most so many bytes of a text, cut between characters.
fn clipped(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// What of a record's other keys is kept: numbers, booleans and short texts.
fn fields(record: Map<String, Value>) -> Map<String, Value> {
    record
        .into_iter()
        .filter(|(_, value)| match value {
            Value::Bool(_) | Value::Number(_) => true,
            Value::String(text) => text.len() <= FIELD,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        })
        .collect()
}

/// The tools beside a conversation: a list, or one as a JSON string; specifications are unwrapped.
fn tools(value: Option<Value>) -> Result<Vec<Value>, String> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(&text).map_err(|error| format!("`tools` is a string that is not JSON: {error}"))?
        }
        Some(list) => list,
    };
    let Value::Array(list) = list else {
        return Err(format!("`tools` is {}; expected a list of functions", kind(&list)));
    };
    list.into_iter()
        .enumerate()
        .map(|(at, tool)| {
            let Value::Object(mut tool) = tool else {
                return Err(format!("/tools/{at} is {}; expected an object", kind(&tool)));
            };
            match tool.remove("function") {
                Some(function @ Value::Object(_)) => Ok(function),
                Some(other) => Err(format!("/tools/{at}/function is {}; expected an object", kind(&other))),
                None => Ok(Value::Object(tool)),
            }
        })
        .collect()
}

/// A call's arguments: an object where they are one or parse as one, else a string as it was written.
fn arguments(value: Option<Value>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::Object(map)) => Value::Object(map),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::Object(map)) => Value::Object(map),
            _ => Value::String(text),
        },
        Some(other) => Value::String(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
