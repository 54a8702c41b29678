//! Text into tokens: the ids that Hugging Face's `tokenizers` gives, sooner.
//!
//! In reading order: [`Encoder`] cuts a document at its special and added tokens (`added`) and encodes what lies between.
//! Byte-level BPEs (`byte_level`: GPT-2, Llama 3, Qwen and most others of today) go their own way: text is brought into NFC
//! where the tokenizer wants that (`normal`), split into words (`split`, by classes of characters from `classes`), and words
//! are looked up among those met before (`cache`) or merged (`merge`). Every other tokenizer goes through the library
//! (`library`). `weights` carries the loss weights over.

mod added;
mod byte_level;
mod cache;
mod classes;
mod library;
mod merge;
mod normal;
mod split;
#[cfg(test)]
mod tests;
mod weights;

use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

use hephaestus_core::vocabulary::Vocabulary;

use self::added::Added;
use self::byte_level::{ByteLevel, Scratch};
use self::weights::{Run, Walk};
use crate::document::{LEARNED, Text};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A document's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Their ids.
    pub tokens: Vec<u32>,
    /// Their loss weights (0 to 255 for 0.0 to 1.0), one a token; empty where everything is learned.
    pub weights: Vec<u8>,
}

/// A tokenizer that many threads encode with at once.
///
/// Every thread that does keeps the words it met, in 11 MiB at most; they go with the encoder.
pub struct Encoder {
    vocabulary: Vocabulary,
    added: Result<Added, String>,
    fast: Result<ByteLevel, String>,
    slots: Vec<Mutex<Option<Box<Scratch>>>>,
}

impl Encoder {
    /// Whatever the tokenizer: what nothing faster covers is encoded by the library.
    #[must_use]
    pub fn new(vocabulary: Vocabulary) -> Self {
        let added = Added::new(&vocabulary.tokenizer);
        let fast = ByteLevel::new(&vocabulary.tokenizer);
        // As many as threads that work at once; one more thread than that works without the words it met.
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = (0..2 * threads).map(|_| Mutex::new(None)).collect();
        Self { vocabulary, added, fast, slots }
    }

    /// The tokenizer.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Whether it does without the library.
    #[must_use]
    pub fn is_fast(&self) -> bool {
        self.fast.is_ok()
    }

    /// How it encodes, for a log line.
    #[must_use]
    pub fn description(&self) -> String {
        match &self.fast {
            Ok(fast) => fast.description(),
            Err(reason) => format!("the tokenizers library ({reason})"),
        }
    }

    /// Replaces what is in `out` by the document's tokens, as Hugging Face gives them for the whole text without adding any:
    /// where loss weights change, words are not cut. Special tokens are those in the text's `special` ranges; a token has the
    /// lowest weight of the runs that its bytes lie in. The error says what is wrong with the document or the tokenizer.
    pub fn encode(&self, text: &Text, out: &mut Encoded) -> Result<(), String> {
        out.tokens.clear();
        out.weights.clear();
        let added = self.added.as_ref()?;
        match &self.fast {
            Ok(fast) if fast.has_regex() => {
                guarded(|| Ok(self.with_scratch(|to| encode(fast, added, text, to, out))?))?
            }
            Ok(fast) => self.with_scratch(|scratch| encode(fast, added, text, scratch, out))?,
            Err(_) => guarded(|| library::encode(&self.vocabulary.tokenizer, added, text, out))?,
        }
        if out.weights.iter().all(|weight| *weight == LEARNED) {
            out.weights.clear();
        }
        Ok(())
    }

    /// Runs `work` with what this thread worked with before.
    fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static THREAD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed)));
        let thread = THREAD.with(Cell::get);
        for offset in 0..self.slots.len() {
            let mut slot = match self.slots[(thread + offset) % self.slots.len()].try_lock() {
                Ok(slot) => slot,
                Err(TryLockError::Poisoned(poisoned)) => {
                    let mut slot = poisoned.into_inner();
                    *slot = None;
                    slot
                }
                Err(TryLockError::WouldBlock) => continue,
            };
            return work(slot.get_or_insert_default());
        }
        work(&mut Scratch::default())
    }
}

/// Encodes without the library.
fn encode(
    fast: &ByteLevel,
    added: &Added,
    text: &Text,
    scratch: &mut Scratch,
    out: &mut Encoded,
) -> Result<(), String> {
    if text.special.is_empty() && added.none_in_text() {
        return piece(fast, added, &text.text, &text.weights, scratch, out);
    }
    for part in added.parts(&text.text, &text.special)? {
        let runs =
            if text.weights.is_empty() { Vec::new() } else { weights::within(&text.weights, part.range.clone()) };
        match part.token {
            Some(token) => push(token, 0..part.range.len(), &runs, out),
            None => piece(fast, added, &text.text[part.range], &runs, scratch, out)?,
        }
    }
    Ok(())
}

/// Text between tokens that are found before it is normalized.
fn piece(
    fast: &ByteLevel,
    added: &Added,
    text: &str,
    runs: &[Run],
    scratch: &mut Scratch,
    out: &mut Encoded,
) -> Result<(), String> {
    if !fast.nfc {
        return normalized(fast, added, text, runs, scratch, out);
    }
    let (text, runs) = normal::nfc(text, runs)?;
    normalized(fast, added, &text, &runs, scratch, out)
}

/// The same text, normalized.
fn normalized(
    fast: &ByteLevel,
    added: &Added,
    text: &str,
    runs: &[Run],
    scratch: &mut Scratch,
    out: &mut Encoded,
) -> Result<(), String> {
    if added.none_in_text() {
        return words(fast, text, 0..text.len(), runs, scratch, out);
    }
    for part in added.normalized_parts(text) {
        match part.token {
            Some(token) => push(token, part.range, runs, out),
            None => words(fast, text, part.range, runs, scratch, out)?,
        }
    }
    Ok(())
}

/// Text in which there are only words.
fn words(
    fast: &ByteLevel,
    text: &str,
    range: Range<usize>,
    runs: &[Run],
    scratch: &mut Scratch,
    out: &mut Encoded,
) -> Result<(), String> {
    let before = out.tokens.len();
    fast.encode(&text[range.clone()], scratch, &mut out.tokens)?;
    if !runs.is_empty() {
        let (mut walk, mut at) = (Walk::from(runs, range.start), range.start);
        out.weights.extend(out.tokens[before..].iter().map(|token| {
            let start = at;
            at += fast.length(*token);
            walk.lowest(start..at)
        }));
    }
    Ok(())
}

/// A token found in the text.
fn push(token: u32, range: Range<usize>, runs: &[Run], out: &mut Encoded) {
    out.tokens.push(token);
    if !runs.is_empty() {
        out.weights.push(Walk::from(runs, range.start).lowest(range));
    }
}

/// Makes an error of a panic: the library's engine of regular expressions gives up with one after ten million steps.
fn guarded(work: impl FnOnce() -> Result<(), Error>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let reason = panic.downcast_ref::<String>().map(String::as_str);
            Err(format!("the tokenizers library gave up: {}", reason.unwrap_or("it did not say why")))
        }
    }
}
