//! The value of a string expression, worked out without running Python: literals and their prefixes, concatenation, names
//! bound at the top of the module, and `str.format`.

use std::collections::HashMap;

use tree_sitter::Node;

use super::{named_children, text};

/// Deepest expression followed; sources are hostile.
const DEPTH: usize = 64;

/// What a name at the top of a module is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// A dictionary of strings, as shared argument descriptions are kept.
    Map(HashMap<String, String>),
}

/// Names bound at the top of a module.
pub type Names = HashMap<String, Value>;

/// The string an expression comes to; `None` if it is none, or depends on what only running would tell.
pub fn evaluate(node: Node<'_>, source: &str, names: &Names) -> Option<String> {
    string(node, source, names, 0)
}

/// Binds every top-level `NAME = …` that is a string or a dictionary of strings.
pub fn bindings(root: Node<'_>, source: &str) -> Names {
    let mut names = Names::new();
    for statement in named_children(root) {
        let Some(assignment) = statement.named_child(0).filter(|child| child.kind() == "assignment") else { continue };
        let (Some(left), Some(right)) =
            (assignment.child_by_field_name("left"), assignment.child_by_field_name("right"))
        else {
            continue;
        };
        if left.kind() != "identifier" {
            continue;
        }
        let value = match map(right, source, &names, 0) {
            Some(map) => Some(Value::Map(map)),
            None => evaluate(right, source, &names).map(Value::Text),
        };
        if let Some(value) = value {
            names.insert(text(left, source).to_owned(), value);
        }
    }
    names
}

fn string(node: Node<'_>, source: &str, names: &Names, depth: usize) -> Option<String> {
    if depth > DEPTH {
        return None;
    }
    let inner = |node| string(node, source, names, depth + 1);
    match node.kind() {
        "string" => literal(text(node, source)),
        "concatenated_string" => {
            let parts = named_children(node).into_iter().filter(|child| child.kind() == "string");
            parts.map(inner).collect()
        }
        "parenthesized_expression" => {
            named_children(node).into_iter().find(|child| child.kind() != "comment").and_then(inner)
        }
        "binary_operator" if node.child_by_field_name("operator").is_some_and(|op| text(op, source) == "+") => {
            Some(inner(node.child_by_field_name("left")?)? + &inner(node.child_by_field_name("right")?)?)
        }
        "identifier" => match names.get(text(node, source))? {
            Value::Text(text) => Some(text.clone()),
            Value::Map(_) => None,
        },
        "call" => {
            let function = node.child_by_field_name("function").filter(|function| function.kind() == "attribute")?;
            let template = inner(function.child_by_field_name("object")?)?;
            let method = text(function.child_by_field_name("attribute")?, source);
            let arguments = named_children(node.child_by_field_name("arguments")?);
            match method {
                "format" => Some(format(&template, &format_arguments(&arguments, source, names, depth))),
                "strip" | "lstrip" | "rstrip" if arguments.is_empty() => Some(template.trim().to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

fn format_arguments(arguments: &[Node<'_>], source: &str, names: &Names, depth: usize) -> HashMap<String, String> {
    let mut values = HashMap::new();
    for (position, argument) in arguments.iter().enumerate() {
        match argument.kind() {
            "dictionary_splat" => {
                let given = argument.named_child(0).and_then(|child| map(child, source, names, depth + 1));
                values.extend(given.unwrap_or_default());
            }
            "keyword_argument" => {
                let (name, value) = (argument.child_by_field_name("name"), argument.child_by_field_name("value"));
                if let (Some(name), Some(value)) = (name, value)
                    && let Some(value) = string(value, source, names, depth + 1)
                {
                    values.insert(text(name, source).to_owned(), value);
                }
            }
            _ => {
                if let Some(value) = string(*argument, source, names, depth + 1) {
                    values.insert(position.to_string(), value);
                }
            }
        }
    }
    values
}

/// A dictionary display, a bound one, or PyTorch's two helpers that build them: `parse_kwargs` and `merge_dicts`.
fn map(node: Node<'_>, source: &str, names: &Names, depth: usize) -> Option<HashMap<String, String>> {
    if depth > DEPTH {
        return None;
    }
    match node.kind() {
        "identifier" => match names.get(text(node, source))? {
            Value::Map(map) => Some(map.clone()),
            Value::Text(_) => None,
        },
        "dictionary" => {
            let mut values = HashMap::new();
            for pair in named_children(node) {
                match pair.kind() {
                    "pair" => {
                        let key = string(pair.child_by_field_name("key")?, source, names, depth + 1)?;
                        if let Some(value) = string(pair.child_by_field_name("value")?, source, names, depth + 1) {
                            values.insert(key, value);
                        }
                    }
                    "dictionary_splat" => values.extend(map(pair.named_child(0)?, source, names, depth + 1)?),
                    _ => {}
                }
            }
            Some(values)
        }
        "call" => {
            let function = text(node.child_by_field_name("function")?, source);
            let arguments = named_children(node.child_by_field_name("arguments")?);
            match function {
                "parse_kwargs" => Some(described(&string(*arguments.first()?, source, names, depth + 1)?)),
                "merge_dicts" => {
                    let maps = arguments.iter().filter_map(|argument| map(*argument, source, names, depth + 1));
                    Some(maps.flatten().collect())
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Argument descriptions by name: a description begins on a line indented by four spaces exactly.
fn described(text: &str) -> HashMap<String, String> {
    let mut values = HashMap::new();
    let mut current = String::new();
    let mut keep = |section: &str| {
        let section = section.trim();
        if let Some(name) = section.split(' ').next().filter(|name| !name.is_empty()) {
            values.insert(name.to_owned(), section.to_owned());
        }
    };
    for line in text.lines() {
        if line.starts_with("    ") && !line[4..].starts_with(char::is_whitespace) && !line[4..].is_empty() {
            keep(&std::mem::take(&mut current));
        }
        current.push_str(line);
        current.push('\n');
    }
    keep(&current);
    values
}

/// `str.format` for plain names; a field without a value stands as its bare name, or goes if it is a line of its own.
fn format(template: &str, values: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    let mut position = 0;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..];
        if brace.starts_with("{{") || brace.starts_with("}}") {
            out.push_str(&brace[..1]);
            rest = &brace[2..];
        } else if let Some(end) = brace.find('}').filter(|_| brace.starts_with('{')) {
            let field = &brace[1..end];
            let key = if field.is_empty() { position.to_string() } else { field.to_owned() };
            position += usize::from(field.is_empty());
            rest = &brace[end + 1..];
            match values.get(&key) {
                Some(value) => out.push_str(value),
                // Shared notes of another module, alone on their lines.
                None if rest.starts_with('\n') && out.rsplit('\n').next().is_none_or(|line| line.trim().is_empty()) => {
                }
                None => out.push_str(field),
            }
        } else {
            out.push_str(&brace[..1]);
            rest = &brace[1..];
        }
    }
    out + rest
}

/// The value of one string literal as written, prefix and quotes included; `None` for bytes.
fn literal(written: &str) -> Option<String> {
    let quote = written.find(['"', '\''])?;
    let prefix = written[..quote].to_ascii_lowercase();
    let body = &written[quote..];
    let marks = if body.starts_with("\"\"\"") || body.starts_with("'''") { 3 } else { 1 };
    let body = body.get(marks..body.len().checked_sub(marks)?)?;
    if prefix.contains('b') {
        return None;
    }
    Some(if prefix.contains('r') { body.to_owned() } else { unescape(body) })
}

fn unescape(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(mark) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        let hex = match mark {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        if hex > 0 {
            match rest.get(1..=hex).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
                Some(character) => {
                    out.push(character);
                    rest = &rest[hex + 1..];
                }
                None => out.push('\\'),
            }
            continue;
        }
        rest = &rest[mark.len_utf8()..];
        match mark {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            '\\' | '\'' | '"' => out.push(mark),
            // Python keeps the backslash of an escape it does not know.
            _ => out.extend(['\\', mark]),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::parse;

    fn value_of_last(source: &str) -> Option<String> {
        let tree = parse(source).unwrap();
        let names = bindings(tree.root_node(), source);
        match names.get("x") {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    #[test]
    fn literals_concatenation_and_escapes_come_to_python_s_values() {
        assert_eq!(value_of_last(r#"x = "a\tb" r'\d' + ("c" "\x41")"#).as_deref(), Some("a\tb\\dcA"));
        assert_eq!(value_of_last("x = '''one \\\ntwo'''").as_deref(), Some("one two"));
        assert_eq!(value_of_last("x = '\\q\\u00e9'").as_deref(), Some("\\qé"));
        assert_eq!(value_of_last("x = b'bytes'"), None);
        assert_eq!(value_of_last("x = '\\"), None);
    }

    #[test]
    fn a_field_without_a_value_goes_if_it_is_a_line_of_its_own_and_else_shows_its_name() {
        assert_eq!(value_of_last("x = 'a\\n{note}\\nb {note}\\n'.format(**other)").as_deref(), Some("a\n\nb note\n"));
    }

    #[test]
    fn format_takes_shared_argument_descriptions() {
        let source = r#"
common = parse_kwargs("""
    input (Tensor): the input.
    out (Tensor, optional): the
        output.
""")
more = merge_dicts(common, {"dim": "dim (int): the dimension."})
x = """Args:
    {input} {{1}}
    {out}
    {dim} {missing}""".format(**more)
"#;
        assert_eq!(
            value_of_last(source).as_deref(),
            Some(
                "Args:\n    input (Tensor): the input. {1}\n    out (Tensor, optional): the\n        output.\n    dim (int): the dimension. missing"
            )
        );
    }
}
