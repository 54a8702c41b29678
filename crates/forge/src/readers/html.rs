//! HTML: the main text of a page, as Markdown under its title.

use std::path::Path;

use super::{BadRecord, Document, Read, read_text};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["html", "htm", "xhtml"];

/// Elements inside each other that are followed; parsers take time with the square of it.
const DEPTH: usize = 256;
/// Elements that have no end, or whose end may be left out.
const OPEN_ENDED: &[&str] = &[
    "area", "base", "br", "col", "colgroup", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option",
    "p", "param", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr",
];

/// The main text of the page in a file; `None` where there is none.
pub fn document(path: &Path, limit: u64) -> Option<Read> {
    match read_text(path, limit) {
        Ok(page) if depth(&page) > DEPTH => {
            let reason = format!("more than {DEPTH} elements inside each other: not a page that a person wrote");
            Some(Err(BadRecord { origin: path.display().to_string(), reason }))
        }
        Ok(page) => main_text(&page).map(|text| Ok(Document::text(path.display().to_string(), text))),
        Err(bad) => Some(Err(bad)),
    }
}

/// How deep elements are inside each other, by their tags alone.
fn depth(page: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for tag in page.split('<').skip(1) {
        let inside = tag.split('>').next().unwrap_or(tag);
        let (closes, inside) = inside.strip_prefix('/').map_or((false, inside), |inside| (true, inside));
        let name = inside.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
        let known = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !inside.ends_with('/');
        if !known || OPEN_ENDED.iter().any(|open_ended| open_ended.eq_ignore_ascii_case(name)) {
            continue;
        }
        depth = if closes { depth.saturating_sub(1) } else { depth + 1 };
        deepest = deepest.max(depth);
    }
    deepest
}

/// The main text of a page as Markdown, its title on top; `None` where there is none, or where its elements are nested
/// deeper than anybody writes them.
#[must_use]
pub fn main_text(page: &str) -> Option<String> {
    if depth(page) > DEPTH {
        return None;
    }
    let config = dom_smoothie::Config {
        text_mode: dom_smoothie::TextMode::Markdown,
        max_elements_to_parse: 0,
        ..dom_smoothie::Config::default()
    };
    let article = dom_smoothie::Readability::new(page, None, Some(config)).ok()?.parse().ok()?;
    let text = article.text_content.trim();
    if text.is_empty() {
        return None;
    }
    let title = article.title.trim();
    Some(if title.is_empty() || text.starts_with("# ") {
        format!("{text}\n")
    } else {
        format!("# {title}\n\n{text}\n")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "<!DOCTYPE html><html><head><title>Pumps of the world</title><script>var x = 'secret';</script>\
        <style>p { color: red }</style></head><body><nav><ul><li><a href='/'>Home</a></li><li><a href='/a'>About us</a>\
        </li></ul></nav><div class='ad-banner'>Buy now!</div><article><h2>How they work</h2><p>A pump moves water from a low \
        place to a high one, and it has done so for longer than anybody can remember, in every land there is.</p>\
        <pre><code>fn pump() {\n    lift();\n}</code></pre><p>There are <b>two</b> kinds of them, those that push and those \
        that pull, and the difference matters less than people who sell them would like you to believe.</p>\
        <ul><li>push</li><li>pull</li></ul></article><footer>Copyright nobody</footer></body></html>";

    #[test]
    fn the_main_text_stays_under_its_title_and_what_is_around_it_goes() {
        insta::assert_snapshot!(main_text(PAGE).unwrap(), @r"
        # Pumps of the world

        ## How they work

        A pump moves water from a low place to a high one, and it has done so for longer than anybody can remember, in every land there is.

        ```
        fn pump() {
            lift();
        }
        ```

        There are **two** kinds of them, those that push and those that pull, and the difference matters less than people who sell them would like you to believe.

        - push
        - pull
        ");
    }

    #[test]
    fn a_page_of_a_sentence_is_a_page() {
        let text =
            main_text("<html><head><title>T</title></head><body><p>Only this is here.</p></body></html>").unwrap();
        assert_eq!(text, "# T\n\nOnly this is here.\n");
        assert_eq!(main_text("<html><body><script>x</script></body></html>"), None);
        assert_eq!(main_text(""), None);
    }

    #[test]
    fn nesting_without_end_neither_overflows_the_stack_nor_hangs() {
        for tag in ["div", "b", "table", "ul"] {
            let page = format!("<body><p>Some text that is here.</p>{}deep", format!("<{tag}>").repeat(100_000));
            let _ = main_text(&page);
        }
    }

    proptest! {
        #[test]
        fn no_page_makes_the_reader_panic(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "<p>", "</p>", "<div", ">", "<table><tr>", "<td>", "</table>", "<li>", "<a href='", "'>", "text, of some kind ", "&amp;",
                    "&#x110000;", "<!--", "-->", "<script>", "</script>", "<pre>", "<h1>", "<img src=x>", "é", "\0", "<svg>", "<title>", "<br>",
                ]),
                0..60,
            )
        ) {
            let _ = main_text(&pieces.concat());
        }
    }
}
