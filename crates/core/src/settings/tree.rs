//! YAML as a tree whose every node knows where it was written.
//!
//! Scalars stay text: what they mean is for the recipe's types to say, so `name: 8e3` and `name: no` are names. What would
//! make a file say less than it shows (anchors, aliases, merge keys, tags, a second document) is refused.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::Place;

/// Deepest nesting; a recipe's own is 5.
const DEPTH: usize = 32;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What it holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text; `plain` where it has no quotes.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order written; no key is there twice.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

/// A place and what is wrong there.
pub(super) type Complaint = (Place, String);

impl Node {
    /// An empty mapping.
    pub(super) fn empty(place: Place) -> Self {
        Self { place, value: Value::Map(Vec::new()) }
    }

    /// Whether nothing stands here: `key:`, `key: null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What stands here, as an error names it.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "empty".to_owned(),
            Value::Scalar { text, .. } => format!("`{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a section".to_owned(),
        }
    }

    /// The value of a key, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }
}

/// Reads one YAML document; `None` for one without content. `place` turns the parser's positions into places.
pub(super) fn parse(text: &str, place: &dyn Fn(Marker) -> Place) -> (Option<Node>, Vec<Complaint>) {
    let mut reader = Reader { parser: Parser::new_from_str(text), place, complaints: Vec::new() };
    match reader.document() {
        Ok(node) => (node, reader.complaints),
        Err(complaint) => {
            reader.complaints.push(complaint);
            (None, reader.complaints)
        }
    }
}

struct Reader<'text> {
    parser: Parser<'text, StrInput<'text>>,
    place: &'text dyn Fn(Marker) -> Place,
    complaints: Vec<Complaint>,
}

impl<'text> Reader<'text> {
    fn next(&mut self) -> Result<(Event<'text>, Span), Complaint> {
        let broken = |error: &ScanError| ((self.place)(*error.marker()), format!("not YAML: {}", error.info()));
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(broken(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Complaint> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                _ if root.is_some() => {
                    let place = (self.place)(span.start);
                    return Err((place, "a second document (`---`): a recipe is one".to_owned()));
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Node, Complaint> {
        let place = (self.place)(span.start);
        if depth > DEPTH {
            return Err((place, format!("nested more than {DEPTH} deep: no recipe is")));
        }
        if let Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) =
            &event
            && *anchor != 0
        {
            self.complaints.push((place, "an anchor (`&`): a recipe writes every value out".to_owned()));
        }
        if let Event::Scalar(_, _, _, Some(tag))
        | Event::SequenceStart(_, Some(tag))
        | Event::MappingStart(_, Some(tag)) = &event
        {
            let text = format!("a tag ({tag}): the key says what type a value has");
            self.complaints.push((place, text));
        }
        let value = match event {
            Event::Scalar(text, style, _, _) => {
                Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            Event::Alias(_) => {
                self.complaints.push((place, "an alias (`*`): a recipe writes every value out".to_owned()));
                Value::Scalar { text: String::new(), plain: true }
            }
            _ => return Err((place, "not YAML: a value was expected here".to_owned())),
        };
        Ok(Node { place, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Complaint> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Complaint> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            let Value::Scalar { text, .. } = key.value else {
                self.complaints.push((key.place, "a key that is a list or a section: expected a name".to_owned()));
                continue;
            };
            if text == "<<" {
                self.complaints.push((key.place, "a merge key (`<<`): a recipe writes every value out".to_owned()));
            } else if let Some(first) = places.get(&text) {
                let line = if let Place::File { line, .. } = first {
                    format!(" (first in line {line})")
                } else {
                    String::new()
                };
                self.complaints.push((key.place, format!("{text}: written twice{line}; keep one")));
            } else {
                places.insert(text.clone(), key.place);
                entries.push(Entry { key: text, place: key.place, node });
            }
        }
    }
}
