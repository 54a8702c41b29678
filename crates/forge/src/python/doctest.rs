//! `>>>` sessions in docstrings: what was called and what came back.
//!
//! Written sessions are laxer than the doctest module: continuation lines lack their `...`, and printed tensors hold blank
//! lines. Both are told by brackets that are still open.

/// One call of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The source, prompts removed.
    pub call: String,
    /// What was printed; empty when nothing was.
    pub result: String,
}

/// A docstring taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The text without sessions, and without headings that only introduced one.
    pub prose: String,
    /// The sessions' calls in order.
    pub examples: Vec<Example>,
}

/// Takes a docstring apart.
pub fn parts(docstring: &str) -> Parts {
    let mut prose: Vec<&str> = Vec::new();
    let mut examples = Vec::new();
    let mut lines = docstring.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(first) = prompt(line, ">>>") else {
            prose.push(line);
            continue;
        };
        drop_introduction(&mut prose);
        let indent = line.len() - line.trim_start().len();
        let mut call = first.to_owned();
        while let Some(next) = lines.peek().copied() {
            let continuation = prompt(next, "...");
            let unfinished = open_brackets(&call) > 0 && prompt(next, ">>>").is_none() && !next.trim().is_empty();
            match continuation {
                Some(rest) => call = format!("{call}\n{rest}"),
                None if unfinished => call = format!("{call}\n{}", next.get(indent + 4..).unwrap_or(next.trim())),
                None => break,
            }
            lines.next();
        }
        let mut result: Vec<&str> = Vec::new();
        while let Some(next) = lines.peek().copied() {
            let blank = next.trim().is_empty();
            let open = open_brackets(&result.join("\n")) > 0;
            let outdented = !blank && next.len() - next.trim_start().len() < indent;
            if prompt(next, ">>>").is_some() || outdented || (blank && !open) {
                break;
            }
            result.push(next.get(indent..).unwrap_or("").trim_end());
            lines.next();
        }
        let call: Vec<&str> = call.lines().map(str::trim_end).filter(|line| !is_directive(line)).collect();
        let call = call.join("\n").trim_matches('\n').to_owned();
        let result = result.join("\n").replace("<BLANKLINE>", "").trim_matches('\n').to_owned();
        if !call.trim().is_empty() {
            examples.push(Example { call, result });
        }
    }
    let mut text = String::new();
    for line in prose {
        // Sessions leave runs of blank lines behind.
        if !(line.trim().is_empty() && text.ends_with("\n\n")) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Parts { prose: text.trim_matches('\n').to_owned(), examples }
}

/// What follows a prompt; `None` if the line has none.
fn prompt<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let rest = line.trim_start().strip_prefix(mark)?;
    match rest.strip_prefix(' ') {
        Some(code) => Some(code),
        None => rest.is_empty().then_some(""),
    }
}

/// Lines that steer a test runner rather than call anything.
fn is_directive(line: &str) -> bool {
    let comment = line.trim_start();
    comment.starts_with("# xdoctest") || comment.starts_with("# doctest") || comment.starts_with("# +SKIP")
}

/// Removes trailing lines that only say that an example follows.
fn drop_introduction(prose: &mut Vec<&str>) {
    while let Some(last) = prose.last() {
        let bare = last.trim().trim_end_matches(':').trim().to_ascii_lowercase();
        let introduces = matches!(bare.as_str(), "" | "example" | "examples" | "usage" | "example usage")
            || bare.starts_with(".. code-block")
            || bare.starts_with(".. doctest")
            || bare.starts_with(".. testcode")
            // A section heading's underline.
            || bare.chars().all(|character| character == '-' || character == '=');
        if !introduces {
            break;
        }
        prose.pop();
    }
    prose.push("");
}

/// Brackets opened and not closed, strings and comments aside.
fn open_brackets(code: &str) -> i64 {
    let mut open = 0;
    let mut quote = None;
    let mut comment = false;
    for character in code.chars() {
        match (quote, character) {
            (_, '\n') => (quote, comment) = (None, false),
            _ if comment => {}
            (Some(mark), _) if mark == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '#') => comment = true,
            (None, '(' | '[' | '{') => open += 1,
            (None, ')' | ']' | '}') => open -= 1,
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_gives_its_calls_and_results_and_leaves_the_prose() {
        let parts = parts(concat!(
            "Adds.\n\nExample::\n\n",
            "    >>> # xdoctest: +SKIP\n",
            "    >>> x = torch.ones(2,\n",
            "                       2)\n",
            "    >>> for i in x:\n",
            "    ...     print(i)\n",
            "    tensor([1.])\n",
            "    tensor([1.])\n\n",
            "    >>> x.view(2, 1, 2)\n",
            "    tensor([[[1., 1.]],\n\n",
            "            [[1., 1.]]])\n",
            "\nSee also sub.\n"
        ));
        assert_eq!(parts.prose, "Adds.\n\nSee also sub.");
        let shown: Vec<_> = parts.examples.iter().map(|e| (e.call.as_str(), e.result.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("x = torch.ones(2,\n               2)", ""),
                ("for i in x:\n    print(i)", "tensor([1.])\ntensor([1.])"),
                ("x.view(2, 1, 2)", "tensor([[[1., 1.]],\n\n        [[1., 1.]]])"),
            ]
        );
    }
}
