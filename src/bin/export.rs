//! `hephaestus-export`: weights into a Hugging Face folder, verified.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use hephaestus::hf;
use hephaestus::hf::dtype::Dtype;
use hephaestus::hf::export::{DEFAULT_SHARD, kind_of};
use tch::Device;

/// Write a Hugging Face folder anew, in another element type if asked, and check that it computes the same.
#[derive(Parser)]
#[command(name = "hephaestus-export", version, max_term_width = 100)]
struct Cli {
    /// Hugging Face folder to read.
    source: PathBuf,
    /// Folder to write; it must not exist.
    output: PathBuf,
    /// Element type of the weights: bf16, fp16 or fp32; the source's own where it is not given.
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Most bytes of weights a file.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_SHARD)]
    max_shard_size: u64,
}

fn main() -> ExitCode {
    match export(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn export(cli: &Cli) -> anyhow::Result<()> {
    let config = hf::config::read(&cli.source)?;
    let dtype = match cli.dtype {
        Some(dtype) => dtype,
        None => hf::config::stored_dtype(&cli.source)?.context("config.json names no dtype: give --dtype")?,
    };
    let kind = kind_of(dtype);
    let parameters = hf::import::load(&cli.source, &config, kind, Device::Cpu)?;
    let tensors: Vec<_> = parameters.iter().collect();
    hf::export::save(&cli.output, &config, &tensors, kind, Some(&cli.source), cli.max_shard_size)?;
    let found = hf::verify::compare(&cli.source, &cli.output, kind)?;
    // Not `>`: a difference that is no number is no agreement.
    let same = found.difference <= 1e-5 * found.scale.max(1.0);
    if !same {
        bail!(
            "{}: its logits differ from those of {} by {:e}: do not use it",
            cli.output.display(),
            cli.source.display(),
            found.difference
        );
    }
    writeln!(
        std::io::stdout(),
        "{}: {} parameters in {}; over {} tokens its logits are those of {} (largest difference {:e})",
        cli.output.display(),
        parameters.total(),
        dtype.config_name(),
        found.tokens,
        cli.source.display(),
        found.difference
    )?;
    Ok(())
}
