//! Keys, tokens and passwords, by their form or by the name they are assigned to.
//!
//! One look for the prefixes of all forms; only where one stands is the form itself checked. The forms are those that the
//! services document; the approach of an entropy threshold behind telling names is that of gitleaks and detect-secrets.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use regex::Regex;

use super::emails::reserved;
use super::{Found, Kind, ScrubberError, taken};

/// Prefixes, the form that follows from the prefix on, and what it is.
const FORMS: [(&[&str], &str, Kind); 20] = [
    (&["AKIA", "ASIA", "ABIA", "ACCA"], r"[A-Z]{4}[A-Z2-7]{16}", Kind::AwsKey),
    (&["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"gh[pousr]_[A-Za-z0-9]{36,255}", Kind::GithubToken),
    (&["github_pat_"], r"github_pat_[A-Za-z0-9_]{60,255}", Kind::GithubToken),
    (&["glpat-"], r"glpat-[A-Za-z0-9_-]{20,300}", Kind::GitlabToken),
    (&["xox"], r"xox[abeoprs](?:\.xox[a-z])?-[0-9A-Za-z-]{20,250}", Kind::SlackToken),
    (&["xapp-"], r"xapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{20,100}", Kind::SlackToken),
    (&["hooks.slack.com/"], r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{40,80}", Kind::SlackToken),
    (&["sk_live_", "rk_live_", "sk_test_", "rk_test_"], r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,247}", Kind::StripeKey),
    (&["whsec_"], r"whsec_[A-Za-z0-9+/=]{24,100}", Kind::StripeKey),
    (&["SK"], r"SK[0-9a-f]{32}", Kind::TwilioKey),
    (&["AIza"], r"AIza[0-9A-Za-z_-]{35}", Kind::GoogleKey),
    (&["GOCSPX-"], r"GOCSPX-[0-9A-Za-z_-]{28}", Kind::GoogleKey),
    (&["ya29."], r"ya29\.[0-9A-Za-z_-]{30,380}", Kind::GoogleKey),
    (&["sk-ant-"], r"sk-ant-[a-z]+[0-9]*-[0-9A-Za-z_-]{40,200}", Kind::AnthropicKey),
    (&["sk-"], r"sk-[0-9A-Za-z_-]{32,250}", Kind::OpenaiKey),
    (&["hf_"], r"hf_[A-Za-z]{34}", Kind::HuggingFaceToken),
    (&["npm_"], r"npm_[A-Za-z0-9]{36}", Kind::RegistryToken),
    (&["pypi-AgE"], r"pypi-AgE[A-Za-z0-9_-]{50,300}", Kind::RegistryToken),
    (&["SG."], r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", Kind::SendgridKey),
    (&["eyJ"], r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", Kind::Jwt),
];

/// Bytes that the form of a token is looked for in.
const TOKEN: usize = 4096;
/// Bytes that a private key is looked for in: 16,384 bits take 13 kB.
const KEY: usize = 16_384;

/// Names behind which a secret is assigned, in any case.
const NAMES: [&str; 20] = [
    "api_key",
    "apikey",
    "api-key",
    "secret",
    "password",
    "passwd",
    "access_key",
    "access-key",
    "accesskey",
    "access_token",
    "access-token",
    "accesstoken",
    "auth_token",
    "auth-token",
    "authtoken",
    "refresh_token",
    "refresh-token",
    "private_key",
    "bearer ",
    "basic ",
];
/// What of [`NAMES`] is followed by the secret itself, in a header.
const SCHEMES: Range<usize> = 18..20;

/// Finds secrets.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    prefixes: AhoCorasick,
    /// By prefix: its form and kind, in the order of `prefixes`.
    forms: Vec<(Regex, Kind)>,
    names: AhoCorasick,
    private_key: Regex,
    credentials: Regex,
    assigned: Regex,
    token: Regex,
}

/// Prefixes of what is no token; they follow those of [`FORMS`].
const BEGIN: &str = "-----BEGIN ";
const URL: &str = "://";

impl Finder {
    pub(super) fn new() -> Result<Self, ScrubberError> {
        let mut prefixes = Vec::new();
        let mut forms = Vec::new();
        for (starts, form, kind) in FORMS {
            let form = Regex::new(&format!(r"\A(?:{form})"))?;
            for start in starts {
                prefixes.push(*start);
                forms.push((form.clone(), kind));
            }
        }
        prefixes.extend([BEGIN, URL]);
        Ok(Self {
            // Of two prefixes at one place the longer, so that sk-ant- is not sk-.
            prefixes: AhoCorasick::builder().match_kind(aho_corasick::MatchKind::LeftmostLongest).build(prefixes)?,
            forms,
            names: AhoCorasick::builder().ascii_case_insensitive(true).build(NAMES)?,
            private_key: Regex::new(r"\A-----BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----([^-]{40,})-----END ")?,
            credentials: Regex::new(r#"\A[^\s/@:"'<>{}\[\]$`\\]{0,64}:([^\s/@"'<>{}\[\]$`\\]{3,128})@[A-Za-z0-9\[]"#)?,
            assigned: Regex::new(
                r#"\A[A-Za-z0-9_.-]{0,40}(?:\\?["'`])?\]?[ \t]{0,4}(?:=>|:=|==?|:)[ \t]{0,4}(\\?["'`])?([A-Za-z0-9+/=_.~-]{16,512})"#,
            )?,
            token: Regex::new(r"\A[A-Za-z0-9+/=_.~-]{20,512}")?,
        })
    }

    /// The secrets of a text, ascending.
    pub(super) fn find(&self, text: &str) -> Vec<Found> {
        let mut found: Vec<Found> = Vec::new();
        for hit in self.prefixes.find_iter(text) {
            if found.last().is_some_and(|last| hit.start() < last.range.end) {
                continue;
            }
            let one = match self.forms.get(hit.pattern().as_usize()) {
                Some((form, kind)) => token(text, hit.start(), form, *kind),
                None if text[hit.range()].starts_with('-') => self.private_key(text, hit.start()),
                None => self.password(text, hit.end()),
            };
            found.extend(one);
        }
        let before = found.len();
        let mut end = 0;
        for hit in self.names.find_iter(text) {
            if hit.start() < end {
                continue;
            }
            let range = if SCHEMES.contains(&hit.pattern().as_usize()) {
                self.presented(text, hit.end())
            } else {
                self.assigned(text, hit.end())
            };
            if let Some(range) = range.filter(|range| !taken(&found[..before], range)) {
                end = range.end;
                found.push(Found { range, kind: Kind::Secret });
            }
        }
        if found.len() > before {
            found.sort_by_key(|found| found.range.start);
        }
        found
    }

    /// Whether it is the name of a secret.
    pub(super) fn names(&self, name: &str) -> bool {
        self.names.is_match(name)
    }

    fn private_key(&self, text: &str, start: usize) -> Option<Found> {
        let body = self.private_key.captures(window(text, start, KEY))?.get(1)?;
        let letters = body.as_str().bytes().filter(u8::is_ascii_alphanumeric).count();
        let range = start + body.start()..start + body.end();
        (letters >= 40 && !stands_for_one(body.as_str())).then_some(Found { range, kind: Kind::PrivateKey })
    }

    /// The password of a URL whose part behind `://` begins at `start`.
    fn password(&self, text: &str, start: usize) -> Option<Found> {
        let password = self.credentials.captures(window(text, start, 256))?.get(1)?;
        let word = password.as_str().to_ascii_lowercase();
        let named = word.contains("pass") || word.contains("secret") || word.contains("token") || word.contains("pwd");
        let same = word.bytes().all(|byte| Some(byte) == word.bytes().next());
        let range = start + password.start()..start + password.end();
        let host = window(text, range.end + 1, 256);
        let host =
            host.split(|char: char| !char.is_ascii_alphanumeric() && !matches!(char, '.' | '-')).next().unwrap_or("");
        (!named && !same && !reserved(host) && !word.starts_with('%') && !stands_for_one(&word))
            .then_some(Found { range, kind: Kind::Password })
    }

    /// What is assigned to the name that ends at `start`.
    fn assigned(&self, text: &str, start: usize) -> Option<Range<usize>> {
        let captures = self.assigned.captures(window(text, start, 600))?;
        let value = captures.get(2)?;
        let next = text[start + value.end()..].chars().next();
        let fits = match captures.get(1) {
            Some(_) => matches!(next, Some('"' | '\'' | '`' | '\\')),
            // Without quotation marks it might as well be an expression.
            None => {
                let digits = value.as_str().bytes().filter(u8::is_ascii_digit).count();
                let ended = next.is_none_or(|next| {
                    next.is_whitespace() || matches!(next, '"' | '\'' | '`' | ';' | ',' | '&' | '\\')
                });
                digits >= 3 && ended && !value.as_str().contains('.')
            }
        };
        (fits && random(value.as_str())).then(|| start + value.start()..start + value.end())
    }

    /// The credentials behind the name of an authentication scheme that ends at `start`.
    fn presented(&self, text: &str, start: usize) -> Option<Range<usize>> {
        let value = self.token.find(window(text, start, 600))?;
        random(value.as_str()).then(|| start..start + value.end())
    }
}

fn window(text: &str, start: usize, bytes: usize) -> &str {
    &text[start..text.floor_char_boundary(start.saturating_add(bytes))]
}

/// A token by its form, that stands alone and does not just stand for one.
fn token(text: &str, start: usize, form: &Regex, kind: Kind) -> Option<Found> {
    let inner = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '-';
    // Behind an escaped end of line, the letter n is none of the text's.
    let before = text[..start].strip_suffix("\\n").unwrap_or(&text[..start]);
    if before.ends_with(inner) {
        return None;
    }
    let written = form.find(window(text, start, TOKEN))?.as_str();
    let range = start..start + written.len();
    let digits = written.bytes().filter(u8::is_ascii_digit).count();
    let likely = match kind {
        Kind::OpenaiKey => written.contains("T3BlbkFJ") || random(&written[3..]),
        Kind::SlackToken if written.starts_with("xox") => digits >= 6,
        _ => true,
    };
    let alone = !text[range.end..].starts_with(|char: char| char.is_ascii_alphanumeric());
    (alone && likely && entropy(written) >= 3.0 && !stands_for_one(written)).then_some(Found { range, kind })
}

/// Whether it says that it only stands for a secret.
fn stands_for_one(written: &str) -> bool {
    const SAYS: [&str; 14] = [
        "example",
        "your",
        "xxxx",
        "placeholder",
        "changeme",
        "change-me",
        "redacted",
        "dummy",
        "insert",
        "replace",
        "0000000",
        "12345678",
        "abcdefg",
        "....",
    ];
    let written = written.to_ascii_lowercase();
    SAYS.iter().any(|says| written.contains(says))
}

/// Whether a value looks as if it came from a generator: letters and digits mixed, of high entropy, and neither a UUID,
/// which names something, nor words and numbers strung together.
pub(super) fn random(value: &str) -> bool {
    let bytes = value.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let mixed = |part: &str| {
        part.bytes().any(|byte| byte.is_ascii_digit()) && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let hex = bytes.iter().all(u8::is_ascii_hexdigit);
    // A hexadecimal digit carries 4 bits at most, one of a base of 62 nearly 6; a short value shows fewer.
    let least = if hex { 3.0 } else { 3.5 };
    digits >= 2
        && letters >= 2
        && bytes.len() >= if hex { 32 } else { 16 }
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.~-".contains(byte))
        && value.split(['_', '-', '.', '/', '~']).any(|part| part.len() >= 8 && mixed(part))
        && !uuid(value)
        && entropy(value) >= least
        && !stands_for_one(value)
}

fn uuid(value: &str) -> bool {
    let widths = [8, 4, 4, 4, 12];
    value.split('-').count() == widths.len()
        && value
            .split('-')
            .zip(widths)
            .all(|(part, width)| part.len() == width && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Shannon entropy of the bytes, in bits a byte.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = text.len() as f64;
    let bits = |count: u32| -f64::from(count) / total * (f64::from(count) / total).log2();
    counts.into_iter().filter(|count| *count > 0).map(bits).sum()
}
