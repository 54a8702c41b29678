//! Descriptions as people write them into specifications, half Markdown and half HTML, as Markdown.

/// Longest run from `<` to `>` that is taken for a tag, in bytes.
const TAG: usize = 600;

/// Markdown of a description: HTML's common tags and entities translated, everything else as it stands, code untouched.
pub(super) fn markdown(text: &str) -> String {
    let text = text.trim();
    if !text.contains(['<', '&', '\r']) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut open = Open::default();
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&', '`', '\r']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match rest.as_bytes()[0] {
            b'`' => code(rest, &mut out),
            b'&' => entity(rest, &mut out),
            b'<' => tag(rest, &mut out, &mut open),
            _ => {
                if rest.as_bytes().get(1) != Some(&b'\n') {
                    out.push('\n');
                }
                1
            }
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    squeezed(&out)
}

/// Copies a code span or block, to its closing run of backticks; returns the bytes taken.
fn code(rest: &str, out: &mut String) -> usize {
    let run = rest.bytes().take_while(|byte| *byte == b'`').count();
    let length = rest[run..].find(&rest[..run]).map_or(run, |at| run + at + run);
    out.push_str(&rest[..length]);
    length
}

fn entity(rest: &str, out: &mut String) -> usize {
    const ENTITIES: &[(&str, &str)] = &[
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&apos;", "'"),
        ("&nbsp;", " "),
    ];
    for (name, meaning) in ENTITIES {
        if rest.starts_with(name) {
            out.push_str(meaning);
            return name.len();
        }
    }
    out.push('&');
    1
}

/// What has begun and not ended.
#[derive(Default)]
struct Open<'a> {
    /// A link, by its target.
    link: Option<&'a str>,
    /// A block of code.
    block: bool,
}

/// Translates the tag that `rest` begins with, or copies its `<` where it is none; returns the bytes taken.
fn tag<'a>(rest: &'a str, out: &mut String, open: &mut Open<'a>) -> usize {
    if rest.starts_with("<!--")
        && let Some(end) = rest.find("-->")
    {
        return end + 3;
    }
    let window = &rest.as_bytes()[..rest.len().min(TAG)];
    let Some(end) = window.iter().position(|byte| *byte == b'>') else {
        out.push('<');
        return 1;
    };
    let inside = &rest[1..end];
    let (closing, inside) = inside.strip_prefix('/').map_or((false, inside), |inside| (true, inside));
    let name: String = inside.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let mark = match (name.as_str(), closing) {
        ("br", _) => "\n",
        ("p" | "div" | "ul" | "ol" | "table" | "aside" | "details" | "blockquote", _) => "\n\n",
        ("b" | "strong", _) => "**",
        ("i" | "em", _) => "*",
        ("code" | "tt" | "kbd", _) => "`",
        ("pre", false) => "\n```\n",
        ("pre", true) => "\n```\n\n",
        ("li", false) => "\n- ",
        ("h1" | "h2" | "h3" | "h4" | "h5" | "h6", false) => "\n\n### ",
        ("h1" | "h2" | "h3" | "h4" | "h5" | "h6", true) => "\n\n",
        ("tr", false) => "\n",
        ("td" | "th", true) => " | ",
        ("li" | "tr" | "img" | "span" | "font" | "sup" | "sub" | "small" | "u" | "summary" | "tbody" | "thead", _)
        | ("td" | "th", false) => "",
        ("a", false) => {
            open.link = attribute(inside, "href");
            if open.link.is_some() { "[" } else { "" }
        }
        ("a", true) => {
            if let Some(target) = open.link.take() {
                out.push_str("](");
                out.push_str(target);
                out.push(')');
            }
            ""
        }
        _ => {
            out.push('<');
            return 1;
        }
    };
    if name == "pre" {
        open.block = !closing;
    }
    // `<code>` within `<pre>` is no second mark.
    if mark == "`" && open.block {
        return end + 1;
    }
    if mark.starts_with('\n') && mark != "\n```\n\n" {
        out.truncate(out.trim_end_matches(' ').len());
    }
    out.push_str(mark);
    end + 1
}

fn attribute<'a>(inside: &'a str, name: &str) -> Option<&'a str> {
    let rest = inside[inside.find(name)? + name.len()..].trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'');
    match quote {
        Some(quote) => rest[1..].split(quote).next(),
        None => rest.split_whitespace().next(),
    }
    .filter(|target| !target.is_empty())
}

/// No spaces at line ends, no more than one empty line together, outside code blocks no lone bullets.
fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut empty, mut bullet, mut fenced) = (0, false, false);
    for line in text.lines() {
        let line = line.trim_end();
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if line.is_empty() {
            empty += 1;
            continue;
        }
        // `<li>` and the paragraph inside it are one line.
        if bullet && !fenced && !line.starts_with("- ") {
            out.push(' ');
            out.push_str(line.trim_start());
        } else {
            if !out.is_empty() {
                out.push_str(if empty > 0 { "\n\n" } else { "\n" });
            }
            out.push_str(line);
        }
        bullet = line == "-";
        empty = 0;
    }
    out
}

/// Markdown of a description in at most `limit` bytes, whatever its length.
pub(super) fn short(text: &str, limit: usize) -> String {
    // Tags take room that their Markdown does not.
    cut(&markdown(&cut(text, limit.saturating_mul(2))), limit)
}

/// At most `limit` bytes of a text, cut after a paragraph or a sentence where one ends in time.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    let stop = head.rfind("\n\n").or_else(|| head.rfind(". ").map(|at| at + 1));
    match stop.filter(|at| *at > limit / 2) {
        Some(at) => head[..at].trim_end().to_owned(),
        None => format!("{}…", head.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_in_descriptions_becomes_markdown() {
        let html = "<p>Lists <b>all</b> keys, see <a class=\"x\" href='https://a.example/b'>the guide</a>.</p>\
                    <ul><li>one</li> <li><p>two &amp; three</p></li></ul>a<br/>b<pre><code>x &lt; y</code></pre>";
        insta::assert_snapshot!(markdown(html), @r"
        Lists **all** keys, see [the guide](https://a.example/b).

        - one
        - two & three

        a
        b
        ```
        x < y
        ```
        ");
    }

    #[test]
    fn what_is_no_html_stays_as_it_is() {
        for text in
            ["a < b and c > d", "`<p>` opens, ``<b>`` too", "Vec<String> of <id>", "R&D", "<", "&", "`", "<a", "</"]
        {
            assert_eq!(markdown(text), text);
        }
    }

    #[test]
    fn a_long_text_is_cut_where_a_sentence_ends() {
        assert_eq!(cut("One. Two. Three and more.", 14), "One. Two.");
        assert_eq!(cut("ééééé", 5), "éé…");
    }
}
