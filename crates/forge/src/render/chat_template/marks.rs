//! Characters that mark, inside a conversation, what a template must pass on: where what a message says begins and ends,
//! and what spells a special token without being one.
//!
//! They come from the two private-use planes, which real text does not use; a conversation that does is refused.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Map, Value};

use crate::document::Message;

/// First of plane 15: four characters a group of marks.
const FIRST: u32 = 0xF_0000;
/// First of plane 16: a character a special token.
const MASKS: u32 = 0x10_0000;
/// Most messages whose marks fit into plane 15, the tools' group besides.
pub(super) const MESSAGES: usize = 0xFFFC / 4 - 1;

/// Whose a mark is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    /// The tools on offer.
    Tools,
    /// A message, by its index.
    Message(usize),
}

/// Where a mark lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) group: Group,
    /// Its first byte in the marked text.
    pub(super) start: usize,
    /// The byte behind it.
    pub(super) end: usize,
    /// The byte of the text without marks that it stands before.
    pub(super) text: usize,
}

/// A rendered text, with its marks and without.
#[derive(Debug)]
pub(super) struct Marked {
    pub(super) source: String,
    pub(super) text: String,
    pub(super) marks: Vec<Mark>,
    /// Special tokens that the template wrote, as byte ranges of `text`.
    pub(super) special: Vec<Range<usize>>,
}

/// Writes and finds marks, for one tokenizer.
#[derive(Debug)]
pub(super) struct Marks {
    special: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl Marks {
    /// For a tokenizer with these special tokens.
    pub(super) fn new(mut special: Vec<String>) -> Self {
        special.retain(|token| !token.is_empty());
        special.truncate((char::MAX as u32 - MASKS) as usize);
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&special).ok();
        Self { finder: finder.filter(|_| !special.is_empty()), special }
    }

    /// The messages and tools with their marks.
    ///
    /// # Errors
    /// In words, where they hold private-use characters of these planes themselves.
    pub(super) fn mark(&self, messages: &[Message], tools: &[Value]) -> Result<(Vec<Message>, Vec<Value>), String> {
        let mut messages = messages.to_vec();
        for (at, message) in messages.iter_mut().enumerate() {
            message.content = around(&self.masked(&message.content)?, Group::Message(at));
            for call in &mut message.calls {
                call.name = around(&self.masked(&call.name)?, Group::Message(at));
                call.arguments = self.masked_json(&call.arguments)?;
                if let Some(id) = &mut call.id {
                    *id = self.masked(id)?.into_owned();
                }
            }
            for text in [&mut message.name, &mut message.call_id].into_iter().flatten() {
                *text = self.masked(text)?.into_owned();
            }
        }
        let mut tools = tools.iter().map(|tool| self.masked_json(tool)).collect::<Result<Vec<_>, _>>()?;
        tools.iter_mut().for_each(mark_tool);
        Ok((messages, tools))
    }

    fn masked<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, String> {
        if let Some(found) = text.chars().find(|c| u32::from(*c) >= FIRST) {
            let code = u32::from(found);
            return Err(format!(
                "holds the private-use character U+{code:X}, which stands for marks while a chat template runs"
            ));
        }
        let Some(finder) = self.finder.as_ref().filter(|finder| finder.is_match(text)) else {
            return Ok(Cow::Borrowed(text));
        };
        let mut out = String::with_capacity(text.len());
        finder.replace_all_with(text, &mut out, |found, _, out| {
            out.extend(char::from_u32(MASKS + found.pattern().as_u32()));
            true
        });
        Ok(Cow::Owned(out))
    }

    fn masked_json(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.masked(text)?.into_owned()),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.masked_json(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, item)| Ok((self.masked(key)?.into_owned(), self.masked_json(item)?)))
                    .collect::<Result<Map<_, _>, String>>()?,
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        })
    }

    /// Takes the marks out of a rendered text.
    pub(super) fn find(&self, source: String) -> Marked {
        let written: Vec<Range<usize>> = match &self.finder {
            Some(finder) => finder.find_iter(&source).map(|found| found.range()).collect(),
            None => Vec::new(),
        };
        let mut text = String::with_capacity(source.len());
        let (mut marks, mut special) = (Vec::new(), Vec::with_capacity(written.len()));
        let mut written = written.into_iter().peekable();
        for (start, c) in source.char_indices() {
            if let Some(token) = written.next_if(|token| token.start == start) {
                special.push(text.len()..text.len() + token.len());
            }
            match u32::from(c) {
                FIRST..MASKS => {
                    marks.push(Mark { group: group(c), start, end: start + c.len_utf8(), text: text.len() })
                }
                _ => self.unmask(c, &mut text),
            }
        }
        Marked { source, text, marks, special }
    }

    fn unmask(&self, c: char, out: &mut String) {
        match u32::from(c).checked_sub(MASKS).and_then(|at| self.special.get(at as usize)) {
            Some(token) => out.push_str(token),
            None => out.push(c),
        }
    }

    /// What stands behind the last mark.
    pub(super) fn tail<'a>(&self, marked: &'a str) -> &'a str {
        let last = marked.char_indices().rev().find(|(_, c)| (FIRST..MASKS).contains(&u32::from(*c)));
        last.map_or(marked, |(at, c)| &marked[at + c.len_utf8()..])
    }

    /// The length in bytes of a piece without marks, once special tokens are spelled again.
    pub(super) fn plain_len(&self, piece: &str) -> usize {
        piece
            .chars()
            .map(|c| match u32::from(c).checked_sub(MASKS).and_then(|at| self.special.get(at as usize)) {
                Some(token) => token.len(),
                None => c.len_utf8(),
            })
            .sum()
    }

    /// What two texts begin with alike, to the end of one of them, or else of a line or special token in both.
    pub(super) fn agreed<'a>(&self, one: &'a str, other: &str) -> &'a str {
        let same = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        if same == one.len() || same == other.len() {
            return &one[..same];
        }
        let same = &one[..one.floor_char_boundary(same)];
        let line = same.rfind('\n').map_or(0, |at| at + 1);
        let token =
            self.finder.as_ref().and_then(|finder| finder.find_iter(same).last()).map_or(0, |token| token.end());
        &same[..line.max(token)]
    }

    /// The end of a turn without the white space behind its last special token, which a model that stops never writes.
    pub(super) fn through_last_special<'a>(&self, tail: &'a str) -> &'a str {
        let last = self.finder.as_ref().and_then(|finder| finder.find_iter(tail).last());
        match last {
            Some(token) if tail[token.end()..].trim().is_empty() => &tail[..token.end()],
            _ => tail,
        }
    }
}

fn group(mark: char) -> Group {
    let at = ((u32::from(mark) - FIRST) / 4) as usize;
    at.checked_sub(1).map_or(Group::Tools, Group::Message)
}

fn character(group: Group, which: u32) -> Option<char> {
    let at = match group {
        Group::Tools => 0,
        Group::Message(at) => u32::try_from(at).ok()?.checked_add(1)?,
    };
    char::from_u32(FIRST + at.checked_mul(4)? + which)
}

/// A text with marks around it, inside of the white space that templates trim; none around nothing.
fn around(text: &str, group: Group) -> String {
    let core = text.trim();
    match (core.is_empty(), character(group, 0), character(group, 1)) {
        (false, Some(open), Some(close)) => {
            let before = text.len() - text.trim_start().len();
            let after = text.trim_end().len();
            format!("{}{open}{core}{close}{}", &text[..before], &text[after..])
        }
        _ => text.to_owned(),
    }
}

/// Marks names and descriptions, wherever in a tool; templates look at its other strings to decide what to write.
fn mark_tool(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                match item {
                    Value::String(text) if key == "name" || key == "description" => *text = around(text, Group::Tools),
                    item => mark_tool(item),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mark_tool),
        _ => {}
    }
}
