//! HTML: the main text of a page, as Markdown under its title.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use encoding_rs::Encoding;
use regex::bytes::Regex;

use super::{BadRecord, Document, Read, stream};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["html", "htm", "xhtml"];

/// Elements inside each other that are followed; parsers take time with the square of it.
const DEPTH: usize = 256;
/// Elements that have no end, or whose end may be left out.
const OPEN_ENDED: &[&str] = &[
    "area", "base", "br", "col", "colgroup", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta", "option",
    "p", "param", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr",
];

/// Bytes at the start of a page among which it may say how it is encoded (HTML Living Standard, 13.2.3.2).
const HEAD: usize = 1024;

/// The main text of the page in a file; `None` where there is none.
pub fn document(path: &Path, limit: u64) -> Option<Read> {
    let origin = path.display().to_string();
    let bytes = match stream::read(path, limit) {
        Ok(bytes) => bytes,
        Err(reason) => return Some(Err(BadRecord { origin, reason })),
    };
    match decoded(&bytes) {
        Ok(page) if depth(&page) > DEPTH => {
            let reason = format!("more than {DEPTH} elements inside each other: not a page that a person wrote");
            Some(Err(BadRecord { origin, reason }))
        }
        Ok(page) => main_text(&page).map(|text| Ok(Document::text(origin, text))),
        Err(reason) => Some(Err(BadRecord { origin, reason })),
    }
}

/// A page as text: UTF-8 where it is that, else in the encoding that its byte order mark or its head names.
fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    static CHARSET: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)(?:charset|encoding)\s*=\s*["']?\s*([a-z0-9_:.-]+)"#).expect("a regular expression")
    });
    let invalid = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text))),
        Err(error) => format!("not UTF-8: invalid byte at offset {}", error.valid_up_to()),
    };
    let head = &bytes[..bytes.len().min(HEAD)];
    let named = || CHARSET.captures(head).and_then(|captures| Encoding::for_label(&captures[1]));
    let Some(encoding) = Encoding::for_bom(bytes).map(|(encoding, _)| encoding).or_else(named) else {
        return Err(format!("{invalid}, and the page names no other encoding"));
    };
    match encoding.decode(bytes) {
        (text, _, false) => Ok(text),
        (_, encoding, true) => Err(format!("{invalid}, nor is it the {} that the page names", encoding.name())),
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
    fn a_page_is_read_in_the_encoding_that_it_names() {
        let latin =
            [&b"<meta http-equiv='Content-Type' content='text/html; charset=ISO-8859-1'>caf"[..], b"\xe9"].concat();
        assert!(decoded(&latin).unwrap().ends_with("caf\u{e9}"));
        let japanese = [&b"<?xml version='1.0' encoding='Shift_JIS'?>"[..], b"\x90\x85"].concat();
        assert!(decoded(&japanese).unwrap().ends_with('水'));
        assert_eq!(decoded(b"\xff\xfeh\0i\0").unwrap(), "hi");
        assert_eq!(decoded(b"\xef\xbb\xbfhi").unwrap(), "hi");
        // What is UTF-8 is that, whatever it says.
        assert!(decoded("<meta charset=latin1>caf\u{e9}".as_bytes()).unwrap().ends_with("caf\u{e9}"));
        assert_eq!(
            decoded(b"caf\xe9").unwrap_err(),
            "not UTF-8: invalid byte at offset 3, and the page names no other encoding"
        );
        assert_eq!(
            decoded(b"<meta charset=utf-8>caf\xe9").unwrap_err(),
            "not UTF-8: invalid byte at offset 23, nor is it the UTF-8 that the page names"
        );
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
