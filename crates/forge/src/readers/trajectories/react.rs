//! ReAct text (arXiv 2210.03629): lines that begin with `Question:`, `Thought:`, `Action:`, `Action Input:`, `Observation:`
//! or `Final Answer:`, each possibly numbered (`Thought 2:`), each going on until the next.

use serde_json::{Map, Value};

use super::{arguments, keys, kind, pairing, sharegpt};
use crate::document::{Call, Conversation, Message, Role};

/// What a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Question,
    Thought,
    Action,
    Input,
    Observation,
    Answer,
}

const LABELS: [(&str, Label); 8] = [
    ("Question", Label::Question),
    ("Task", Label::Question),
    ("Thought", Label::Thought),
    ("Action Input", Label::Input),
    ("Action", Label::Action),
    ("Observation", Label::Observation),
    ("Final Answer", Label::Answer),
    ("Answer", Label::Answer),
];

/// The label of a line and what follows it.
fn label(line: &str) -> Option<(Label, &str)> {
    let (name, said) = line.trim_start().split_once(':')?;
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end();
    LABELS.iter().find(|(known, _)| *known == name).map(|(_, label)| (*label, said))
}

/// A labelled stretch of text.
struct Part {
    label: Label,
    /// Its first line, from 1.
    line: usize,
    text: String,
}

/// What stands before the first label, and the labelled parts.
fn parts(text: &str) -> (String, Vec<Part>) {
    let (mut before, mut parts): (String, Vec<Part>) = (String::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        if let Some((label, said)) = label(line) {
            parts.push(Part { label, line: at + 1, text: said.trim().to_owned() });
        } else {
            let text = parts.last_mut().map_or(&mut before, |part| &mut part.text);
            text.push('\n');
            text.push_str(line);
        }
    }
    for part in &mut parts {
        part.text.truncate(part.text.trim_end().len());
    }
    (before.trim().to_owned(), parts)
}

/// The text that a JSON record holds.
pub(super) fn text_of(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Object(mut record) => match ["text", "trajectory", "traj"].iter().find_map(|key| record.remove(*key)) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("its text is {}; expected a string", kind(&other))),
            None => Err(format!("has {}; expected ReAct text in `text` or `trajectory`", keys(&record))),
        },
        other => Err(format!("is {}; expected ReAct text", kind(&other))),
    }
}

/// The conversations of a text, each with the line it begins in, from 1: one for each question. What stands before the
/// first question instructs the first conversation.
pub(super) fn episodes(text: &str) -> Vec<(usize, Result<Conversation, String>)> {
    let (mut system, parts) = parts(text);
    if parts.is_empty() {
        return vec![(1, Err("no line begins with Question:, Thought:, Action: or Observation:".to_owned()))];
    }
    let mut episodes = Vec::new();
    let mut rest = parts.as_slice();
    while let Some(first) = rest.first() {
        let length = rest.iter().skip(1).position(|part| part.label == Label::Question).map_or(rest.len(), |at| at + 1);
        let (episode, after) = rest.split_at(length);
        rest = after;
        let mut messages = Vec::new();
        if !system.is_empty() {
            messages.push(sharegpt::plain(Role::System, std::mem::take(&mut system)));
        }
        episode.iter().for_each(|part| add(part, &mut messages));
        let read = pairing::pair(&mut messages, "turn").map(|()| Conversation {
            messages,
            tools: Vec::new(),
            fields: Map::new(),
        });
        episodes.push((first.line, read));
    }
    episodes
}

/// One assistant's turn from its text; text without labels is just said.
pub(super) fn turn(text: &str) -> Message {
    let (before, parts) = parts(text);
    let mut messages = vec![sharegpt::assistant(before, Vec::new())];
    for part in &parts {
        match part.label {
            // A turn does not speak for others: what looks like it is said.
            Label::Question | Label::Observation => say(&mut messages[0], &part.text),
            Label::Thought | Label::Action | Label::Input | Label::Answer => add_to(&mut messages[0], part),
        }
    }
    messages.swap_remove(0)
}

fn add(part: &Part, messages: &mut Vec<Message>) {
    match part.label {
        Label::Question => messages.push(sharegpt::plain(Role::User, part.text.clone())),
        Label::Observation => messages.push(sharegpt::plain(Role::Tool, part.text.clone())),
        Label::Thought | Label::Action | Label::Input | Label::Answer => {
            let goes_on = messages.last().is_some_and(|last| {
                // A thought after an action opens the next turn, even if nothing was observed.
                last.role == Role::Assistant && (last.calls.is_empty() || part.label == Label::Input)
            });
            if !goes_on {
                messages.push(sharegpt::assistant(String::new(), Vec::new()));
            }
            if let Some(last) = messages.last_mut() {
                add_to(last, part);
            }
        }
    }
}

fn add_to(message: &mut Message, part: &Part) {
    match part.label {
        Label::Action => message.calls.push(action(&part.text)),
        Label::Input => match message.calls.last_mut() {
            Some(call) => call.arguments = arguments(Some(Value::String(part.text.clone()))),
            None => say(message, &part.text),
        },
        Label::Question | Label::Thought | Label::Observation | Label::Answer => say(message, &part.text),
    }
}

fn say(message: &mut Message, text: &str) {
    if !message.content.is_empty() && !text.is_empty() {
        message.content.push_str("\n\n");
    }
    message.content.push_str(text);
}

/// `name`, or `name[argument]` as the paper writes it.
fn action(text: &str) -> Call {
    let text = text.trim();
    match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, argument)) if !name.trim().is_empty() => Call {
            id: None,
            name: name.trim().to_owned(),
            arguments: arguments(Some(Value::String(argument.to_owned()))),
        },
        _ => Call { id: None, name: text.to_owned(), arguments: arguments(None) },
    }
}
