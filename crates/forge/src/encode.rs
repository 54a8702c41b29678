//! Texts into tokens.

use hephaestus_core::vocabulary::Vocabulary;

use crate::document::Text;

/// Tokens of a document.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    /// Ids.
    pub tokens: Vec<u32>,
    /// Loss weights.
    pub weights: Vec<u8>,
}

/// Encodes.
#[derive(Debug)]
pub struct Encoder {
    vocabulary: Vocabulary,
}

impl Encoder {
    /// New.
    #[must_use]
    pub fn new(vocabulary: Vocabulary) -> Self {
        Self { vocabulary }
    }

    /// Its vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Encode.
    ///
    /// # Errors
    /// The library's.
    pub fn encode(&self, text: &Text, out: &mut Encoded) -> Result<(), String> {
        out.tokens = self.vocabulary.encode(&text.text)?;
        out.weights.clear();
        Ok(())
    }
}
