//! Public definitions with their signatures and docstrings.

use tree_sitter::Node;

use super::literal::{Names, evaluate};
use super::{Entry, dedent, docstring_node, named_children, text};

/// Deepest nesting followed; sources are hostile.
const DEPTH: usize = 12;

/// Every public function, class and method of a module that has a docstring, and the module itself under its own name.
pub fn definitions(module: &str, root: Node<'_>, source: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Some(docstring) = docstring(root, source) {
        entries.push(Entry { name: module.to_owned(), signature: String::new(), docstring });
    }
    visit(root, module, source, &mut entries, 0);
    entries
}

/// The docstring of a module, or of a definition's body.
pub fn docstring(body: Node<'_>, source: &str) -> Option<String> {
    let raw = evaluate(docstring_node(body)?, source, &Names::default())?;
    let docstring = dedent(&raw);
    (!docstring.is_empty()).then_some(docstring)
}

fn visit(block: Node<'_>, scope: &str, source: &str, out: &mut Vec<Entry>, depth: usize) {
    if depth > DEPTH {
        return;
    }
    for node in named_children(block) {
        match node.kind() {
            "decorated_definition" => {
                let decorators = named_children(node);
                let overload = decorators
                    .iter()
                    .any(|child| child.kind() == "decorator" && text(*child, source).trim_end().ends_with("overload"));
                if let (Some(definition), false) = (node.child_by_field_name("definition"), overload) {
                    define(definition, scope, source, out, depth);
                }
            }
            "function_definition" | "class_definition" => define(node, scope, source, out, depth),
            // Definitions that depend on a platform or an import.
            "if_statement" | "try_statement" | "else_clause" | "elif_clause" | "except_clause" | "block"
            | "with_statement" => visit(node, scope, source, out, depth + 1),
            _ => {}
        }
    }
}

fn define(node: Node<'_>, scope: &str, source: &str, out: &mut Vec<Entry>, depth: usize) {
    let (Some(name), Some(body)) = (node.child_by_field_name("name"), node.child_by_field_name("body")) else {
        return;
    };
    let name = text(name, source);
    if name.starts_with('_') {
        return;
    }
    let qualified = format!("{scope}.{name}");
    let is_class = node.kind() == "class_definition";
    if let Some(docstring) = docstring(body, source) {
        let signature =
            if is_class { class_signature(node, body, name, source) } else { function_signature(node, source) };
        out.push(Entry { name: qualified.clone(), signature, docstring });
    }
    if is_class {
        visit(body, &qualified, source, out, depth + 1);
    }
}

/// `def name(a, b=1) -> int`, on one line.
fn function_signature(node: Node<'_>, source: &str) -> String {
    let field = |name| node.child_by_field_name(name).map_or("", |child| text(child, source));
    let result = match field("return_type") {
        "" => String::new(),
        result => format!(" -> {result}"),
    };
    one_line(&format!("def {}{}{result}", field("name"), field("parameters")))
}

/// `class Name(arguments of __init__)`, on one line.
fn class_signature(node: Node<'_>, body: Node<'_>, name: &str, source: &str) -> String {
    let init = named_children(body).into_iter().find_map(|child| {
        let definition =
            if child.kind() == "decorated_definition" { child.child_by_field_name("definition")? } else { child };
        let is_init = definition.kind() == "function_definition"
            && definition.child_by_field_name("name").is_some_and(|name| text(name, source) == "__init__");
        is_init.then(|| definition.child_by_field_name("parameters"))?
    });
    let arguments = match init {
        Some(parameters) => {
            let list = named_children(parameters).into_iter().filter(|child| child.kind() != "comment").skip(1);
            format!("({})", list.map(|child| text(child, source)).collect::<Vec<_>>().join(", "))
        }
        None => node.child_by_field_name("superclasses").map_or(String::new(), |bases| text(bases, source).to_owned()),
    };
    one_line(&format!("class {name}{arguments}"))
}

/// Comments dropped, white space collapsed.
fn one_line(signature: &str) -> String {
    let lines = signature.lines().map(|line| {
        match line.find("  #").or_else(|| line.trim_start().starts_with('#').then_some(0)) {
            Some(at) => &line[..at],
            None => line,
        }
    });
    let words = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    words.replace("( ", "(").replace(", )", ")").replace(",)", ")").replace(" )", ")")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::parse;

    const SOURCE: &str = r#"
"""A module."""

def visible(a: int,
            b: str = "x",  # a comment
            ) -> bool:
    r"""Says \d.

    More.
    """

def _hidden():
    """No."""

def silent():
    pass

if True:
    class Thing(Base):
        """A thing."""
        def __init__(self, size, *, deep=False):
            """Never shown."""
        @property
        def size(self):
            'How large.'
        def _private(self):
            """No."""
"#;

    #[test]
    fn public_documented_definitions_are_found_with_their_signatures() {
        let tree = parse(SOURCE).unwrap();
        let found = definitions("pack.mod", tree.root_node(), SOURCE);
        let shown: Vec<_> = found
            .iter()
            .map(|entry| (entry.name.as_str(), entry.signature.as_str(), entry.docstring.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("pack.mod", "", "A module."),
                ("pack.mod.visible", "def visible(a: int, b: str = \"x\") -> bool", "Says \\d.\n\nMore."),
                ("pack.mod.Thing", "class Thing(size, *, deep=False)", "A thing."),
                ("pack.mod.Thing.size", "def size(self)", "How large."),
            ]
        );
    }

    #[test]
    fn a_broken_source_gives_what_it_can() {
        let source = "def fine():\n    '''Fine.'''\n\ndef broken(:\n  ]]]\n";
        let tree = parse(source).unwrap();
        let found = definitions("m", tree.root_node(), source);
        assert_eq!(found.first().map(|entry| entry.docstring.as_str()), Some("Fine."));
    }
}
