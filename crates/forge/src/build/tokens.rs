//! What is kept and is no duplicate, tokenized part by part.

use std::io::Write as _;

use hephaestus_core::corpus::format::TokenType;
use hephaestus_core::progress;
use hephaestus_core::whole::Whole;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::plan::{Part, Plan};
use super::stored::{self, Stored};
use super::work::Work;
use super::{BuildError, Options};
use crate::ahead::ahead;
use crate::document::LEARNED;
use crate::duplicates::Dropped;
use crate::encode::{Encoded, Encoder};
use crate::report::{Amount, Tally};

/// Vocabularies smaller than this are written as u16, like Megatron-LM's.
const U16_BELOW: u32 = 65_500;
/// Bytes of text in flight at once.
const CHUNK: usize = 8 << 20;

/// The width in which tokens of a vocabulary are written.
pub(super) fn token_type(size: u32) -> TokenType {
    if size < U16_BELOW { TokenType::U16 } else { TokenType::I32 }
}

/// Tokenizes the parts that are not tokenized yet.
pub(super) fn run(
    plan: &Plan,
    work: &Work,
    encoder: &Encoder,
    end: Option<u32>,
    options: &Options,
) -> Result<(), BuildError> {
    let parts: Vec<&Part> = plan.share(options.shard).filter(|part| !work.is_tokenized(part.number)).collect();
    let dropped = if work.dropped().exists() { Some(Dropped::open(&work.dropped())?) } else { None };
    let bar = progress::bytes(parts.iter().map(|part| part.bytes).sum(), "tokenizing");
    for part in parts {
        tokenize(part, work, encoder, end, dropped.as_ref())?;
        bar.inc(part.bytes);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What is known of a part when it is tokenized.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Tokenized {
    /// What was counted.
    pub(super) tally: Tally,
    /// Documents left out that equal one before.
    pub(super) exact: Amount,
    /// Documents left out that nearly equal one before.
    pub(super) near: Amount,
}

/// The token files of a part.
struct Files {
    tokens: Whole,
    lengths: Whole,
    loss: Whole,
    buffer: Vec<u8>,
}

fn tokenize(
    part: &Part,
    work: &Work,
    encoder: &Encoder,
    end: Option<u32>,
    dropped: Option<&Dropped>,
) -> Result<(), BuildError> {
    let create = |extension| Whole::create(&work.part("tokens", part.number, extension));
    let mut files =
        Files { tokens: create("bin")?, lengths: create("len")?, loss: create("loss")?, buffer: Vec::new() };
    let kind = token_type(encoder.vocabulary().size);
    let dropped = match dropped {
        Some(dropped) => dropped.of_part(part.number)?,
        None => Vec::new(),
    };
    let mut duplicates = dropped.into_iter().peekable();
    let mut done = Tokenized::default();
    let mut documents = stored::read(&work.part("documents", part.number, "jsonl.zst"))?;
    std::thread::scope(|scope| -> Result<(), BuildError> {
        let chunks = ahead(scope, move || chunk(&mut documents).transpose());
        let mut number = 0_u32;
        for chunk in chunks {
            let mut kept = Vec::new();
            for stored in chunk? {
                let bytes = stored.text.text.len() as u64;
                match duplicates.next_if(|(next, ..)| *next == number) {
                    Some((_, _, true)) => done.exact.add(bytes),
                    Some((_, _, false)) => done.near.add(bytes),
                    None => kept.push(stored),
                }
                number += 1;
            }
            let encode = |stored: &Stored| {
                let mut encoded = Encoded::default();
                encoder.encode(&stored.text, &mut encoded)?;
                if let Some(end) = end {
                    encoded.tokens.push(end);
                    if !encoded.weights.is_empty() {
                        encoded.weights.push(LEARNED);
                    }
                }
                Ok(encoded)
            };
            let encoded: Vec<Result<Encoded, String>> = kept.par_iter().map(encode).collect();
            for (stored, encoded) in kept.iter().zip(encoded) {
                match encoded {
                    Ok(encoded) => {
                        let called = stored.called.iter().map(String::as_str);
                        done.tally.kept(&stored.facts, called, &stored.origin, &stored.text.text);
                        let learned: u64 = encoded.weights.iter().map(|weight| u64::from(*weight)).sum();
                        let learned = match encoded.weights.as_slice() {
                            [] => encoded.tokens.len() as f64,
                            _ => learned as f64 / f64::from(LEARNED),
                        };
                        done.tally.tokens(encoded.tokens.len(), learned);
                        files.push(&encoded, kind)?;
                    }
                    Err(reason) => done.tally.dropped("tokenizer", &reason, &stored.origin, &stored.text.text),
                }
            }
        }
        Ok(())
    })?;
    files.finish()?;
    work.write_json(&work.part("tokens", part.number, "json"), &done)
}

impl Files {
    fn push(&mut self, encoded: &Encoded, kind: TokenType) -> std::io::Result<()> {
        self.buffer.clear();
        match kind {
            TokenType::U16 => self.buffer.extend(encoded.tokens.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            TokenType::I32 => self.buffer.extend(encoded.tokens.iter().flat_map(|id| id.to_le_bytes())),
        }
        self.tokens.write_all(&self.buffer)?;
        self.lengths.write_all(&(encoded.tokens.len() as u32).to_le_bytes())?;
        if encoded.weights.is_empty() {
            self.buffer.clear();
            self.buffer.resize(encoded.tokens.len(), LEARNED);
            self.loss.write_all(&self.buffer)
        } else {
            self.loss.write_all(&encoded.weights)
        }
    }

    fn finish(self) -> std::io::Result<()> {
        self.tokens.finish()?;
        self.lengths.finish()?;
        self.loss.finish()
    }
}

/// The next documents, up to a chunk of text together; none where there are no more.
fn chunk(documents: &mut dyn Iterator<Item = Result<Stored, BuildError>>) -> Result<Option<Vec<Stored>>, BuildError> {
    let mut taken = Vec::new();
    let mut size = 0;
    while size < CHUNK {
        let Some(stored) = documents.next().transpose()? else { break };
        size += stored.text.text.len();
        taken.push(stored);
    }
    Ok(Some(taken).filter(|taken| !taken.is_empty()))
}
