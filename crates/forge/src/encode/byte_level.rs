//! Byte-level BPE without the library: its vocabulary and merges, read from it once.

use std::collections::{HashMap, HashSet};

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::{NormalizerWrapper, Tokenizer};

use super::cache::Cache;
use super::merge::{Merges, Room};
use super::split::Splitter;

/// Ids below this are covered: tables are as long as the largest.
const IDS: u32 = 1 << 24;

/// A byte-level BPE.
pub(super) struct ByteLevel {
    /// Whether text is brought into NFC first.
    pub(super) nfc: bool,
    splitter: Splitter,
    merges: Merges,
    /// Where merges do not matter to words that are tokens: these.
    whole: Option<HashMap<Vec<u8>, u32>>,
    /// Bytes that each token stands for.
    lengths: Vec<u32>,
}

/// What one thread works with.
#[derive(Default)]
pub(super) struct Scratch {
    cache: Cache,
    room: Room,
}

impl ByteLevel {
    /// Of a tokenizer. The error says what of it is not covered.
    pub(super) fn new(tokenizer: &Tokenizer) -> Result<Self, String> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return Err("no BPE".into()) };
        let nfc = is_nfc(tokenizer.get_normalizer())?;
        let splitter = Splitter::new(tokenizer.get_pre_tokenizer().ok_or("no pre-tokenizer")?)?;
        let some = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
        if some(&model.continuing_subword_prefix) || some(&model.end_of_word_suffix) {
            return Err("prefixes or suffixes of words".into());
        }
        if model.dropout.is_some_and(|dropout| dropout > 0.0) {
            return Err("dropout".into());
        }
        let vocabulary = model.get_vocab();
        let largest = vocabulary.values().copied().max().unwrap_or(0);
        if largest >= IDS || vocabulary.values().collect::<HashSet<_>>().len() != vocabulary.len() {
            return Err("ids that are not distinct, or beyond 16 million".into());
        }
        let alphabet = alphabet();
        let mut bytes = [0; 256];
        for (character, byte) in &alphabet {
            let token = vocabulary.get(character.encode_utf8(&mut [0; 4]) as &str);
            bytes[usize::from(*byte)] = *token.ok_or_else(|| format!("no token for the byte {byte:#04x}"))?;
        }
        let mut lengths = vec![0; largest as usize + 1];
        let mut whole = HashMap::new();
        for (token, id) in &vocabulary {
            let spelled: Option<Vec<u8>> = token.chars().map(|character| alphabet.get(&character).copied()).collect();
            lengths[*id as usize] = token.chars().count() as u32;
            whole.extend(spelled.filter(|_| model.ignore_merges).map(|spelled| (spelled, *id)));
        }
        let merges = Merges::new(bytes, &merges(model, &vocabulary)?);
        let whole = model.ignore_merges.then_some(whole);
        Ok(Self { nfc, splitter, merges, whole, lengths })
    }

    /// What it does, for a log line.
    pub(super) fn description(&self) -> String {
        let nfc = if self.nfc { "NFC, " } else { "" };
        format!("byte-level BPE ({nfc}{})", self.splitter.description())
    }

    /// Whether it may panic in the engine of regular expressions.
    pub(super) fn has_regex(&self) -> bool {
        self.splitter.has_regex()
    }

    /// Appends the tokens of a text, normalized, in which there are no added tokens.
    pub(super) fn encode(&self, text: &str, scratch: &mut Scratch, tokens: &mut Vec<u32>) -> Result<(), String> {
        let Scratch { cache, room } = scratch;
        let bytes = text.as_bytes();
        tokens.reserve(bytes.len() / 4);
        self.splitter.split(text, |start, end| {
            cache.tokens(bytes, start, end, tokens, |word, tokens| self.word(word, room, tokens))
        })
    }

    #[inline(never)]
    fn word(&self, word: &[u8], room: &mut Room, tokens: &mut Vec<u32>) -> Result<(), String> {
        if let Some(token) = self.whole.as_ref().and_then(|whole| whole.get(word)) {
            tokens.push(*token);
            return Ok(());
        }
        self.merges.encode(word, room, tokens)
    }

    /// Bytes that a token stands for.
    pub(super) fn length(&self, token: u32) -> usize {
        self.lengths.get(token as usize).map_or(0, |length| *length as usize)
    }
}

/// The characters that stand for bytes: those that can be seen for themselves, the others for 256 and on (GPT-2,
/// `bytes_to_unicode`).
fn alphabet() -> HashMap<char, u8> {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255_u8).filter(|byte| !seen(*byte)).zip('\u{100}'..);
    let others = others.map(|(byte, character)| (character, byte));
    (0..=255_u8).filter(|byte| seen(*byte)).map(|byte| (char::from(byte), byte)).chain(others).collect()
}

/// The merges, first to last: two tokens and what they become. The model shows them only when it is written out.
fn merges(model: &BPE, vocabulary: &HashMap<String, u32>) -> Result<Vec<(u32, u32, u32)>, String> {
    #[derive(serde::Deserialize)]
    struct Written {
        merges: Vec<(String, String)>,
    }
    let written = serde_json::to_vec(model).map_err(|error| error.to_string())?;
    let written: Written = serde_json::from_slice(&written).map_err(|error| error.to_string())?;
    let id =
        |token: &str| vocabulary.get(token).copied().ok_or_else(|| format!("a merge of {token:?}, which is no token"));
    let merge = |(left, right): &(String, String)| Ok((id(left)?, id(right)?, id(&format!("{left}{right}"))?));
    written.merges.iter().map(merge).collect()
}

fn is_nfc(normalizer: Option<&NormalizerWrapper>) -> Result<bool, String> {
    match normalizer {
        None => Ok(false),
        Some(NormalizerWrapper::NFC(_)) => Ok(true),
        Some(NormalizerWrapper::Sequence(sequence)) => match sequence.as_ref() {
            [] => Ok(false),
            [one] => is_nfc(Some(one)),
            _ => Err("several normalizers".into()),
        },
        Some(_) => Err("a normalizer other than NFC".into()),
    }
}
