//! Sources without their docstrings.

use std::ops::Range;

use tree_sitter::Node;

use super::{docstring_node, named_children, parse};

/// Deepest nesting followed; sources are hostile.
const DEPTH: usize = 64;

/// The source with every docstring taken out; a body that held nothing else keeps `...`.
pub fn without_docstrings(source: &str) -> String {
    let Some(tree) = parse(source) else { return source.to_owned() };
    let mut cuts: Vec<(Range<usize>, &str)> = Vec::new();
    collect(tree.root_node(), &mut cuts, 0);
    let mut out = String::with_capacity(source.len());
    let mut from = 0;
    for (range, instead) in cuts {
        let Some(before) = source.get(from..range.start) else { continue };
        if instead.is_empty() {
            // The docstring's whole lines go, where nothing else stands on them.
            let kept = before.trim_end_matches([' ', '\t']);
            let alone = kept.is_empty() || kept.ends_with('\n');
            let after = source[range.end..].find('\n').map_or(source.len(), |end| range.end + end + 1);
            if alone && source[range.end..after].trim().is_empty() {
                out.push_str(kept);
                from = after;
                continue;
            }
        }
        out.push_str(before);
        out.push_str(instead);
        from = range.end;
    }
    out.push_str(source.get(from..).unwrap_or(""));
    out
}

fn collect(node: Node<'_>, cuts: &mut Vec<(Range<usize>, &'static str)>, depth: usize) {
    if depth > DEPTH {
        return;
    }
    let body = match node.kind() {
        "module" => Some(node),
        "function_definition" | "class_definition" => node.child_by_field_name("body"),
        _ => None,
    };
    if let Some(body) = body
        && let Some(docstring) = docstring_node(body)
    {
        let only = node.kind() != "module"
            && named_children(body).iter().filter(|child| child.kind() != "comment").count() == 1;
        cuts.push((docstring.byte_range(), if only { "..." } else { "" }));
    }
    for child in named_children(node) {
        if !matches!(child.kind(), "expression_statement" | "comment" | "string") {
            collect(child, cuts, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docstrings_go_and_other_strings_stay() {
        let source = "\"\"\"Module.\n\nLong.\n\"\"\"\nimport os\n\ndef f():\n    '''Doc.'''\n    return \"\"\"kept\"\"\"\n\nclass A:\n    \"only\"\n\nx = '''kept'''\n";
        assert_eq!(
            without_docstrings(source),
            "import os\n\ndef f():\n    return \"\"\"kept\"\"\"\n\nclass A:\n    ...\n\nx = '''kept'''\n"
        );
    }
}
