//! Documents into text.

mod chat_template;
pub mod conversation;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Content, Document, Text};

/// How documents become text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}

/// Renders the documents of one source.
#[derive(Debug, Default)]
pub struct Renderer {}

impl Renderer {
    /// The text of a document.
    ///
    /// # Errors
    /// In words, where a template fails on it.
    pub fn render(&self, document: &Document) -> Result<Text, String> {
        match &document.content {
            Content::Text(text) => Ok(Text::from(text.clone())),
            Content::Record { .. } | Content::Conversation(_) => Err("no template".to_owned()),
        }
    }
}
