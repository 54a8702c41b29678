//! What an installed Python package says about itself, read from its sources without running them.
//!
//! [`outline`] finds definitions with their docstrings; [`docstr`] finds the docstrings that PyTorch attaches to functions
//! written in C++ (`add_docstr(torch.abs, …)`), which need [`literal`] to work out string expressions; [`doctest`] takes
//! `>>>` sessions apart; [`pages`] renders documentation pages and call trajectories; [`strip`] is the code without its
//! docstrings, so that what the pages teach is not in the code as well.

pub mod docstr;
pub mod doctest;
pub mod literal;
pub mod outline;
pub mod pages;
pub mod strip;

use tree_sitter::{Node, Parser, Tree};

/// Something documented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Qualified name: `package.module.Class.method`.
    pub name: String,
    /// How it is called, on one line: `def name(arguments) -> result`; empty when not known.
    pub signature: String,
    /// Its docstring, indentation removed.
    pub docstring: String,
}

/// Parses a module; tree-sitter parses what it can of broken sources. `None` only if the parser itself fails.
pub fn parse(source: &str) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_python::LANGUAGE.into()).ok()?;
    parser.parse(source, None)
}

/// Everything public that a module documents, in source order: definitions, then attached docstrings.
pub fn entries(module: &str, source: &str) -> Vec<Entry> {
    let Some(tree) = parse(source) else { return Vec::new() };
    let mut entries = outline::definitions(module, tree.root_node(), source);
    if source.contains("add_docstr") {
        entries.extend(docstr::attached(module, tree.root_node(), source));
    }
    entries
}

/// A node's source text.
fn text<'a>(node: Node<'_>, source: &'a str) -> &'a str {
    source.get(node.byte_range()).unwrap_or("")
}

fn named_children(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).collect()
}

/// The string node that is a body's docstring, if it has one.
fn docstring_node(body: Node<'_>) -> Option<Node<'_>> {
    let first = named_children(body).into_iter().find(|node| node.kind() != "comment")?;
    let inner = match first.kind() {
        "expression_statement" => first.named_child(0)?,
        _ => first,
    };
    matches!(inner.kind(), "string" | "concatenated_string").then_some(inner)
}

/// Removes the indentation that all lines but the first share, and blank lines around (PEP 257).
pub fn dedent(docstring: &str) -> String {
    let expanded = docstring.replace('\t', "        ");
    let lines: Vec<&str> = expanded.lines().collect();
    let margin = lines
        .iter()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let cut = lines.iter().enumerate().map(|(number, line)| match number {
        0 => line.trim(),
        _ => line.get(margin..).unwrap_or(line.trim_start()).trim_end(),
    });
    let text = cut.collect::<Vec<_>>().join("\n");
    text.trim_matches('\n').trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_source_makes_the_readers_panic(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "def f", "(", ")", ":", "\n", "    ", "\t", "class A", "\"\"\"", "'", "\"", ">>> ", "... ", "[", "]", "{", "}",
                    "{{", "x", "é", "世", "\u{2003}", "\\", "\\x4", "r", "b", "#", "@overload\n", "add_docstr(", ",", "+",
                    ".format(", "**k", "x = ", "if 1:\n ", ":func:`~a`", "torch.x", "return", "\r\n",
                ]),
                0..60,
            )
        ) {
            let source = pieces.concat();
            for entry in entries("m", &source) {
                let _ = (pages::documentation(&entry), pages::trajectory(&entry));
            }
            let _ = (strip::without_docstrings(&source), doctest::parts(&source), pages::plain_roles(&source));
        }
    }

    #[test]
    fn deep_nesting_neither_overflows_the_stack_nor_hangs() {
        let source = format!("x = {}1{}\n", "(".repeat(50_000), ")".repeat(50_000));
        let _ = (entries("m", &source), strip::without_docstrings(&source));
        let nested: String = (0..500).map(|depth| format!("{}class A:\n", " ".repeat(depth))).collect();
        let _ = (entries("m", &nested), strip::without_docstrings(&nested));
    }

    #[test]
    fn dedent_follows_pep_257() {
        assert_eq!(dedent("\n    One.\n\n      Two.\n    Three.\n    "), "One.\n\n  Two.\nThree.");
        assert_eq!(dedent("First line.\n    Rest."), "First line.\nRest.");
        // A wide space has fewer columns than bytes: nothing may be cut inside it.
        assert_eq!(dedent("a\n\u{2003}b\n c"), "a\nb\nc");
    }
}
