//! Documentation pages and call trajectories, as text a model reads.

use super::Entry;
use super::doctest::{Example, parts};

/// Fewest bytes of prose worth a page.
const LEAST_PROSE: usize = 24;

/// A documentation page without its sessions; `None` when next to nothing is said.
pub fn documentation(entry: &Entry) -> Option<String> {
    let prose = plain_roles(&parts(&entry.docstring).prose);
    if prose.len() < LEAST_PROSE {
        return None;
    }
    let mut page = format!("# {}\n\n", entry.name);
    if !entry.signature.is_empty() {
        page.push_str(&format!("```python\n{}\n```\n\n", entry.signature));
    }
    page.push_str(&prose);
    page.push('\n');
    Some(page)
}

/// The sessions of a docstring as one trajectory; `None` without a call that shows its result.
pub fn trajectory(entry: &Entry) -> Option<String> {
    let parts = parts(&entry.docstring);
    if parts.examples.iter().all(|example| example.result.is_empty()) {
        return None;
    }
    let mut page = format!("### API\n{}\n", entry.name);
    if !entry.signature.is_empty() {
        page.push_str(&format!("{}\n", entry.signature));
    }
    if let Some(summary) = summary(&plain_roles(&parts.prose)) {
        page.push_str(&format!("{summary}\n"));
    }
    // Calls up to the next result are made together.
    let mut calls = String::new();
    for Example { call, result } in &parts.examples {
        calls.push_str(call);
        calls.push('\n');
        if !result.is_empty() {
            page.push_str(&format!("\n### Call\n{calls}### Result\n{result}\n"));
            calls.clear();
        }
    }
    if !calls.is_empty() {
        page.push_str(&format!("\n### Call\n{calls}"));
    }
    Some(page)
}

/// The first paragraph on one line, cut after its first sentence where that is long.
fn summary(prose: &str) -> Option<String> {
    let mut paragraphs =
        prose.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let first = paragraphs.find(|paragraph| !paragraph.is_empty() && !paragraph.starts_with(".. "))?;
    match first.find(". ") {
        Some(end) => Some(first[..=end].to_owned()),
        None => Some(first),
    }
}

/// Sphinx roles as plain code marks: ``:func:`~torch.abs` `` becomes `` `torch.abs` ``.
pub fn plain_roles(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(":`") {
        let before = &rest[..at];
        let role = before.rfind(':').filter(|start| {
            let name = &before[start + 1..];
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
        });
        let mut after = &rest[at + 1..];
        match role {
            Some(start) => {
                out.push_str(before[..start].strip_suffix(":py").unwrap_or(&before[..start]));
                after = &after[1..];
                out.push('`');
                rest = after.strip_prefix(['~', '!']).unwrap_or(after);
            }
            None => {
                out.push_str(&rest[..=at]);
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            name: "torch.abs".to_owned(),
            signature: "abs(input) -> Tensor".to_owned(),
            docstring: "Computes the absolute value of\n:attr:`input`. Elementwise.\n\nExample::\n\n    >>> x = torch.tensor([-1])\n    >>> torch.abs(x)\n    tensor([1])\n".to_owned(),
        }
    }

    #[test]
    fn a_page_has_name_signature_and_prose_but_no_session() {
        assert_eq!(
            documentation(&entry()).unwrap(),
            "# torch.abs\n\n```python\nabs(input) -> Tensor\n```\n\nComputes the absolute value of\n`input`. Elementwise.\n"
        );
    }

    #[test]
    fn a_trajectory_pairs_calls_with_results() {
        assert_eq!(
            trajectory(&entry()).unwrap(),
            "### API\ntorch.abs\nabs(input) -> Tensor\nComputes the absolute value of `input`.\n\n### Call\nx = torch.tensor([-1])\ntorch.abs(x)\n### Result\ntensor([1])\n"
        );
    }

    #[test]
    fn roles_become_code_marks() {
        assert_eq!(plain_roles("See :py:class:`~a.B` or :meth:`c`; 1:`x` stays"), "See `a.B` or `c`; 1:`x` stays");
    }
}
