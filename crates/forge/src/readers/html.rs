//! HTML: the main text of a page, as Markdown under its title.

use std::path::Path;

use super::{Document, Read, read_text};

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["html", "htm", "xhtml"];

/// The main text of the page in a file; `None` where there is none.
pub fn document(path: &Path, limit: u64) -> Option<Read> {
    match read_text(path, limit) {
        Ok(page) => main_text(&page).map(|text| Ok(Document::text(path.display().to_string(), text))),
        Err(bad) => Some(Err(bad)),
    }
}

/// The main text of a page as Markdown, its title on top; `None` where there is none.
#[must_use]
pub fn main_text(page: &str) -> Option<String> {
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
    Some(if title.is_empty() || text.starts_with('#') { format!("{text}\n") } else { format!("# {title}\n\n{text}\n") })
}
