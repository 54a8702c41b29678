//! `hephaestus-export`: weights into a Hugging Face folder, verified.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use hephaestus::checkpoint::{self, CheckpointError, find};
use hephaestus::hf;
use hephaestus::hf::dtype::Dtype;
use hephaestus::hf::export::{DEFAULT_SHARD, kind_of};
use hephaestus::model::config::Recompute;
use hephaestus::model::decoder::Decoder;
use hephaestus::model::generate::{Sampling, generate};
use hephaestus::{progress, trace};
use hephaestus_core::vocabulary::Vocabulary;
use tch::{Device, Kind};

/// Write a checkpoint as a Hugging Face folder, in the element type asked for, and check that it computes the same.
#[derive(Parser)]
#[command(name = "hephaestus-export", version, max_term_width = 100)]
struct Cli {
    /// A checkpoint, the folder of a run (its newest checkpoint), or a Hugging Face folder.
    source: PathBuf,
    /// Folder to write; it must not exist.
    output: PathBuf,
    /// Element type of the weights: bf16, fp16 or fp32; the source's own where it is not given. fp32 from a checkpoint
    /// trained in bf16 are its master weights.
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Most bytes of weights a file.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_SHARD)]
    max_shard_size: u64,
    /// Print how the written model goes on from this text.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// With --prompt: tokens to add.
    #[arg(long, value_name = "COUNT", default_value_t = 64, requires = "prompt")]
    tokens: usize,
    /// With --prompt: 0 takes the likeliest token each time, higher draws more freely.
    #[arg(long, default_value_t = 0.0, requires = "prompt")]
    temperature: f64,
}

fn main() -> ExitCode {
    trace::start();
    match export(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn export(cli: &Cli) -> anyhow::Result<()> {
    let (model, checkpoint) = model_of(&cli.source)?;
    let config = hf::config::read(&model)?;
    let dtype = match cli.dtype {
        Some(dtype) => dtype,
        None => hf::config::stored_dtype(&model)?.context("config.json names no dtype: give --dtype")?,
    };
    let kind = kind_of(dtype);
    let reading = progress::spinner("reading");
    let parameters = match &checkpoint {
        Some(folder) if kind == Kind::Float => checkpoint::load::masters(folder, &config)?,
        _ => hf::import::load(&model, &config, kind, Device::Cpu)?,
    };
    drop(reading);
    let writing = progress::spinner("writing");
    let tensors: Vec<_> = parameters.iter().collect();
    hf::export::save(&cli.output, &config, &tensors, kind, Some(&model), cli.max_shard_size)?;
    drop(writing);
    let comparing = progress::spinner("comparing");
    let found = hf::verify::compare(&config, &parameters, &cli.output)?;
    drop(comparing);
    // Not `>`: a difference that is no number is no agreement.
    let same = found.difference <= 1e-5 * found.scale.max(1.0);
    if !same {
        bail!(
            "{}: its logits differ from those of {} by {:e}: do not use it",
            cli.output.display(),
            model.display(),
            found.difference
        );
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}: {} parameters in {}; over {} tokens its logits are those of {} (largest difference {:e})",
        cli.output.display(),
        parameters.total(),
        dtype.config_name(),
        found.tokens,
        model.display(),
        found.difference
    )?;
    if let Some(prompt) = &cli.prompt {
        writeln!(out, "{prompt}{}", completion(&cli.output, prompt, cli)?)?;
    }
    Ok(())
}

/// The Hugging Face folder that a path stands for, and the checkpoint it lies in, if it does.
fn model_of(source: &Path) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    if source.join("config.json").is_file() {
        return Ok((source.to_owned(), None));
    }
    match find::named(source) {
        Ok(folder) => Ok((folder.join(checkpoint::MODEL), Some(folder))),
        Err(CheckpointError::NotOne(_)) => bail!(
            "{}: expected a Hugging Face folder (config.json), a checkpoint (manifest.json) or the folder of a run (step-N), \
             and it is none",
            source.display()
        ),
        Err(error) => Err(error.into()),
    }
}

/// What the model in `folder` makes of `prompt`.
fn completion(folder: &Path, prompt: &str, cli: &Cli) -> anyhow::Result<String> {
    let vocabulary = Vocabulary::load(folder)?;
    let config = hf::config::read(folder)?;
    let parameters = hf::import::load(folder, &config, Kind::Float, Device::Cpu)?;
    let decoder = Decoder::new(&config, &parameters, Recompute::None)?;
    let tokens = vocabulary.encode(prompt).map_err(anyhow::Error::msg)?;
    if tokens.is_empty() {
        bail!("--prompt is empty: give some text");
    }
    let sampling = Sampling {
        tokens: cli.tokens,
        temperature: cli.temperature,
        seed: 0,
        end: config.eos_token_ids.clone(),
        window: config.max_positions,
    };
    let added = generate(&decoder, &tokens, &sampling, Device::Cpu)?;
    vocabulary.tokenizer.decode(&added, false).map_err(|error| anyhow::anyhow!("{error}"))
}
