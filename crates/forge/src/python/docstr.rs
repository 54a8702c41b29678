//! Docstrings that PyTorch attaches to functions written in C++: `add_docstr(torch.abs, r"""…""")`,
//! `add_docstr_all("abs_", …)` for tensor methods, and `cholesky = _add_docstr(_linalg.linalg_cholesky, …)`.

use tree_sitter::Node;

use super::literal::{bindings, evaluate};
use super::{Entry, dedent, named_children, text};

/// The entries that a module's calls of `add_docstr` make.
pub fn attached(module: &str, root: Node<'_>, source: &str) -> Vec<Entry> {
    let names = bindings(root, source);
    let mut entries = Vec::new();
    for statement in named_children(root) {
        let Some(expression) = statement.named_child(0) else { continue };
        let (bound, call) = match expression.kind() {
            "assignment" => (expression.child_by_field_name("left"), expression.child_by_field_name("right")),
            _ => (None, Some(expression)),
        };
        let Some(call) = call.filter(|call| call.kind() == "call") else { continue };
        let (Some(function), Some(arguments)) =
            (call.child_by_field_name("function"), call.child_by_field_name("arguments"))
        else {
            continue;
        };
        let function = text(function, source).rsplit('.').next().unwrap_or("").trim_start_matches('_');
        if !function.starts_with("add_docstr") {
            continue;
        }
        let arguments: Vec<Node<'_>> =
            named_children(arguments).into_iter().filter(|argument| argument.kind() != "comment").collect();
        let [target, docstring] = arguments.as_slice() else { continue };
        let Some(docstring) = evaluate(*docstring, source, &names).map(|raw| dedent(&raw)) else { continue };
        let name = match bound {
            Some(left) => format!("{module}.{}", text(left, source)),
            None => match evaluate(*target, source, &names) {
                Some(method) => format!("torch.Tensor.{method}"),
                None => text(*target, source).replace("torch._C.", "torch."),
            },
        };
        let short = name.rsplit('.').next().unwrap_or(&name).to_owned();
        if short.starts_with('_') || docstring.is_empty() {
            continue;
        }
        let (signature, docstring) = split_signature(&short, &docstring);
        entries.push(Entry { name, signature, docstring });
    }
    entries
}

/// Whether a source does little but attach docstrings.
pub fn is_documentation(source: &str) -> bool {
    source.matches("\nadd_docstr").count() > 10
}

/// Such docstrings open with their signatures, since C++ functions carry none: `abs(input, *, out=None) -> Tensor`.
fn split_signature(short: &str, docstring: &str) -> (String, String) {
    let lines = docstring.lines().skip_while(|line| line.trim().is_empty());
    let is_signature =
        |line: &str| line.trim().split_once('(').is_some_and(|(called, _)| called.rsplit('.').next() == Some(short));
    let signatures: Vec<String> = lines
        .clone()
        .take_while(|line| is_signature(line))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let rest: Vec<&str> = lines.skip(signatures.len()).collect();
    (signatures.join("\n"), rest.join("\n").trim_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use crate::python::entries;

    #[test]
    fn attached_docstrings_are_named_for_what_users_call() {
        let source = r#"
common = parse_kwargs("""
    input (Tensor): the input.
""")
add_docstr(
    torch.abs,
    r"""
abs(input, *, out=None) -> Tensor

Computes the absolute value.

Args:
    {input}
""".format(**common),
)
add_docstr_all("add_", "add_(other) -> Tensor\n\nIn place.")
cholesky = _add_docstr(_linalg.linalg_cholesky, "linalg.cholesky(A)\nDecomposes.")
"#;
        let shown: Vec<_> = entries("torch.linalg", source)
            .into_iter()
            .map(|entry| (entry.name, entry.signature, entry.docstring))
            .collect();
        let expected = [
            (
                "torch.abs",
                "abs(input, *, out=None) -> Tensor",
                "Computes the absolute value.\n\nArgs:\n    input (Tensor): the input.",
            ),
            ("torch.Tensor.add_", "add_(other) -> Tensor", "In place."),
            ("torch.linalg.cholesky", "linalg.cholesky(A)", "Decomposes."),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).collect();
        assert_eq!(shown, expected);
    }
}
