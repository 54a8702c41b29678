//! How fast documents become tokens, on as many threads as there are cores (or `RAYON_NUM_THREADS`).
//!
//! FILE holds JSON lines with `text` (`benches/peers/tokenizing.py --make` makes one), TOKENIZER is a folder with `tokenizer.json`.
//!
//! - `cargo bench -p hephaestus-forge --bench tokenize -- FILE TOKENIZER SECONDS`: MB a second, by turns, of this encoder and
//!   of the `tokenizers` library.
//! - `… -- measure FILE TOKENIZER SECONDS`: this encoder's alone, as one number.
//! - `… -- digests FILE TOKENIZER`: SHA-256 of the ids of each batch of documents, a line each.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use hephaestus_core::vocabulary::Vocabulary;
use hephaestus_forge::document::Text;
use hephaestus_forge::encode::{Encoded, Encoder};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Documents in a batch, as in `peers/tokenizing.py`.
const BATCH: usize = 1000;
/// Bytes of text that throughput is measured on, over and over.
const MEASURED: usize = 256 << 20;
/// Rounds of both.
const ROUNDS: usize = 3;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["measure", file, tokenizer, seconds] => {
            let encoder = encoder(tokenizer)?;
            let rate = rate(&batches(file)?, seconds.parse()?, |texts| ours(&encoder, texts))?;
            Ok(writeln!(stdout(), "{rate:.2}")?)
        }
        ["digests", file, tokenizer] => digests(file, &encoder(tokenizer)?),
        [file, tokenizer, seconds] => compare(&batches(file)?, &encoder(tokenizer)?, seconds.parse()?),
        // `cargo test` runs benches too: there it is enough that this one builds.
        [] if !std::env::args().any(|argument| argument == "--bench") => Ok(()),
        _ => Err("give FILE TOKENIZER SECONDS".into()),
    }
}

fn encoder(tokenizer: &str) -> Outcome<Encoder> {
    Ok(Encoder::new(Vocabulary::load(Path::new(tokenizer))?))
}

/// This encoder and the library by turns.
fn compare(batches: &[Vec<Text>], encoder: &Encoder, seconds: f64) -> Outcome {
    writeln!(stdout(), "{}", encoder.description())?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        rates[0].push(rate(batches, seconds, |texts| ours(encoder, texts))?);
        rates[1].push(rate(batches, seconds, |texts| library(encoder.vocabulary(), texts))?);
    }
    let [ours, library] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    let threads = rayon::current_num_threads();
    writeln!(stdout(), "ours    {ours:9.2} MB/s on {threads} threads")?;
    writeln!(stdout(), "library {library:9.2} MB/s: {:.1} times as fast", ours / library)?;
    Ok(())
}

/// Documents in batches, up to as many as are measured.
fn batches(file: &str) -> Outcome<Vec<Vec<Text>>> {
    let (mut batches, mut bytes) = (Vec::new(), 0);
    let mut lines = BufReader::new(fs_err::File::open(file)?).lines();
    while bytes < MEASURED {
        let batch = lines.by_ref().take(BATCH).map(|line| text(&line?)).collect::<Outcome<Vec<Text>>>()?;
        if batch.is_empty() {
            break;
        }
        bytes += batch.iter().map(|text| text.text.len()).sum::<usize>();
        batches.push(batch);
    }
    if batches.is_empty() { Err(format!("{file}: no documents").into()) } else { Ok(batches) }
}

fn text(line: &str) -> Outcome<Text> {
    let mut line: serde_json::Value = serde_json::from_str(line)?;
    match line["text"].take() {
        serde_json::Value::String(text) => Ok(Text::from(text)),
        _ => Err("a line without text".into()),
    }
}

/// Megabytes (10^6 bytes) a second over about so many seconds, after a tenth of that to warm up.
fn rate(batches: &[Vec<Text>], seconds: f64, encode: impl Fn(&[Text]) -> Outcome) -> Outcome<f64> {
    let mut endless = batches.iter().cycle();
    let mut measured = 0.0;
    for time in [seconds / 10.0, seconds] {
        let (begun, time, mut bytes) = (Instant::now(), Duration::from_secs_f64(time), 0);
        while begun.elapsed() < time {
            let batch = endless.next().ok_or("no documents")?;
            encode(batch)?;
            bytes += batch.iter().map(|text| text.text.len()).sum::<usize>();
        }
        measured = bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
    }
    Ok(measured)
}

/// A batch through this encoder; every document's tokens in a list of their own, as the library gives them.
fn ours(encoder: &Encoder, texts: &[Text]) -> Outcome {
    let encoded = texts.par_iter().map(|text| {
        let mut encoded = Encoded::default();
        encoder.encode(text, &mut encoded).map(|()| encoded)
    });
    black_box(encoded.collect::<Result<Vec<_>, _>>()?);
    Ok(())
}

/// A batch through the library, without offsets: the faster of its two ways.
fn library(vocabulary: &Vocabulary, texts: &[Text]) -> Outcome {
    let texts = texts.iter().map(|text| text.text.as_str()).collect();
    black_box(vocabulary.tokenizer.encode_batch_fast(texts, false).map_err(|error| error.to_string())?);
    Ok(())
}

/// A line for each batch: SHA-256 of its documents, each as its number of tokens and their ids, u32, little-endian.
fn digests(file: &str, encoder: &Encoder) -> Outcome {
    let mut lines = BufReader::new(fs_err::File::open(file)?).lines();
    loop {
        let batch = lines.by_ref().take(BATCH).map(|line| text(&line?)).collect::<Outcome<Vec<Text>>>()?;
        if batch.is_empty() {
            return Ok(());
        }
        let encoded = batch.par_iter().map(|text| {
            let mut encoded = Encoded::default();
            encoder.encode(text, &mut encoded).map(|()| encoded.tokens)
        });
        let mut digest = Sha256::new();
        for tokens in encoded.collect::<Result<Vec<_>, _>>()? {
            digest.update((tokens.len() as u32).to_le_bytes());
            tokens.iter().for_each(|token| digest.update(token.to_le_bytes()));
        }
        writeln!(stdout(), "{}", digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>())?;
    }
}
