//! Python's literals as JSON values: what `str` or `repr` prints of dictionaries, lists, strings and numbers.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is followed, as `serde_json` has it.
const DEPTH: usize = 128;

/// The literal at the beginning of a text and its length in bytes; `None` where there is none.
pub(super) fn parse(text: &str) -> Option<(Value, usize)> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    Some((value, parser.at))
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.rest().trim_start().len();
        self.rest().chars().next()
    }

    fn take(&mut self, expected: char) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += expected.len_utf8())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth >= DEPTH {
            return None;
        }
        match self.peek()? {
            '{' => self.map(depth),
            '[' => self.items('[', ']', depth),
            '(' => self.items('(', ')', depth),
            quote @ ('\'' | '"') => Some(Value::String(self.string(quote)?)),
            _ => self.word(),
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        let mut map = Map::new();
        self.take('{')?;
        while self.peek()? != '}' {
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            self.take(':')?;
            map.insert(key, self.value(depth + 1)?);
            if self.take(',').is_none() {
                break;
            }
        }
        self.take('}')?;
        Some(Value::Object(map))
    }

    fn items(&mut self, open: char, close: char, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        self.take(open)?;
        while self.peek()? != close {
            items.push(self.value(depth + 1)?);
            if self.take(',').is_none() {
                break;
            }
        }
        self.take(close)?;
        Some(Value::Array(items))
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += at + 1;
                    return Some(out);
                }
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    '0' => out.push('\0'),
                    '\n' => {}
                    letter @ ('x' | 'u' | 'U') => {
                        let digits = match letter {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let mut code = 0_u32;
                        for _ in 0..digits {
                            code = code.checked_mul(16)?.checked_add(chars.next()?.1.to_digit(16)?)?;
                        }
                        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    c @ ('\\' | '\'' | '"') => out.push(c),
                    // An escape that Python does not know stands as it is.
                    other => out.extend(['\\', other]),
                },
                c => out.push(c),
            }
        }
        None
    }

    /// A number, `True`, `False` or `None`, or JSON's words for these.
    fn word(&mut self) -> Option<Value> {
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(rest.len());
        let word = &rest[..length];
        let value = match word {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            "None" | "null" => Value::Null,
            _ => match word.parse::<i64>() {
                Ok(integer) => Value::Number(integer.into()),
                Err(_) if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                    Value::Number(Number::from_f64(word.parse().ok()?)?)
                }
                Err(_) => return None,
            },
        };
        self.at += length;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_prints_is_read_back() {
        let text = r#"[{'name': 'it\'s', "b": [1, -2.5, True, None, (3,)], 'c': {}, 'd': "\u00e9\n\q"}] and more"#;
        let (value, length) = parse(text).unwrap();
        let expected = serde_json::json!([
            {"name": "it's", "b": [1, -2.5, true, null, [3]], "c": {}, "d": "é\n\\q"}
        ]);
        assert_eq!((value, &text[length..]), (expected, " and more"));
        for wrong in ["", "[1, 2", "{'a' 1}", "'open", "name", "{'a': }", &"[".repeat(100_000)] {
            assert_eq!(parse(wrong), None, "{}", &wrong[..wrong.len().min(20)]);
        }
    }
}
