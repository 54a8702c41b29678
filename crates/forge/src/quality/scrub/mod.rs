//! What must not be learned from a document that otherwise may: addresses of people and keys to machines.
//!
//! Each is replaced by a placeholder of its kind, so that the text keeps its form: a model learns that an e-mail address
//! or a key belongs there, and to write a placeholder where it has none. The placeholders are no finds themselves, so
//! scrubbing twice changes nothing.
//!
//! - An e-mail address becomes `email@example.com`, the next one of the document `email2@example.com`: the same address
//!   is the same everywhere in it, so that a conversation's calls still agree with what its user said. (FineWeb takes
//!   turns between two addresses.) Addresses at `example.com` and the other names that RFC 2606 and RFC 6761 reserve are
//!   nobody's, and stay.
//! - A public IPv4 address becomes one of those that RFC 5737 reserves for documentation, `192.0.2.1` and on, in the same
//!   way. Addresses that are private or reserved, and public resolvers such as `8.8.8.8`, are no person's, and stay.
//! - A secret becomes `<AWS_KEY>`, `<JWT>` and so on: see [`Kind`].

mod emails;
mod ip;
mod named;
mod secrets;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use super::settings::Scrub;
use crate::document::Document;

/// What a scrubber replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A public IPv4 address.
    IpAddress,
    /// The id of an access key of Amazon Web Services.
    AwsKey,
    /// A token of GitHub.
    GithubToken,
    /// A token of GitLab.
    GitlabToken,
    /// A token or webhook of Slack.
    SlackToken,
    /// A key of Stripe.
    StripeKey,
    /// A key of Twilio. Its SIDs of accounts and messages are names, not keys.
    TwilioKey,
    /// A key or token of Google.
    GoogleKey,
    /// A key of OpenAI, or of one of those who write theirs alike.
    OpenaiKey,
    /// A key of Anthropic.
    AnthropicKey,
    /// A token of the Hugging Face hub.
    HuggingFaceToken,
    /// A token of a package registry: npm or PyPI.
    RegistryToken,
    /// A key of SendGrid.
    SendgridKey,
    /// A JSON web token.
    Jwt,
    /// The body of a private key in PEM.
    PrivateKey,
    /// The password in a URL.
    Password,
    /// What is assigned to a name such as `api_key` and looks random.
    Secret,
}

impl Kind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::IpAddress => "ip-address",
            Self::AwsKey => "aws-key",
            Self::GithubToken => "github-token",
            Self::GitlabToken => "gitlab-token",
            Self::SlackToken => "slack-token",
            Self::StripeKey => "stripe-key",
            Self::TwilioKey => "twilio-key",
            Self::GoogleKey => "google-key",
            Self::OpenaiKey => "openai-key",
            Self::AnthropicKey => "anthropic-key",
            Self::HuggingFaceToken => "hugging-face-token",
            Self::RegistryToken => "registry-token",
            Self::SendgridKey => "sendgrid-key",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private-key",
            Self::Password => "password",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Most times that a text is looked through; two are enough for all but the contrived.
const ROUNDS: usize = 8;

/// What was replaced in a document, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many of each kind.
    pub counts: BTreeMap<Kind, u64>,
}

impl Scrubbed {
    /// Whether nothing was replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// Where something to replace lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    range: Range<usize>,
    kind: Kind,
}

/// Whether a range overlaps one of those found, which ascend.
fn taken(found: &[Found], range: &Range<usize>) -> bool {
    let after = found.partition_point(|found| found.range.end <= range.start);
    found.get(after).is_some_and(|found| found.range.start < range.end)
}

/// The addresses that a document has shown so far, with their numbers from 0.
#[derive(Debug, Default)]
struct Shown {
    emails: HashMap<String, usize>,
    ips: HashMap<String, usize>,
}

impl Shown {
    fn replacement(&mut self, kind: Kind, found: &str) -> String {
        let number = |shown: &mut HashMap<String, usize>| {
            let next = shown.len();
            *shown.entry(found.to_ascii_lowercase()).or_insert(next)
        };
        match kind {
            Kind::Email => match number(&mut self.emails) {
                0 => "email@example.com".to_owned(),
                before => format!("email{}@example.com", before + 1),
            },
            Kind::IpAddress => ip::reserved(number(&mut self.ips)),
            // `aws-key` stands in the text as `<AWS_KEY>`.
            _ => format!("<{}>", kind.name().to_ascii_uppercase().replace('-', "_")),
        }
    }
}

/// Replaces what a source's settings name. Shared by threads.
#[derive(Clone, Debug)]
pub struct Scrubber {
    settings: Scrub,
    secrets: secrets::Finder,
}

/// A scrubber whose tables cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ScrubberError {
    /// The table of prefixes.
    #[error("cannot build the table of prefixes of secrets: {0}")]
    Prefixes(#[from] aho_corasick::BuildError),
    /// A pattern.
    #[error("cannot build a pattern for secrets: {0}")]
    Pattern(#[from] regex::Error),
}

impl Scrubber {
    /// A scrubber of what `settings` switch on.
    ///
    /// # Errors
    /// The tables of its patterns do not fit in memory.
    pub fn new(settings: &Scrub) -> Result<Self, ScrubberError> {
        Ok(Self { settings: *settings, secrets: secrets::Finder::new()? })
    }

    /// Replaces what is found in every string of a document, and counts it. A secret is told by its form, or by the name
    /// that it is assigned to: in the same string, or as the key of a field or argument.
    pub fn scrub(&self, document: &mut Document) -> Scrubbed {
        let mut scrubbed = Scrubbed::default();
        let mut shown = Shown::default();
        document.each_string(&mut |text| {
            // Where finds overlap one of them goes first, and the other may be told only then.
            for _ in 0..ROUNDS {
                match self.clean(text, &mut shown, &mut scrubbed) {
                    Some(clean) => *text = clean,
                    None => break,
                }
            }
        });
        if self.settings.secrets {
            named::each(document, &mut |name, text| {
                if self.secrets.names(name) && secrets::random(text) {
                    *text = shown.replacement(Kind::Secret, text);
                    *scrubbed.counts.entry(Kind::Secret).or_default() += 1;
                }
            });
        }
        scrubbed
    }

    /// The text without what is found in it; none where nothing is.
    fn clean(&self, text: &str, shown: &mut Shown, scrubbed: &mut Scrubbed) -> Option<String> {
        let mut found = if self.settings.secrets { self.secrets.find(text) } else { Vec::new() };
        if self.settings.emails {
            emails::find(text, &mut found);
        }
        if self.settings.ip_addresses {
            ip::find(text, &mut found);
        }
        if found.is_empty() {
            return None;
        }
        let mut clean = String::with_capacity(text.len());
        let mut from = 0;
        for Found { range, kind } in found {
            clean.push_str(&text[from..range.start]);
            clean.push_str(&shown.replacement(kind, &text[range.clone()]));
            from = range.end;
            *scrubbed.counts.entry(kind).or_default() += 1;
        }
        clean.push_str(&text[from..]);
        Some(clean)
    }
}

#[cfg(test)]
mod tests;
