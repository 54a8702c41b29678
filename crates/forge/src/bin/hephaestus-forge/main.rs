//! `hephaestus-forge`: documents into corpora, and a look at the result.

mod bad_records;
mod build;
mod read;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use bad_records::BadRecords;
use clap::{Args, Parser, Subcommand};
use hephaestus_core::figures::{size, thousands};
use hephaestus_core::trace;
use hephaestus_core::vocabulary::Vocabulary;
use hephaestus_forge::inspect::Choice;
use hephaestus_forge::inspect::paint::{Paint, When};
use hephaestus_forge::inspect::search::Pattern;
use hephaestus_forge::readers::Kind;
use hephaestus_forge::{bpe, inspect, verify};

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
    /// Print what a reader, or a recipe, makes of documents, as JSON lines with "text" and "origin".
    Read(read::ReadArgs),
    /// Build the corpora that a recipe describes; after a kill, the same command goes on.
    Build(build::BuildArgs),
    /// Group the duplicates among what all shards of a build read.
    Group(build::GroupArgs),
    /// Put together what the shards of a build did.
    Merge(build::MergeArgs),
    /// Print documents of a corpus back as text, and its statistics.
    Inspect(InspectArgs),
    /// Check every sequence, token and hash of a corpus; exit code 1 if anything is wrong.
    Verify(VerifyArgs),
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
    reading: read::ReadingArgs,
    /// Tokens in the vocabulary, special tokens included.
    #[arg(long, default_value_t = 8192)]
    vocab_size: usize,
    /// Special tokens besides <|endoftext|>, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "TOKEN")]
    special: Vec<String>,
    /// Train on a sample of at most so much text, such as 200M; the same one every time.
    #[arg(long, default_value = "1G", value_name = "BYTES", value_parser = read::parse_size)]
    max_bytes: u64,
    /// Folder to write.
    #[arg(long, short)]
    output: PathBuf,
}

#[derive(Args)]
struct InspectArgs {
    /// Path of the corpus, without extension.
    prefix: PathBuf,
    /// Folder with the tokenizer.json that decodes it; ids are printed without one.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Print so many documents.
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    documents: u64,
    /// Print this document, counted from 0.
    #[arg(long, value_name = "N", conflicts_with_all = ["documents", "sample"])]
    document: Option<u64>,
    /// Draw the documents at random with a seed, instead of taking the first.
    #[arg(long, value_name = "SEED")]
    sample: Option<u64>,
    /// Print document lengths: quantiles and a histogram.
    #[arg(long)]
    stats: bool,
    /// Print only documents that hold this text; with --sample, in the order of the seed.
    #[arg(long, short, value_name = "TEXT", conflicts_with = "document")]
    search: Option<String>,
    /// Take the text to look for as a regular expression.
    #[arg(long, short = 'e', requires = "search")]
    regex: bool,
    /// Look for it in upper and lower case alike.
    #[arg(long, short, requires = "search")]
    ignore_case: bool,
    /// Tell tokens apart: by backgrounds in turn, or by │ without colour.
    #[arg(long)]
    tokens: bool,
    /// Whether to colour.
    #[arg(long, value_name = "WHEN", default_value = "auto", alias = "colour")]
    color: When,
}

#[derive(Args)]
struct VerifyArgs {
    /// Path of the corpus, without extension.
    prefix: PathBuf,
    /// Hold token ids against this tokenizer's vocabulary, instead of the manifest's.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
}

fn main() -> ExitCode {
    trace::start();
    let done = match Cli::parse().command {
        Command::Tokenizer(args) => tokenizer(&args),
        Command::Read(args) => read::read(&args),
        Command::Build(args) => build::build(&args),
        Command::Group(args) => build::group(&args),
        Command::Merge(args) => build::merge(&args),
        Command::Inspect(args) => inspect(&args),
        Command::Verify(args) => verify(&args),
    };
    match done {
        Ok(code) => code,
        // The reader of our output has seen enough: `hephaestus-forge inspect … | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = match error.downcast_ref::<inspect::InspectError>() {
        Some(inspect::InspectError::Io(error)) => Some(error),
        _ => error.downcast_ref::<std::io::Error>(),
    };
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn tokenizer(args: &TokenizerArgs) -> anyhow::Result<ExitCode> {
    let inputs: Vec<_> = args.reader.iter().map(|kind| args.reading.reader(*kind, &args.inputs)).collect();
    let settings = bpe::Settings {
        vocab_size: args.vocab_size,
        special: args.special.clone(),
        max_bytes: args.max_bytes,
        strict: args.reading.strict,
    };
    let mut bad = BadRecords::default();
    let trained = bpe::train(&inputs, &args.output, &settings, &mut |record| bad.report(record))?;
    bad.close();
    let short = if trained.vocab_size < args.vocab_size { " (the text gives no more)" } else { "" };
    eprintln!(
        "trained {} tokens{short} on {} documents, {} (of {}, {}) -> {}",
        thousands(trained.vocab_size as u64),
        thousands(trained.documents),
        size(trained.bytes),
        thousands(trained.seen),
        size(trained.seen_bytes),
        args.output.display(),
    );
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let documents = match (args.document, args.sample) {
        (Some(number), _) => Choice::One(number),
        (None, Some(seed)) => Choice::Sample { count: args.documents, seed },
        (None, None) => Choice::First(args.documents),
    };
    let settings = inspect::Settings {
        prefix: args.prefix.clone(),
        tokenizer: args.tokenizer.clone(),
        documents,
        statistics: args.stats,
        search: args.search.as_deref().map(|text| Pattern::new(text, args.regex, args.ignore_case)).transpose()?,
        paint: Paint {
            colours: args.color.colours(std::io::stdout().is_terminal(), |name| std::env::var(name).ok()),
            tokens: args.tokens,
        },
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    inspect::inspect(&settings, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let vocabulary = args.tokenizer.as_deref().map(Vocabulary::load).transpose()?;
    let report = verify::verify(&args.prefix, vocabulary.map(|vocabulary| vocabulary.size))?;
    let checked = report.checked.join(", ");
    if report.problems.is_empty() {
        writeln!(std::io::stdout(), "{}: sound ({checked})", args.prefix.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &report.problems {
        eprintln!("error: {problem}");
    }
    let checked = if checked.is_empty() { "the header only".to_owned() } else { checked };
    eprintln!("{} is not sound (checked {checked})", args.prefix.display());
    Ok(ExitCode::FAILURE)
}
