//! Jinja as `transformers` sets it up for chat templates (`transformers.utils.chat_template_utils`): blocks trimmed, Python's
//! methods and spellings, `tojson` as `json.dumps` has it, `raise_exception`, `strftime_now`, `break` and `continue`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;
use regex::Regex;

use crate::render::conversation::ChatError;

/// `{% generation %}` and its end, which `transformers` adds to Jinja; here they change nothing.
static GENERATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());

/// Deepest value that is printed.
const DEPTH: usize = 128;

/// The templates of a tokenizer, and the tokens that they name.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    /// For conversations with tools, where there is one.
    with_tools: String,
    without: String,
    tokens: Value,
}

impl Templates {
    /// Compiles templates by name.
    pub(super) fn new(
        sources: BTreeMap<String, String>,
        tokens: BTreeMap<String, String>,
        folder: &Path,
    ) -> Result<Self, ChatError> {
        let first = sources.keys().next().cloned().unwrap_or_default();
        let named = |name: &str| sources.contains_key(name).then(|| name.to_owned());
        let without = named("default").unwrap_or(first);
        let with_tools = named("tool_use").unwrap_or_else(|| without.clone());
        let refused = |name: &str, error: &Error| ChatError::Template {
            folder: folder.to_owned(),
            name: name.to_owned(),
            reason: in_words(error),
        };
        let mut environment = environment().map_err(|error| refused(&without, &error))?;
        for (name, source) in sources {
            // As Jinja reads sources.
            let source = without_generation(source.replace("\r\n", "\n").replace('\r', "\n"));
            environment.add_template_owned(name.clone(), source).map_err(|error| refused(&name, &error))?;
        }
        Ok(Self { environment, with_tools, without, tokens: Value::from_pairs(tokens) })
    }

    /// Runs the template that `transformers` would choose.
    pub(super) fn render(&self, tools: bool, values: Value) -> Result<String, String> {
        let name = if tools { &self.with_tools } else { &self.without };
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context! { ..values, ..self.tokens.clone() }))
            .map_err(|error| format!("the chat template refuses it: {}", in_words(&error)))
    }
}

fn in_words(error: &Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or_else(|| detail.clone(), |line| format!("{detail} (line {line})"))
}

fn without_generation(source: String) -> String {
    let Some(tag) = GENERATION.as_ref() else { return source };
    tag.replace_all(&source, |found: &regex::Captures<'_>| {
        let statement = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{{%{} {statement} {}%}}", &found[1], &found[3])
    })
    .into_owned()
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = environment.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax?);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Seq | ValueKind::Map => {
            out.write_str(&python(value, 0)?).map_err(Error::from)
        }
        _ => escape_formatter(out, state, value),
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| -> Result<String, Error> {
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => python(value, 0),
        }
    });
    // Python cannot iterate over None.
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", strftime);
    Ok(environment)
}

/// A value as Python's `str` has it.
fn python(value: &Value, depth: usize) -> Result<String, Error> {
    if depth > DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply to be printed"));
    }
    let inner = |item: &Value| match item.as_str() {
        Some(text) => Ok(quoted(text)),
        None => python(item, depth + 1),
    };
    Ok(match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if !value.is_integer() => f64::try_from(value.clone()).map(float)?,
        ValueKind::Seq => {
            let items = value.try_iter()?.map(|item| inner(&item)).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let mut items = Vec::new();
            for key in value.try_iter()? {
                items.push(format!("{}: {}", inner(&key)?, inner(&value.get_item(&key)?)?));
            }
            format!("{{{}}}", items.join(", "))
        }
        _ => value.to_string(),
    })
}

/// A string as Python's `repr` has it.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() && u32::from(c) < 0x100 => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A number as Python's `repr` has it: the shortest digits, an exponent below 1e-4 and from 1e16 on.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if number != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => {
            let plain = format!("{number}");
            if plain.contains('.') { plain } else { plain + ".0" }
        }
    }
}

/// `json.dumps` with `ensure_ascii=False`.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Value> = options.get("separators")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    // The default is the only one there is: templates name it for the sake of Jinja's own filter.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = Json {
        out: String::new(),
        indent,
        item: if indent.is_some() { "," } else { ", " }.to_owned(),
        key: ": ".to_owned(),
        sorted: sorted.unwrap_or(false),
    };
    if let Some(pair) = separators.filter(|pair| !pair.is_none()) {
        let part = |at: usize| Ok::<_, Error>(pair.get_item(&Value::from(at))?.as_str().unwrap_or_default().to_owned());
        (json.item, json.key) = (part(0)?, part(1)?);
    }
    json.write(value, 0)?;
    Ok(json.out)
}

/// Writes JSON with Python's spaces and numbers.
struct Json {
    out: String,
    indent: Option<usize>,
    item: String,
    key: String,
    sorted: bool,
}

impl Json {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: a value is nested too deeply"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&python(value, 0)?),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq => {
                self.out.push('[');
                let mut empty = true;
                for item in value.try_iter()? {
                    self.begin(empty, depth + 1);
                    empty = false;
                    self.write(&item, depth + 1)?;
                }
                self.end(empty, depth, ']');
            }
            ValueKind::Map => {
                self.out.push('{');
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                for (at, key) in keys.iter().enumerate() {
                    self.begin(at == 0, depth + 1);
                    match key.as_str() {
                        Some(key) => self.string(key),
                        None => self.string(&python(key, 0)?),
                    }
                    self.out.push_str(&self.key);
                    self.write(&value.get_item(key)?, depth + 1)?;
                }
                self.end(keys.is_empty(), depth, '}');
            }
            kind => {
                let message = format!("tojson: {kind} has no JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn begin(&mut self, first: bool, depth: usize) {
        if !first {
            self.out.push_str(&self.item);
        }
        self.line(depth);
    }

    fn end(&mut self, empty: bool, depth: usize, close: char) {
        if !empty {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(64) * depth));
        }
    }

    /// As `serde_json` escapes, which is as Python does.
    fn string(&mut self, text: &str) {
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// A JSON value as the template engine holds it.
pub(super) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(yes) => Value::from(*yes),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(value).collect(),
        serde_json::Value::Object(map) => Value::from_pairs(map.iter().map(|(key, item)| (key.as_str(), value(item)))),
    }
}

/// Today, always: a corpus does not depend on the day it is built. It is the date that Llama 3.1's template has where it is
/// told none.
fn strftime(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = match chars.next() {
            Some('-') => chars.next(),
            other => other,
        };
        out.push_str(match directive {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('d' | 'e') => "26",
            Some('j') => "208",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'I' | 'M' | 'S') => "00",
            Some('%') => "%",
            _ => {
                let message = format!("strftime_now(\"{format}\"): a directive that is not known here");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        });
    }
    Ok(out)
}
