//! `hephaestus-forge`: documents into corpora, and a look at the result.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use hephaestus::forge::bpe;
use hephaestus::forge::progress::{size, thousands};
use hephaestus::forge::readers::{BadRecord, Document, Kind, Reader};

/// Bad records named one by one; the rest are only counted.
const NAMED: u64 = 20;

/// Build token corpora from documents, and look inside them.
#[derive(Parser)]
#[command(name = "hephaestus-forge", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a byte-level BPE tokenizer, written as transformers reads it.
    Tokenizer(TokenizerArgs),
    /// Print what a reader makes of its inputs, as JSON lines with "text" and "origin".
    Read(ReadArgs),
}

#[derive(Args)]
struct TokenizerArgs {
    /// Files and folders to train on.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// How to read them; several readers, separated by commas, each read all inputs.
    #[arg(long, value_delimiter = ',', default_value = "text")]
    reader: Vec<Kind>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Tokens in the vocabulary, special tokens included.
    #[arg(long, default_value_t = 8192)]
    vocab_size: usize,
    /// Special tokens besides <|endoftext|>, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "TOKEN")]
    special: Vec<String>,
    /// Train on a sample of at most so many bytes of text; the same one every time.
    #[arg(long, default_value_t = 1 << 30, value_name = "BYTES")]
    max_bytes: u64,
    /// Folder to write.
    #[arg(long, short)]
    output: PathBuf,
}

#[derive(Args)]
struct ReadArgs {
    /// Files and folders to read.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// How to read them.
    #[arg(long, default_value = "text")]
    reader: Kind,
    #[command(flatten)]
    reading: ReadingArgs,
}

#[derive(Args)]
struct ReadingArgs {
    /// jsonl: the key that holds the text, or a JSON pointer such as /a/b.
    #[arg(long, default_value = "text")]
    field: String,
    /// Extensions taken from folders, separated by commas, instead of the reader's own.
    #[arg(long, value_delimiter = ',', value_name = "EXT")]
    extension: Vec<String>,
    /// Leave out paths that match a glob, relative to each input folder; may be repeated.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Largest file, or JSON line, that is read.
    #[arg(long, value_name = "BYTES")]
    max_file_bytes: Option<u64>,
    /// Stop at the first bad record instead of skipping it.
    #[arg(long)]
    strict: bool,
}

impl ReadingArgs {
    fn reader(&self, kind: Kind) -> Reader {
        Reader {
            field: self.field.clone(),
            extensions: self.extension.clone(),
            exclude: self.exclude.clone(),
            max_bytes: self.max_file_bytes,
            ..Reader::new(kind)
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Tokenizer(args) => tokenizer(&args),
        Command::Read(args) => read(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tokenizer(args: &TokenizerArgs) -> anyhow::Result<ExitCode> {
    let inputs: Vec<_> = args.reader.iter().map(|kind| (args.reading.reader(*kind), args.inputs.clone())).collect();
    let settings = bpe::Settings {
        vocab_size: args.vocab_size,
        special: args.special.clone(),
        max_bytes: args.max_bytes,
        strict: args.reading.strict,
    };
    let mut bad = BadRecords::default();
    let trained = bpe::train(&inputs, &args.output, &settings, &mut |record| bad.report(record))?;
    bad.close();
    eprintln!(
        "trained {} tokens on {} documents, {} (of {}, {}) -> {}",
        thousands(trained.vocab_size as u64),
        thousands(trained.documents),
        size(trained.bytes),
        thousands(trained.seen),
        size(trained.seen_bytes),
        args.output.display(),
    );
    Ok(ExitCode::SUCCESS)
}

fn read(args: &ReadArgs) -> anyhow::Result<ExitCode> {
    let reader = args.reading.reader(args.reader);
    let listing = reader.list(&args.inputs)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut bad = BadRecords::default();
    for unit in reader.units(&listing) {
        for document in unit.map_or_else(|bad| vec![Err(bad)], |unit| reader.documents(&unit)) {
            match document {
                Ok(Document { text, origin }) => {
                    serde_json::to_writer(&mut out, &serde_json::json!({ "text": text, "origin": origin }))?;
                    out.write_all(b"\n")?;
                }
                Err(record) if args.reading.strict => anyhow::bail!("{record} (--strict)"),
                Err(record) => bad.report(&record),
            }
        }
    }
    out.flush()?;
    bad.close();
    Ok(ExitCode::SUCCESS)
}

/// Names the first bad records on stderr and counts the rest.
#[derive(Default)]
struct BadRecords {
    count: u64,
}

impl BadRecords {
    fn report(&mut self, record: &BadRecord) {
        self.count += 1;
        if self.count <= NAMED {
            eprintln!("bad record: {record}");
        }
    }

    fn close(&self) {
        if self.count > NAMED {
            eprintln!("bad record: and {} more", thousands(self.count - NAMED));
        }
        if self.count > 0 {
            eprintln!("skipped {} bad records (--strict stops at the first)", thousands(self.count));
        }
    }
}
