//! Trains a byte-level BPE tokenizer (Sennrich et al. 2016, arXiv 1508.07909; bytes as in GPT-2) and writes it as
//! transformers reads it.
//!
//! Where there is more text than asked for, the documents with the smallest keyed hash of their number are taken: one
//! pass, bounded memory, the same sample every time.

use std::collections::BinaryHeap;
use std::path::Path;

use indicatif::ProgressBar;
use rayon::prelude::*;
use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder, TokenizerImpl};

use super::readers::{BadRecord, InputError, Listing, Reader, Unit};
use super::render::Renderer;
use hephaestus_core::{progress, whole};

/// Ends a document; the first token of every vocabulary made here.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Bytes of units read at once.
const CHUNK: u64 = 16 << 20;

/// What to train.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tokens in the vocabulary, special tokens included.
    pub vocab_size: usize,
    /// Special tokens besides [`END_OF_TEXT`].
    pub special: Vec<String>,
    /// Most text to train on, in bytes.
    pub max_bytes: u64,
    /// Whether a bad record ends it.
    pub strict: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Documents trained on.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Documents the inputs held.
    pub seen: u64,
    /// Bytes of these.
    pub seen_bytes: u64,
    /// Records skipped.
    pub bad: u64,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
}

/// Why no tokenizer was made.
#[derive(Debug, thiserror::Error)]
pub enum BpeError {
    /// An input that cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A bad record, in strict mode.
    #[error("{0} (--strict)")]
    Record(BadRecord),
    /// Inputs without text.
    #[error("the inputs hold no text to train on")]
    Empty,
    /// A vocabulary that cannot hold the byte alphabet.
    #[error("--vocab-size {asked}: a byte-level vocabulary needs at least {least} (256 bytes and the special tokens)")]
    TooSmall {
        /// As asked.
        asked: usize,
        /// The least possible.
        least: usize,
    },
    /// The tokenizers library failed.
    #[error("training: {0}")]
    Library(String),
    /// A file that cannot be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Trains on what `readers` hold and writes the tokenizer to `output`. `report` hears of
/// every bad record.
pub fn train(
    readers: &[Reader],
    output: &Path,
    settings: &Settings,
    report: &mut dyn FnMut(&BadRecord),
) -> Result<Trained, BpeError> {
    let mut special = vec![END_OF_TEXT.to_owned()];
    special.extend(settings.special.iter().filter(|token| *token != END_OF_TEXT).cloned());
    let least = 256 + special.len();
    if settings.vocab_size < least {
        return Err(BpeError::TooSmall { asked: settings.vocab_size, least });
    }
    let mut listings = Vec::new();
    for reader in readers {
        listings.push((reader, reader.list()?));
    }
    let mut sample = Sample::new(settings.max_bytes);
    let bad = gather(&listings, settings.strict, &mut sample, report)?;
    let (seen, seen_bytes) = (sample.seen, sample.seen_bytes);
    let texts = sample.into_texts();
    if texts.is_empty() {
        return Err(BpeError::Empty);
    }
    let (documents, bytes) = (texts.len() as u64, texts.iter().map(|text| text.len() as u64).sum());
    let vocab_size = fit(texts, special.clone(), settings.vocab_size, output)?;
    companions(output, &special)?;
    Ok(Trained { documents, bytes, seen, seen_bytes, bad, vocab_size })
}

fn gather(
    listings: &[(&Reader, Listing)],
    strict: bool,
    sample: &mut Sample,
    report: &mut dyn FnMut(&BadRecord),
) -> Result<u64, BpeError> {
    let bar = progress::bytes(listings.iter().map(|(_, listing)| listing.bytes).sum(), "reading");
    let renderer = Renderer::plain();
    let mut bad = 0;
    for (reader, listing) in listings {
        let slices = listing.slices();
        let mut units = reader.units(&slices);
        loop {
            let chunk = super::readers::chunk(&mut units, CHUNK);
            if chunk.is_empty() {
                break;
            }
            let documents: Vec<_> = chunk
                .par_iter()
                .flat_map_iter(|unit| match unit {
                    Ok(unit) => reader.documents(unit),
                    Err(bad) => vec![Err(bad.clone())],
                })
                .collect();
            for document in documents {
                match document {
                    Ok(document) => match renderer.render(&document) {
                        Ok(text) => sample.offer(text.text),
                        Err(_) => bad += 1,
                    },
                    Err(record) if strict => return Err(BpeError::Record(record)),
                    Err(record) => {
                        bad += 1;
                        bar.suspend(|| report(&record));
                    }
                }
            }
            bar.inc(chunk.iter().flatten().map(Unit::bytes).sum());
        }
    }
    bar.finish_and_clear();
    Ok(bad)
}

/// Trains and writes `tokenizer.json`; returns the vocabulary's size.
fn fit(texts: Vec<String>, special: Vec<String>, vocab_size: usize, output: &Path) -> Result<usize, BpeError> {
    let library = |error: tokenizers::Error| BpeError::Library(error.to_string());
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(!ProgressBar::no_length().is_hidden())
        .vocab_size(vocab_size)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.into_iter().map(|token| AddedToken::from(token, true)).collect())
        .build();
    let mut tokenizer: TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel> = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)))
        .with_post_processor(Some(ByteLevel::default().trim_offsets(false)))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(library)?;
    tokenizer.train(&mut trainer, texts.into_iter()).map_err(library)?;
    let json = tokenizer.to_string(true).map_err(library)?;
    fs_err::create_dir_all(output)?;
    whole::write(&output.join("tokenizer.json"), json.as_bytes())?;
    Ok(tokenizer.get_vocab_size(true))
}

/// The files that transformers reads beside `tokenizer.json`.
fn companions(output: &Path, special: &[String]) -> Result<(), BpeError> {
    let decoder: serde_json::Map<_, _> = special
        .iter()
        .enumerate()
        .map(|(id, token)| {
            let flags = json!({
                "content": token, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                "special": true,
            });
            (id.to_string(), flags)
        })
        .collect();
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": decoder,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": false,
        "model_max_length": 1_000_000_000,
    });
    let mut map = json!({ "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT });
    if special.len() > 1 {
        config["additional_special_tokens"] = json!(special[1..]);
        map["additional_special_tokens"] = json!(special[1..]);
    }
    for (name, value) in [("tokenizer_config.json", config), ("special_tokens_map.json", map)] {
        whole::write(&output.join(name), format!("{value:#}\n").as_bytes())?;
    }
    Ok(())
}

/// Keeps the documents of smallest key until they fill `limit` bytes; the heap's top is the next to go.
struct Sample {
    limit: u64,
    kept: BinaryHeap<(u64, u64, String)>,
    bytes: u64,
    seen: u64,
    seen_bytes: u64,
}

impl Sample {
    fn new(limit: u64) -> Self {
        Self { limit, kept: BinaryHeap::new(), bytes: 0, seen: 0, seen_bytes: 0 }
    }

    fn offer(&mut self, text: String) {
        let number = self.seen;
        self.seen += 1;
        self.seen_bytes += text.len() as u64;
        self.bytes += text.len() as u64;
        self.kept.push((mix(number), number, text));
        while self.bytes > self.limit && self.kept.len() > 1 {
            if let Some((_, _, dropped)) = self.kept.pop() {
                self.bytes -= dropped.len() as u64;
            }
        }
    }

    /// In reading order.
    fn into_texts(self) -> Vec<String> {
        let mut kept: Vec<(u64, String)> = self.kept.into_iter().map(|(_, number, text)| (number, text)).collect();
        kept.sort_unstable_by_key(|(number, _)| *number);
        kept.into_iter().map(|(_, text)| text).collect()
    }
}

/// SplitMix64's finalizer (Steele et al. 2014): spreads consecutive numbers evenly.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_bounded_spread_out_and_the_same_every_time() {
        let take = || {
            let mut sample = Sample::new(1000);
            for number in 0..1000 {
                sample.offer(format!("{number:010}"));
            }
            sample.into_texts()
        };
        let texts = take();
        assert_eq!(texts.len(), 100);
        assert_eq!(texts, take());
        let late = texts.iter().filter(|text| text.as_str() >= "0000000500").count();
        assert!((30..70).contains(&late), "{late} of 100 from the second half");
    }
}
