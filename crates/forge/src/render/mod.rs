//! Documents into text.
//!
//! A record goes through one of the templates of its kind, a conversation through the tokenizer's, text stays as it is.
//! Which template depends on the seed and the record alone, so that it is the same wherever the record lies. In front of any document may stand what is known of it, with loss weight 0: metadata conditioning,
//! after MeCo (Gao et al. 2025, arXiv 2501.01956).

mod catalogue;
mod chat_template;
pub mod conversation;
mod filters;
mod request;
mod templates;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::document::{Content, Document, Facts, LEARNED, Text};
use conversation::{ChatError, Conversations};
pub use templates::TemplateError;
use templates::Templates;

/// How documents become text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What stands before each document, of which nothing is learned: `provider`, `api`, `source`, in the order given; what
    /// is not known of a document is left out.
    pub prefix: Vec<Prefix>,
    /// Folder with templates of your own, `NAME.KIND.j2`, KIND being `operation`, `function` or `api`: they replace the
    /// built-in ones of their kind.
    #[schemars(extend("format" = "path"))]
    pub templates: Option<PathBuf>,
    /// How conversations become text.
    pub conversation: conversation::Settings,
}

/// Something known of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prefix {
    /// Who provides the API.
    Provider,
    /// The API's name.
    Api,
    /// The source's name in the recipe.
    Source,
}

/// Why documents cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Templates.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer's chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

/// Renders the documents of one source.
#[derive(Debug)]
pub struct Renderer {
    templates: Templates,
    conversations: Conversations,
    prefix: Vec<Prefix>,
    seed: u64,
    source: String,
}

impl Renderer {
    /// A renderer for the documents of the source called `source`; `tokenizer` is the folder with the tokenizer's files,
    /// whose chat template is that of conversations.
    ///
    /// # Errors
    /// A folder of templates that cannot be read, or a template that is broken, with its file and line.
    pub fn new(settings: &Settings, seed: u64, source: &str, tokenizer: &Path) -> Result<Self, RenderError> {
        let templates = match &settings.templates {
            Some(folder) => Templates::with(folder)?,
            None => Templates::built_in(),
        };
        let conversations = Conversations::new(&settings.conversation, tokenizer)?;
        Ok(Self { templates, conversations, prefix: settings.prefix.clone(), seed, source: source.to_owned() })
    }

    /// The built-in templates and no prefix: for commands that have no recipe.
    #[must_use]
    pub fn plain() -> Self {
        let (templates, conversations) = (Templates::built_in(), Conversations::default());
        Self { templates, conversations, prefix: Vec::new(), seed: 0, source: String::new() }
    }

    /// The text of a document.
    ///
    /// # Errors
    /// In words, where a template fails on it or nothing comes of it.
    pub fn render(&self, document: &Document) -> Result<Text, String> {
        let text = match &document.content {
            Content::Text(text) => Text::from(text.clone()),
            Content::Record { kind, fields } => {
                let choice = xxh3_64_with_seed(&serde_json::to_vec(fields).unwrap_or_default(), self.seed);
                Text::from(self.templates.render(*kind, choice, fields)?)
            }
            Content::Conversation(conversation) => self.conversations.text(conversation)?,
        };
        Ok(prefixed(self.prefix(&document.facts), text))
    }

    /// Lines `provider: …` and so on with an empty line after them, or nothing.
    fn prefix(&self, facts: &Facts) -> String {
        let mut lines = String::new();
        for prefix in &self.prefix {
            let (name, value) = match prefix {
                Prefix::Provider => ("provider", facts.provider.as_deref()),
                Prefix::Api => ("api", facts.api.as_deref()),
                Prefix::Source => ("source", Some(self.source.as_str())),
            };
            let value = value.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
            if !value.is_empty() {
                lines += &format!("{name}: {value}\n");
            }
        }
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines
    }
}

/// A text behind a prefix of weight 0.
fn prefixed(prefix: String, text: Text) -> Text {
    if prefix.is_empty() {
        return text;
    }
    let by = prefix.len();
    let mut weights = vec![(by, 0)];
    if text.weights.is_empty() && !text.text.is_empty() {
        weights.push((by + text.text.len(), LEARNED));
    }
    // Runs of weight 0 that meet are one run.
    for (end, weight) in text.weights {
        match weights.last_mut() {
            Some(last) if last.1 == weight => last.0 = end + by,
            _ => weights.push((end + by, weight)),
        }
    }
    let special = text.special.into_iter().map(|range| range.start + by..range.end + by).collect();
    Text { text: prefix + &text.text, weights, special }
}

#[cfg(test)]
mod tests;
