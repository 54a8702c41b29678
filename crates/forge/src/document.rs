//! A document on its way from a file to tokens: what a reader found, and the text that rendering makes of it.

use std::collections::HashSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A loss weight of 1.0; 0 is never learned.
pub const LEARNED: u8 = 255;

/// What a reader found.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it came from: `FILE`, `FILE:LINE`, `FILE#/json/pointer`, or a qualified Python name.
    pub origin: String,
    /// What is known of it.
    pub facts: Facts,
    /// What it holds.
    pub content: Content,
}

/// What is known of a document besides its content: for metadata prefixes and the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The API it documents or calls, by its full name; distinct names are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// Who provides the API: a company, a package, a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// What a document holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text as it stands.
    Text(String),
    /// Fields that a template turns into text.
    Record {
        /// Which templates.
        kind: RecordKind,
        /// By name; each kind's template says which there are.
        fields: Map<String, Value>,
    },
    /// A conversation with tools.
    Conversation(Conversation),
}

/// The kinds of records, each with templates of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// One operation of an HTTP API.
    Operation,
    /// One function or tool that a model may call.
    Function,
    /// A record of an API as a catalogue lists it.
    Api,
}

/// A conversation, in OpenAI's terms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// In order.
    pub messages: Vec<Message>,
    /// The tools on offer: OpenAI function specifications (`{"name", "description", "parameters"}`), unwrapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// What else its record holds, such as `reward`: to select by.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

impl Conversation {
    /// The tools called, each name once, in the order of their first calls.
    pub fn called(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        let calls = self.messages.iter().flat_map(|message| &message.calls);
        calls.map(|call| call.name.as_str()).filter(move |name| seen.insert(*name))
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty where a turn only calls tools.
    #[serde(default)]
    pub content: String,
    /// The calls that an assistant's turn makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The tool that a tool's turn answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The call that a tool's turn answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Whether the turn failed: a call that ended in an error, or an answer that is one.
    #[serde(default)]
    pub failed: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions from whoever set the assistant up.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The environment: what a call returned.
    Tool,
}

/// A call to a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// By which its result refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// An object where the arguments parse as JSON, else a string as it was written.
    pub arguments: Value,
}

/// A document as text, with what of it is learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Runs of one loss weight: where each ends (a byte offset) and its weight (0 to 255 for 0.0 to 1.0), ascending, the
    /// last at the end of the text. Empty: everything is learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<(usize, u8)>,
    /// Byte ranges that are special tokens of the tokenizer, put there by a chat template; ascending. The same letters
    /// elsewhere are only text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special: Vec<Range<usize>>,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl Text {
    /// Appends a run of one weight.
    pub fn push(&mut self, text: &str, weight: u8) {
        if text.is_empty() {
            return;
        }
        if self.weights.is_empty() && !self.text.is_empty() {
            self.weights.push((self.text.len(), LEARNED));
        }
        self.text.push_str(text);
        match self.weights.last_mut() {
            Some((end, last)) if *last == weight => *end = self.text.len(),
            _ => self.weights.push((self.text.len(), weight)),
        }
    }

    /// Forgets the runs where everything is learned anyway.
    #[must_use]
    pub fn simplified(mut self) -> Self {
        if self.weights.iter().all(|(_, weight)| *weight == LEARNED) {
            self.weights.clear();
        }
        self
    }
}

impl Document {
    /// A document of plain text of which nothing else is known.
    #[must_use]
    pub fn text(origin: impl Into<String>, text: impl Into<String>) -> Self {
        Self { origin: origin.into(), facts: Facts::default(), content: Content::Text(text.into()) }
    }

    /// Calls `change` on every text in it: what was said, the values of fields, arguments of calls; not on names.
    pub fn each_string(&mut self, change: &mut dyn FnMut(&mut String)) {
        match &mut self.content {
            Content::Text(text) => change(text),
            Content::Record { fields, .. } => fields.values_mut().for_each(|value| strings(value, change)),
            Content::Conversation(conversation) => {
                for message in &mut conversation.messages {
                    change(&mut message.content);
                    message.calls.iter_mut().for_each(|call| strings(&mut call.arguments, change));
                }
                conversation.tools.iter_mut().for_each(|tool| strings(tool, change));
            }
        }
    }
}

/// Every string in a JSON value; its depth is that of what parsed it, 128 at most.
fn strings(value: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| strings(item, change)),
        Value::Object(map) => map.values_mut().for_each(|item| strings(item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_weight_grow_together_and_what_came_before_them_is_learned() {
        let mut text = Text::from("ab".to_owned());
        text.push("c", 0);
        text.push("d", 0);
        text.push("", 7);
        text.push("e", LEARNED);
        assert_eq!((text.text.as_str(), text.weights.clone()), ("abcde", vec![(2, LEARNED), (4, 0), (5, LEARNED)]));
        let mut plain = Text::default();
        plain.push("x", LEARNED);
        assert_eq!(plain.simplified(), Text::from("x".to_owned()));
    }
}
