//! The chat template of a tokenizer's folder, run as Hugging Face runs it, with whose text is whose.
//!
//! A template is a program that gives nothing but text, so where turns lie in it is found by asking twice. A conversation
//! is rendered as it is, and again with [`marks`] around what its messages say: private-use characters, which a
//! template passes on like any others. Where the second text without its marks is the first, the marks show where each
//! message lies, whatever the template reorders. An assistant's turn is more than what it says, though: it begins behind
//! what the template writes when asked for a generation prompt after the messages before it, and ends with what it writes
//! behind a conversation that the turn is the last of. Both are rendered too, and must be found again in the whole.
//!
//! What spells a special token inside a message is text, not that token, so it is replaced by a mark before rendering;
//! special tokens in the rendered text are thus those that the template wrote.

mod folder;
mod jinja;
mod marks;

use std::collections::HashMap;

use minijinja::Value as Jinja;
use minijinja::context;
use serde_json::{Value, json};

use super::conversation::{ChatError, Weights};
use crate::document::{Message, Role, Text};
use jinja::Templates;
use marks::{Group, MESSAGES, Mark, Marked, Marks};

/// Most bytes that are rendered to find the turns of one conversation; the work grows with its square.
const RENDERED: usize = 1 << 31;

/// A tokenizer's chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    templates: Templates,
    marks: Marks,
}

/// A conversation ready to be rendered.
struct Chat {
    messages: Vec<Jinja>,
    tools: Jinja,
}

impl ChatTemplate {
    /// Reads the template and the special tokens from a folder as Hugging Face lays it out.
    pub(super) fn load(folder: &std::path::Path) -> Result<Self, ChatError> {
        let (templates, special) = folder::read(folder)?;
        Ok(Self { templates, marks: Marks::new(special) })
    }

    /// The text of a conversation.
    pub(super) fn text(&self, messages: &[Message], tools: &[Value], weights: &Weights) -> Result<Text, String> {
        if messages.len() > MESSAGES {
            return Err(format!("has {} messages; {MESSAGES} at most can be told apart", messages.len()));
        }
        let renamed;
        let (messages, plain) = match self.render(&chat(messages, tools), false) {
            Ok(plain) => (messages, plain),
            // Some templates want identifiers of nine letters and digits; any will do, they mean nothing.
            Err(refused) => {
                renamed = renumbered(messages).ok_or_else(|| refused.clone())?;
                let plain = self.render(&chat(&renamed, tools), false).map_err(|_| refused)?;
                (renamed.as_slice(), plain)
            }
        };
        let (marked_messages, marked_tools) = self.marks.mark(messages, tools)?;
        let chat = chat(&marked_messages, &marked_tools);
        let marked = self.marks.find(self.render(&chat, false)?);
        if marked.text != plain {
            return Err(
                "the chat template changes what messages say depending on how they are spelled, so whose text is \
                        whose cannot be told; use `template: builtin` here"
                    .to_owned(),
            );
        }
        let runs = self.runs(&chat, &marked, messages, weights)?;
        Ok(painted(marked, runs))
    }

    /// Where weights other than 0 lie in the text: byte ranges, in any order.
    fn runs(
        &self,
        chat: &Chat,
        marked: &Marked,
        messages: &[Message],
        weights: &Weights,
    ) -> Result<Vec<(usize, usize, u8)>, String> {
        let mut spans: HashMap<Group, (usize, usize)> = HashMap::new();
        for (at, mark) in marked.marks.iter().enumerate() {
            spans.entry(mark.group).and_modify(|span| span.1 = at).or_insert((at, at));
        }
        let mut runs = Vec::new();
        let inside = |span: &(usize, usize)| (marked.marks[span.0].text, marked.marks[span.1].text);
        if let Some(span) = spans.get(&Group::Tools) {
            let (start, end) = inside(span);
            runs.push((start, end, weights.of_tools()));
        }
        let mut tails = Tails { template: self, chat, before: HashMap::new(), after: None, rendered: 0 };
        for (at, message) in messages.iter().enumerate() {
            let span = spans.get(&Group::Message(at));
            let weight = weights.of(message);
            if message.role != Role::Assistant {
                runs.extend(span.map(inside).map(|(start, end)| (start, end, weight)));
                continue;
            }
            let Some(span) = span else {
                if message.calls.is_empty() {
                    continue;
                }
                return Err(format!("the chat template writes nothing of the calls of message {at}"));
            };
            let start = tails.start(marked, span.0, at, messages).ok_or_else(|| tails.lost("beginning", at))?;
            let end = tails.end(marked, span.1, at, messages).ok_or_else(|| tails.lost("end", at))?;
            runs.push((start, end, weight));
        }
        Ok(runs)
    }

    fn render(&self, chat: &Chat, prompt: bool) -> Result<String, String> {
        self.render_first(chat, chat.messages.len(), prompt)
    }

    /// The text of the first `count` messages.
    fn render_first(&self, chat: &Chat, count: usize, prompt: bool) -> Result<String, String> {
        self.templates.render(
            !chat.tools.is_none(),
            context! {
                messages => chat.messages.get(..count).unwrap_or_default(),
                tools => chat.tools.clone(),
                documents => (),
                add_generation_prompt => prompt,
            },
        )
    }
}

/// What the template writes behind the last mark of a conversation's beginning, as far as it was asked.
struct Tails<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    /// With a generation prompt, by what the last mark was in; most turns begin alike.
    before: HashMap<Option<Role>, String>,
    /// Without, of an assistant's turn that only says something.
    after: Option<String>,
    rendered: usize,
}

impl Tails<'_> {
    /// Where the turn of the message `at` begins in the text, whose first mark is `first`.
    fn start(&mut self, marked: &Marked, first: usize, at: usize, messages: &[Message]) -> Option<usize> {
        let (from, text) = first.checked_sub(1).map_or((0, 0), |last| {
            let Mark { end, text, .. } = marked.marks[last];
            (end, text)
        });
        let between = &marked.source[from..marked.marks[first].start];
        let kind = first.checked_sub(1).and_then(|last| match marked.marks[last].group {
            Group::Message(message) => Some(messages.get(message)?.role),
            Group::Tools => None,
        });
        if let Some(tail) = self.before.get(&kind)
            && between.starts_with(tail.as_str())
        {
            return Some(text + self.template.marks.plain_len(tail));
        }
        if at == 0 {
            // No template renders an empty conversation: the heading of a turn that opens one is not known.
            return messages[0].calls.is_empty().then(|| marked.marks[first].text);
        }
        let tail = self.render(at, true)?;
        if between.starts_with(&tail) {
            let found = text + self.template.marks.plain_len(&tail);
            if !tail.is_empty() {
                self.before.insert(kind, tail);
            }
            return Some(found);
        }
        // Templates of reasoning models open a thought for the model that they do not keep in a conversation: what both
        // write of the heading is the heading, if it is more than the end of the turn before.
        let ended = self.render(at, false)?;
        let heading = self.template.marks.agreed(between, &tail);
        (heading.len() > ended.len()).then(|| text + self.template.marks.plain_len(heading))
    }

    /// Where the turn of the message `at` ends in the text, whose last mark is `last`.
    fn end(&mut self, marked: &Marked, last: usize, at: usize, messages: &[Message]) -> Option<usize> {
        let Mark { end, text, .. } = marked.marks[last];
        let until = marked.marks.get(last + 1).map_or(marked.source.len(), |next| next.start);
        let between = &marked.source[end..until];
        let only_said = messages[at].calls.is_empty();
        let known = self.after.as_deref().filter(|tail| only_said && between.starts_with(*tail));
        let tail = match known {
            Some(tail) => tail.to_owned(),
            None => self.render(at + 1, false)?,
        };
        let whole = between.starts_with(&tail);
        // Some templates end the last turn with one token more, or another one.
        let ending = if whole { &tail } else { self.template.marks.agreed(between, &tail) };
        if ending.is_empty() && !whole && !only_said {
            return None;
        }
        let learned = self.template.marks.through_last_special(ending);
        let found = text + self.template.marks.plain_len(learned);
        if whole && only_said && !tail.is_empty() {
            self.after = Some(tail);
        }
        Some(found)
    }

    /// Why a turn's beginning or end was not found.
    fn lost(&self, what: &str, at: usize) -> String {
        if self.rendered > RENDERED {
            return "is too long for its turns to be found in what the chat template writes; use `template: builtin` here"
                .to_owned();
        }
        format!(
            "the chat template writes the {what} of message {at} otherwise when others follow; use `template: builtin` here"
        )
    }

    /// Behind the last mark of the first `count` messages.
    fn render(&mut self, count: usize, prompt: bool) -> Option<String> {
        if self.rendered > RENDERED {
            return None;
        }
        let text = self.template.render_first(self.chat, count, prompt).ok()?;
        self.rendered += text.len();
        Some(self.template.marks.tail(&text).to_owned())
    }
}

/// Messages and tools as templates expect them.
fn chat(messages: &[Message], tools: &[Value]) -> Chat {
    let (messages, tools) = as_json(messages, tools);
    Chat { messages: messages.iter().map(jinja::value).collect(), tools: jinja::value(&tools) }
}

/// What `apply_chat_template` is given: OpenAI's messages with arguments as objects; null where there is no tool.
fn as_json(messages: &[Message], tools: &[Value]) -> (Vec<Value>, Value) {
    let messages = messages.iter().map(|message| {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let mut json = json!({"role": role, "content": message.content});
        if !message.calls.is_empty() {
            let calls = message.calls.iter().map(|call| {
                let mut json = json!({
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                });
                if let Some(id) = &call.id {
                    json["id"] = json!(id);
                }
                json
            });
            json["tool_calls"] = calls.collect();
        }
        if let Some(name) = &message.name {
            json["name"] = json!(name);
        }
        if let Some(id) = &message.call_id {
            json["tool_call_id"] = json!(id);
        }
        json
    });
    let tools = if tools.is_empty() {
        Value::Null
    } else {
        tools.iter().map(|tool| json!({"type": "function", "function": tool})).collect()
    };
    (messages.collect(), tools)
}

/// The same messages with identifiers of nine letters and digits; `None` where they have such already.
fn renumbered(messages: &[Message]) -> Option<Vec<Message>> {
    let good = |id: &str| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut changed = false;
    let mut messages = messages.to_vec();
    for message in &mut messages {
        let calls = message.calls.iter_mut().filter_map(|call| call.id.as_mut());
        for id in calls.chain(message.call_id.as_mut()) {
            let number = ids.len() + 1;
            changed |= !good(id);
            *id = ids.entry(std::mem::take(id)).or_insert_with(|| format!("call{number:05}")).clone();
        }
    }
    changed.then_some(messages)
}

/// The text with its runs of weights; what lies in none is not learned.
fn painted(marked: Marked, mut runs: Vec<(usize, usize, u8)>) -> Text {
    runs.sort_unstable();
    let Marked { text, special, .. } = marked;
    let mut out = Text { special, ..Text::default() };
    let mut at = 0;
    for (start, end, weight) in runs {
        let start = start.max(at);
        if start < end {
            out.push(&text[at..start], 0);
            out.push(&text[start..end], weight);
            at = end;
        }
    }
    out.push(&text[at..], 0);
    out.simplified()
}

#[cfg(test)]
mod tests;
