//! Where a value of JSON ends, by its brackets and strings alone: first as the grammar has it, then as best one can.
//!
//! What stands inside is not looked at closer than that: whether a value is JSON is for its parser to say.

use std::io::Read;

use super::window::Window;

/// How elements that begin lines begin them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// What stands before an element on its line.
    pub(super) indent: Vec<u8>,
    /// The bracket that opens it.
    pub(super) opener: u8,
}

impl Style {
    /// Whether the line at `at` begins as an element does.
    pub(super) fn begins<R: Read>(&self, window: &mut Window<R>, at: usize) -> bool {
        let indent = self.indent.len();
        window.byte(at + indent) == Some(self.opener)
            && window.held().get(at..at + indent).is_some_and(|found| found == self.indent)
    }

    /// The first line that begins as an element does, after a newline in `from..to`.
    pub(super) fn first<R: Read>(&self, window: &mut Window<R>, from: usize, to: usize) -> Option<usize> {
        let mut from = from;
        while let Some(newline) = window.newline(from, to) {
            if self.begins(window, newline + 1) {
                return Some(newline + 1);
            }
            from = newline + 1;
        }
        None
    }
}

/// What came of looking for the end of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It takes so many bytes.
    End(usize),
    /// Its grammar breaks.
    Broken(Break),
    /// The stream ends inside it.
    Unfinished,
    /// It has more bytes than allowed; it is sound as far as it was looked at.
    TooLong(Break),
}

/// Where and how a value breaks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Break {
    /// The byte that cannot be there.
    pub(super) at: usize,
    /// Where the last string before it began.
    pub(super) string: usize,
    /// The brackets that are open there.
    pub(super) open: Vec<u8>,
    /// Whether that is inside a string.
    pub(super) inside: bool,
    /// An object opens where a key should: what was before it is not closed.
    pub(super) unclosed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    Key,
    Colon,
    After,
}

/// Finds the end of the value that the window begins with. `seen` is set where an inner line begins as elements do.
pub(super) fn value<R: Read>(window: &mut Window<R>, limit: usize, style: Option<&Style>, seen: &mut bool) -> Found {
    let mut open: Vec<u8> = Vec::new();
    let (mut at, mut string, mut state) = (0, 0, State::Value);
    loop {
        if at > limit {
            return Found::TooLong(Break { at, string, open, inside: false, unclosed: false });
        }
        let Some(byte) = window.byte(at) else { return Found::Unfinished };
        let broken = |open, unclosed| Found::Broken(Break { at, string, open, inside: false, unclosed });
        match (byte, state) {
            (b' ' | b'\t' | b'\r', _) => at += 1,
            (b'\n', _) => {
                at += 1;
                if !*seen && style.is_some_and(|style| style.begins(window, at)) {
                    *seen = true;
                }
            }
            (b'"', State::Value | State::Key) => {
                string = at;
                match end_of_string(window, at + 1, limit) {
                    StringEnd::At(end) => at = end,
                    StringEnd::Newline(at) => {
                        return Found::Broken(Break { at, string, open, inside: false, unclosed: false });
                    }
                    StringEnd::TooLong(at) => {
                        return Found::TooLong(Break { at, string, open, inside: true, unclosed: false });
                    }
                    StringEnd::Unfinished => return Found::Unfinished,
                }
                state = if state == State::Key { State::Colon } else { State::After };
            }
            (b'{' | b'[', State::Value) => {
                open.push(byte);
                at += 1;
                state = if byte == b'{' { State::Key } else { State::Value };
            }
            // A comma too many breaks no bracket.
            (b'}', State::Key | State::After) if open.last() == Some(&b'{') => {
                open.pop();
                at += 1;
                state = State::After;
            }
            (b']', State::Value | State::After) if open.last() == Some(&b'[') => {
                open.pop();
                at += 1;
                state = State::After;
            }
            (b':', State::Colon) => {
                at += 1;
                state = State::Value;
            }
            (b',', State::After) if !open.is_empty() => {
                at += 1;
                state = if open.last() == Some(&b'{') { State::Key } else { State::Value };
            }
            (_, State::Value) if is_scalar(byte) => {
                while at <= limit && window.byte(at).is_some_and(is_scalar) {
                    at += 1;
                }
                state = State::After;
            }
            (b'{', State::Key) => return broken(open, true),
            _ => return broken(open, false),
        }
        if open.is_empty() && state == State::After {
            return Found::End(at);
        }
    }
}

/// A byte of a number, `true`, `false` or `null`.
pub(super) fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

enum StringEnd {
    /// Behind its closing quote.
    At(usize),
    /// A newline, which no string holds.
    Newline(usize),
    /// So far inside it.
    TooLong(usize),
    Unfinished,
}

/// The end of the string whose content begins at `at`.
fn end_of_string<R: Read>(window: &mut Window<R>, at: usize, limit: usize) -> StringEnd {
    let mut at = at;
    loop {
        let held = window.held();
        match held.get(at..).and_then(|bytes| memchr::memchr3(b'"', b'\\', b'\n', bytes)) {
            Some(found) => {
                at += found;
                match held.get(at).copied() {
                    Some(b'"') => return StringEnd::At(at + 1),
                    Some(b'\\') if window.byte(at + 1) != Some(b'\n') => at += 2,
                    Some(b'\\') => at += 1,
                    _ => return StringEnd::Newline(at),
                }
            }
            None => {
                at = at.max(held.len());
                if at > limit {
                    return StringEnd::TooLong(at);
                }
                if !window.grow() {
                    return StringEnd::Unfinished;
                }
            }
        }
    }
}

/// Where to go on behind a broken value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resumed {
    /// Bytes of the window that belong to the broken value.
    pub(super) at: usize,
    /// Whether they are all that there was of it, since the break.
    pub(super) held: bool,
    /// Whether it is the end of the stream.
    pub(super) end: bool,
}

/// Matches brackets from a break on, forgiving: a string ends with its line, a closing bracket closes what was left open
/// inside. Ends with the value, at a line that begins as elements do, or at a bracket that closes the array around it.
/// What is over the limit is let go.
pub(super) fn forgiving<R: Read>(window: &mut Window<R>, from: Break, limit: usize, style: Option<&Style>) -> Resumed {
    let Break { mut at, mut open, mut inside, .. } = from;
    let mut held = true;
    loop {
        if at > limit {
            window.consume(at);
            (at, held) = (0, false);
        }
        let Some(byte) = window.byte(at) else { return Resumed { at, held, end: true } };
        at += 1;
        match byte {
            b'\n' => {
                inside = false;
                if style.is_some_and(|style| style.begins(window, at)) {
                    return Resumed { at, held, end: false };
                }
            }
            b'\\' if inside && window.byte(at).is_some_and(|next| next != b'\n') => at += 1,
            b'"' => inside = !inside,
            _ if inside => {}
            b'{' | b'[' => open.push(byte),
            b'}' | b']' => {
                let opener = if byte == b'}' { b'{' } else { b'[' };
                match open.iter().rposition(|bracket| *bracket == opener) {
                    Some(depth) => open.truncate(depth),
                    // It closes what is around the value.
                    None if byte == b']' => return Resumed { at: at - 1, held, end: false },
                    None => {}
                }
                if open.is_empty() {
                    return Resumed { at, held, end: false };
                }
            }
            _ => {}
        }
    }
}

/// Where, `from` on, an object follows another behind a comma: `},{"`. What is held is searched.
pub(super) fn between_objects(bytes: &[u8], from: usize) -> Option<usize> {
    let skip = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let mut from = from;
    loop {
        let close = from + memchr::memchr(b'}', bytes.get(from..)?)?;
        let comma = skip(close + 1);
        let open = skip(comma + 1);
        if bytes.get(comma) == Some(&b',') && bytes.get(open) == Some(&b'{') && bytes.get(skip(open + 1)) == Some(&b'"')
        {
            return Some(open);
        }
        from = close + 1;
    }
}
