//! `hephaestus-export`: weights into a Hugging Face folder, verified.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use hephaestus::checkpoint::{self, CheckpointError, find};
use hephaestus::hf;
use hephaestus::hf::companions::Sources;
use hephaestus::hf::dtype::Dtype;
use hephaestus::hf::export::{DEFAULT_SHARD, kind_of};
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::generate::{Sampling, generate};
use hephaestus::model::parameters::Parameters;
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
    /// Element type of the weights: bf16, fp16 or fp32; the source's own where it is not given. All are made from a
    /// checkpoint's master weights where it has some.
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
    let (parameters, precision, masters) = source(&model, checkpoint.as_deref(), &config)?;
    drop(reading);
    let carried = Sources { model: Some(&model), tokenizer: None }.read()?;
    let writing = progress::spinner("writing");
    let tensors: Vec<_> = parameters.iter().collect();
    let staged = hf::export::stage(&cli.output, &config, &tensors, kind, &carried, cli.max_shard_size)?;
    drop(writing);
    let comparing = progress::spinner("comparing");
    hf::verify::tensors(&config, &parameters, dtype, staged.path(), &cli.output)?;
    // Without a tokenizer any tokens do.
    let vocabulary = Vocabulary::load(&model).ok();
    let tokens = hf::verify::sample(&config, vocabulary.as_ref());
    let found = hf::verify::compare(&config, &parameters, staged.path(), &tokens)?;
    drop(comparing);
    let exact = precision == dtype || dtype == Dtype::Fp32;
    let allowed = if exact { 1e-5 * found.scale.max(1.0) } else { f64::MAX };
    // Not `>`: a difference that is no number is no agreement.
    let same = found.difference <= allowed && found.mean_divergence.is_finite();
    if !same {
        bail!(
            "{}: not written: its logits would differ from those of {} by {:e}",
            cli.output.display(),
            model.display(),
            found.difference
        );
    }
    staged.publish()?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}: {} parameters in {}, every one that of {} ({}) {}",
        cli.output.display(),
        parameters.total(),
        dtype.config_name(),
        model.display(),
        if masters { "its master weights, float32" } else { precision.config_name() },
        if exact { "unchanged" } else { "rounded" },
    )?;
    writeln!(
        out,
        "over {} tokens: logits differ by {:.1e} at most (the largest is {:.3}), predictions by {:.1e} nats a token (KL), {:.1e} at most",
        found.tokens, found.difference, found.scale, found.mean_divergence, found.max_divergence
    )?;
    for one in carried.left_out {
        writeln!(out, "left out {one}")?;
    }
    if let Some(prompt) = &cli.prompt {
        writeln!(out, "{prompt}{}", completion(&cli.output, prompt, cli)?)?;
    }
    Ok(())
}

/// The weights to write, as exact as there are, their precision, and whether they are a checkpoint's masters beside its model.
fn source(model: &Path, checkpoint: Option<&Path>, config: &ModelConfig) -> anyhow::Result<(Parameters, Dtype, bool)> {
    let stored = hf::import::Weights::open(model, config)?.dtype();
    if let Some(folder) = checkpoint {
        return Ok((checkpoint::load::masters(folder, config)?, Dtype::Fp32, stored != Dtype::Fp32));
    }
    Ok((hf::import::load(model, config, kind_of(stored), Device::Cpu)?, stored, false))
}

/// The Hugging Face folder that a path stands for, and the checkpoint it lies in, if it does.
fn model_of(source: &Path) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    if source.join("config.json").is_file() {
        return Ok((source.to_owned(), None));
    }
    match find::named(source) {
        Ok(folder) => Ok((folder.join(checkpoint::MODEL), Some(folder))),
        Err(CheckpointError::NotOne(_)) if hf::folder::adapter(source).is_some() => {
            bail!(hf::folder::adapter(source).unwrap_or_default())
        }
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
