//! E-mail addresses.

use super::{Found, Kind, taken};

/// Endings that look like a domain's and are a file's: `logo@2x.png`.
const FILES: [&str; 22] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "pdf", "css", "scss", "js", "mjs", "cjs", "ts", "tsx", "jsx",
    "json", "html", "xml", "yaml", "yml", "txt",
];

/// Adds the addresses in a text to what is found, which ascends and does so after.
pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let before = found.len();
    let mut end = 0;
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        if at < end {
            continue;
        }
        if let Some(range) = address(text, at, end)
            && !taken(&found[..before], &range)
        {
            end = range.end;
            found.push(Found { range, kind: Kind::Email });
        }
    }
    if found.len() > before {
        found.sort_by_key(|found| found.range.start);
    }
}

/// The address around the `@` at `at`, no part of it before `from`.
fn address(text: &str, at: usize, from: usize) -> Option<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let local = |byte: &&u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    // A local part has 64 characters at most (RFC 5321, section 4.5.3.1.1), a domain 255.
    let width = bytes[from..at].iter().rev().take_while(local).take(65).count();
    let lead = bytes[at - width..at].iter().take_while(|byte| b".%+-".contains(byte)).count();
    let (start, width) = (at - width + lead, width - lead);
    let name = &bytes[start..at];
    if !(1..=64).contains(&width) || name.ends_with(b".") || !name.iter().any(u8::is_ascii_alphanumeric) {
        return None;
    }
    // `ssh://git@host` and `https://user:word@host` name an account, and so does `git@host:project`.
    let head = &text[text.floor_char_boundary(start.saturating_sub(128))..start];
    let user = head.rfind("://").map(|scheme| &head[scheme + 3..]);
    let in_url =
        user.is_some_and(|user| !user.contains(|char: char| char.is_whitespace() || "/?#@\"'<>".contains(char)));
    let host = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let domain = domain(&text[at + 1..at + 1 + host.take(255).count()])?;
    let end = at + 1 + domain.len();
    let next = bytes.get(end);
    let remote = name == b"git" && matches!(next, Some(b':' | b'/'));
    // `weights@values.transpose(0)` multiplies, and so does `a@b.inverse@c`.
    let code = matches!(next, Some(b'(' | b'[' | b'_' | b'@')) || text[..start].ends_with('@');
    (!in_url && !remote && !code && !reserved(domain)).then_some(start..end)
}

/// The longest beginning that is a domain's name with a top level of letters.
fn domain(host: &str) -> Option<&str> {
    let mut end = 0;
    let mut labels = 0;
    let mut at = 0;
    for label in host.split('.') {
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') || label.len() > 63 {
            break;
        }
        at += label.len();
        labels += 1;
        if labels > 1 && top_level(label) {
            end = at;
        }
        at += 1;
    }
    (end > 0).then(|| &host[..end])
}

fn top_level(label: &str) -> bool {
    let bytes = label.as_bytes();
    (2..=24).contains(&bytes.len())
        && (bytes.iter().all(u8::is_ascii_lowercase) || bytes.iter().all(u8::is_ascii_uppercase))
        && !FILES.contains(&label)
}

/// Names that RFC 2606 and RFC 6761 set aside: nobody's.
pub(super) fn reserved(domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    ["example.com", "example.net", "example.org", "example", "test", "invalid", "localhost"]
        .into_iter()
        .any(|name| domain.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}
