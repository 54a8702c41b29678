//! The elements of arrays and the values that stand beside each other, one at a time, over what is broken between them.
//!
//! A value that breaks costs itself alone. Its end is looked for in this order: a line that begins the way sound elements
//! begin theirs (`  {` at the array's depth), since a missing quote or bracket does not reach over that; the bracket that
//! closes it, matched forgivingly; `},{` on its line, for arrays in one line whose quotes are out of step. Where elements
//! are not indented inside, the first of these tells nothing and is left out.

use std::io::Read;

use super::scan::{self, Break, Found, Style};
use super::window::Window;
use super::{Flaw, Position, Raw, over_limit};

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The first element of an array, or its end; a value at the top.
    First,
    /// An element, as a comma was before.
    Element,
    /// A comma, or the end of the array.
    Separator,
    /// Anything, as something broken was before.
    Any,
}

/// Where in a stream of elements one is.
pub(super) struct Elements {
    /// Where the array around the elements begins; none at the top.
    array: Option<Position>,
    /// An array that no bracket opens: elements with commas between them.
    implied: bool,
    expected: Expected,
    /// The white space since the last newline, where there is nothing else.
    indent: Option<Vec<u8>>,
    /// How sound elements begin.
    style: Option<Style>,
    /// Lines inside elements begin the same way: the style tells nothing.
    flat: bool,
    /// A comma that is missing in this array was reported: the others go unsaid, as they cost nothing.
    told: bool,
    /// Something broken was reported and no sound element has been seen since.
    lost: bool,
}

impl Elements {
    pub(super) fn new() -> Self {
        Self {
            array: None,
            implied: false,
            expected: Expected::First,
            indent: Some(Vec::new()),
            style: None,
            flat: false,
            told: false,
            lost: false,
        }
    }

    /// The next element, or what is wrong where one should be.
    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>, limit: usize) -> Option<Result<Raw, Flaw>> {
        loop {
            self.skip_space(window);
            let here = Position::Line { line: window.line, column: window.column };
            let Some(byte) = window.byte(0) else { return self.end(window, here).map(Err) };
            let flaw = match byte {
                b'[' if self.array.is_none() && !self.implied => {
                    self.array = Some(here);
                    self.told = false;
                    self.expected = Expected::First;
                    self.step(window);
                    None
                }
                b']' => {
                    let trailing = self.expected == Expected::Element && !self.lost;
                    let flaw = match self.array.take() {
                        Some(_) if trailing => Some(Flaw::at(here, "a comma before `]`: expected an element")),
                        None if !self.lost && !self.implied => {
                            Some(Flaw::at(here, "`]` closes nothing: expected a value"))
                        }
                        _ => None,
                    };
                    self.implied = false;
                    self.expected = Expected::First;
                    self.step(window);
                    flaw
                }
                b',' => self.comma(window, here),
                _ if (self.array.is_some() || self.implied) && self.expected == Expected::Separator => {
                    self.expected = Expected::Any;
                    let missing = format!("found {}, expected `,` or `]`", shown(byte));
                    let element = matches!(byte, b'{' | b'[');
                    let told = element && std::mem::replace(&mut self.told, true);
                    self.stray(window, here, missing, element).filter(|_| !told)
                }
                _ => match self.element(window, limit, here, byte) {
                    Some(read) => return Some(read),
                    None => None,
                },
            };
            if let Some(flaw) = flaw {
                return Some(Err(flaw));
            }
        }
    }

    /// Moves over white space; knows the indentation behind it.
    fn skip_space<R: Read>(&mut self, window: &mut Window<R>) {
        loop {
            let mut at = 0;
            while let Some(byte) = window.byte(at).filter(u8::is_ascii_whitespace) {
                match &mut self.indent {
                    _ if byte == b'\n' => self.indent = Some(Vec::new()),
                    // No element is indented deeper than a page is wide.
                    Some(indent) if indent.len() < 256 => indent.push(byte),
                    indent => *indent = None,
                }
                at += 1;
                if at == 1 << 16 {
                    break;
                }
            }
            window.consume(at);
            if at < 1 << 16 {
                return;
            }
        }
    }

    /// Moves over one byte that is no white space.
    fn step<R: Read>(&mut self, window: &mut Window<R>) {
        window.consume(1);
        self.indent = None;
    }

    fn comma<R: Read>(&mut self, window: &mut Window<R>, here: Position) -> Option<Flaw> {
        let inside = self.array.is_some() || self.implied;
        let flaw = match self.expected {
            _ if self.lost => None,
            Expected::Separator if inside => None,
            Expected::Any => None,
            Expected::Separator => Some("a comma between values that no `[` opens"),
            Expected::First | Expected::Element => Some("found `,`, expected an element"),
        };
        // Commas in prose make no array.
        self.implied |= self.array.is_none() && self.expected == Expected::Separator;
        self.expected = if self.array.is_some() || self.implied { Expected::Element } else { Expected::Any };
        self.step(window);
        flaw.map(|reason| Flaw::at(here, reason))
    }

    /// What is wrong at the end, once.
    fn end<R: Read>(&mut self, window: &mut Window<R>, here: Position) -> Option<Flaw> {
        if let Some(error) = window.failure() {
            self.array = None;
            return Some(Flaw::failed(here, &error));
        }
        let begin = self.array.take()?;
        if self.lost {
            return None;
        }
        Some(Flaw::at(here, format!("the array that begins at {begin} does not end: expected `,` or `]`")))
    }

    /// Reports what cannot be here and moves on; only the first time while nothing sound has come since. Where a `value`
    /// begins here, it is left to be read.
    fn stray<R: Read>(&mut self, window: &mut Window<R>, here: Position, reason: String, value: bool) -> Option<Flaw> {
        if !value {
            self.expected = Expected::Any;
            match self.style.clone().filter(|_| !self.flat) {
                Some(style) => self.skip_to_style(window, &style),
                None => self.step(window),
            }
        }
        (!std::mem::replace(&mut self.lost, !value)).then(|| Flaw::at(here, reason))
    }

    /// Moves on to a line that begins as elements do, or to one with nothing but brackets that close.
    fn skip_to_style<R: Read>(&mut self, window: &mut Window<R>, style: &Style) {
        loop {
            window.skip_line();
            if window.byte(0).is_none() {
                return;
            }
            let mut at = 1;
            while window.byte(at).is_some_and(|byte| matches!(byte, b' ' | b'\t')) && at <= style.indent.len() {
                at += 1;
            }
            if style.begins(window, 1) || (window.byte(at) == Some(b']') && at <= style.indent.len()) {
                return;
            }
            window.consume(1);
        }
    }

    fn element<R: Read>(
        &mut self,
        window: &mut Window<R>,
        limit: usize,
        here: Position,
        byte: u8,
    ) -> Option<Result<Raw, Flaw>> {
        let indent = self.indent.clone();
        let own = indent.map(|indent| Style { indent, opener: byte });
        let style = self.style.clone().or_else(|| own.clone()).filter(|style| matches!(style.opener, b'{' | b'['));
        let mut seen = false;
        let found = scan::value(window, limit, style.as_ref(), &mut seen);
        // A bracket that opens where only braces did, with elements as before behind it, is one too many.
        if byte == b'[' && seen && !self.flat && self.style.as_ref().is_some_and(|style| style.opener == b'{') {
            self.expected = Expected::Any;
            self.step(window);
            return Some(Err(Flaw::at(here, "found `[`, expected `{` as the elements before begin")));
        }
        let broken = match found {
            Found::End(length) if matches!(byte, b'{' | b'[') => {
                self.flat |= seen;
                self.style = own.or_else(|| self.style.take());
                self.lost = false;
                self.expected = Expected::Separator;
                return Some(Ok(self.take(window, here, length)));
            }
            Found::End(length) => return self.scalar(window, here, byte, length),
            Found::Broken(Break { at: 0, .. }) => {
                let reason = format!("found {}, expected a value", shown(byte));
                return self.stray(window, here, reason, false).map(Err);
            }
            broken => broken,
        };
        // No sound element says how they begin, and at the first column lines inside may begin so, too.
        let unsure = self.style.is_none() && style.as_ref().is_some_and(|style| style.indent.is_empty());
        self.flat |= seen && unsure && matches!(&broken, Found::Broken(_));
        let style = style.filter(|_| !self.flat);
        self.expected = Expected::Any;
        let lost = std::mem::replace(&mut self.lost, true);
        let (length, held) = resume(window, limit, broken, style.as_ref(), seen);
        if !held {
            window.consume(length);
            self.indent = None;
            return Some(Err(Flaw::at(here, over_limit(limit))));
        }
        // A stream that fails says so at its end.
        if window.has_failed() && length == window.held().len() {
            window.consume(length);
            return None;
        }
        // Words are no records: all but the first go unheard until something sound comes.
        if lost && !matches!(byte, b'{' | b'[') {
            window.consume(length);
            return None;
        }
        Some(Ok(self.take(window, here, length)))
    }

    /// A value that is no container: a record that its reader will not like, or a piece of something broken.
    fn scalar<R: Read>(
        &mut self,
        window: &mut Window<R>,
        here: Position,
        byte: u8,
        length: usize,
    ) -> Option<Result<Raw, Flaw>> {
        let mut after = length;
        while window.byte(after).is_some_and(|byte| byte.is_ascii_whitespace()) && after < length + 64 {
            after += 1;
        }
        let is_key = byte == b'"' && window.byte(after) == Some(b':');
        let text = window.held().get(..length).unwrap_or_default();
        if is_key || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_err() {
            let shown: String = String::from_utf8_lossy(text).chars().take(40).collect();
            let reason = match is_key {
                true => format!("found the key {shown} outside of an object"),
                false => format!("found `{shown}`, expected a value"),
            };
            if self.style.is_none() || self.flat {
                window.consume(length.saturating_sub(1));
            }
            return self.stray(window, here, reason, false).map(Err);
        }
        self.expected = Expected::Separator;
        let raw = self.take(window, here, length);
        (!self.lost).then_some(Ok(raw))
    }

    /// Takes `length` bytes of the window as a record, without commas and white space behind it.
    fn take<R: Read>(&mut self, window: &mut Window<R>, position: Position, length: usize) -> Raw {
        let bytes = window.held().get(..length).unwrap_or_default();
        let end = bytes.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != b',').map_or(0, |at| at + 1);
        let bytes = bytes.get(..end).unwrap_or_default().to_vec();
        // Where the cut is at the beginning of a line, so is what follows.
        let at_line = window.held().get(..length).is_some_and(|bytes| bytes.last() == Some(&b'\n'));
        window.consume(length);
        self.indent = at_line.then(Vec::new);
        Raw { position, bytes }
    }
}

/// Where to go on behind what is broken: so many bytes of the window belong to it, and whether they are all of it. `seen`:
/// a line inside it begins as elements do.
fn resume<R: Read>(
    window: &mut Window<R>,
    limit: usize,
    broken: Found,
    style: Option<&Style>,
    seen: bool,
) -> (usize, bool) {
    let (from, swallowed) = match broken {
        // If it swallowed others unseen, then behind its last string.
        Found::Broken(from) => {
            let string = if seen { 0 } else { from.string };
            (from, string)
        }
        Found::TooLong(from) => (from, 0),
        Found::Unfinished | Found::End(_) => {
            let held = window.held().len();
            let line = style.and_then(|style| style.first(window, 0, held));
            return (line.unwrap_or(held), true);
        }
    };
    if let Some(line) = style.and_then(|style| style.first(window, swallowed, from.at)) {
        return (line, true);
    }
    // An object that opens where a key should is the next element; a value without brackets ends where it breaks.
    if (from.unclosed && style.is_none()) || (from.open.is_empty() && !from.inside) {
        return (from.at.max(1), true);
    }
    let string = from.string.max(1);
    let resumed = scan::forgiving(window, from, limit, style);
    if resumed.end && resumed.held {
        let next = scan::between_objects(window.held(), string);
        return (next.unwrap_or(resumed.at), true);
    }
    (resumed.at, resumed.held)
}

/// A byte as an error shows it.
fn shown(byte: u8) -> String {
    match byte {
        0x21..=0x7e => format!("`{}`", byte as char),
        _ => format!("the byte 0x{byte:02x}"),
    }
}
