//! Encoding with Hugging Face's library itself, step by step: for tokenizers that nothing faster covers.

use std::ops::Range;

use tokenizers::tokenizer::normalizer::Range as Referential;
use tokenizers::{Model, NormalizedString, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token, Tokenizer};

use super::added::{Added, Part};
use super::weights::Walk;
use super::{Encoded, Error};
use crate::document::Text;

/// Appends the tokens of a text and, where it has weights, theirs.
pub(super) fn encode(tokenizer: &Tokenizer, added: &Added, text: &Text, out: &mut Encoded) -> Result<(), Error> {
    let parts = added.parts(&text.text, &text.special)?;
    let mut pieces = PreTokenizedString::from(text.text.as_str());
    pieces.split(|_, whole| Ok(cut(&whole, &parts)))?;
    pieces.split(|_, mut piece| {
        if let Some(normalizer) = tokenizer.get_normalizer() {
            normalizer.normalize(&mut piece)?;
        }
        let parts = added.normalized_parts(piece.get());
        Ok(cut(&piece, &parts))
    })?;
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces)?;
    }
    tokenizer.get_model().tokenize_in_pretokenized(&mut pieces, None)?;
    let offsets = if text.weights.is_empty() { OffsetType::None } else { OffsetType::Byte };
    let encoding = pieces.into_encoding(None, 0, offsets)?;
    out.tokens.extend_from_slice(encoding.get_ids());
    if !text.weights.is_empty() {
        out.weights.resize(encoding.get_offsets().len(), 0);
        // From behind: marks that were composed into a token's last character lie before the next one, says the library.
        let (mut next, mut begins) = (text.text.len(), text.text.len());
        for (weight, &(start, end)) in out.weights.iter_mut().zip(encoding.get_offsets()).rev() {
            if start < begins {
                (next, begins) = (begins, start);
            }
            let marks = text.text.get(end..next).is_some_and(|gap| !gap.contains(char::is_whitespace));
            *weight = Walk::from(&text.weights, start).lowest(start..if marks { next } else { end });
        }
    }
    Ok(())
}

/// Cuts a piece into its parts; those that are tokens are so from here on.
fn cut(piece: &NormalizedString, parts: &[Part]) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
    let slice = |range: &Range<usize>| piece.slice(Referential::Normalized(range.clone()));
    let cut = parts.iter().filter_map(|part| {
        let slice = slice(&part.range)?;
        let length = slice.get().len();
        let token = part.token.map(|id| vec![Token::new(id, slice.get().to_owned(), (0, length))]);
        Some((slice, token))
    });
    cut.collect()
}
