//! Seconds of training steps over the model and rows that `peers/train.py make` wrote, as one JSON line.
//!
//! ```text
//! throughput FOLDER fp32|bf16 WARMUP STEPS
//! ```
//!
//! `throughput.sh` runs it against its peer. Without arguments, as under `cargo test --all-targets`, it does nothing.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hephaestus::corpus::batch::{Batch, IGNORE};
use hephaestus::hf;
use hephaestus::model::config::Recompute;
use hephaestus::model::decoder::Decoder;
use hephaestus::optim::adamw::{AdamW, Settings};
use hephaestus::train::step::Engine;
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// The optimizer of `train.py`.
const ADAMW: Settings =
    Settings { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, moments: Kind::Float, clip_norm: Some(1.0) };

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (folder, precision, warmup, steps) = match arguments[..] {
        [] => return Ok(()),
        [folder, precision, warmup, steps] => (Path::new(folder), precision, warmup.parse()?, steps.parse()?),
        _ => bail!("usage: throughput FOLDER fp32|bf16 WARMUP STEPS"),
    };
    let kind = match precision {
        "fp32" => Kind::Float,
        "bf16" => Kind::BFloat16,
        other => bail!("precision is {other}, expected fp32 or bf16"),
    };
    writeln!(io::stdout(), "{}", run(folder, kind, precision, warmup, steps)?)?;
    Ok(())
}

fn run(folder: &Path, kind: Kind, precision: &str, warmup: usize, steps: usize) -> Result<serde_json::Value> {
    hephaestus::ffi::keep_freed_memory();
    let config = hf::config::read(folder)?;
    let masters = hf::import::load(folder, &config, Kind::Float, Device::Cpu)?;
    let parameters = hf::import::load(folder, &config, kind, Device::Cpu)?;
    let decoder = Decoder::new(&config, &parameters, Recompute::None)?;
    let optimizer = AdamW::new(&parameters, &masters, ADAMW)?;
    drop(masters);
    let mut engine = Engine::new(parameters, decoder, optimizer, 0.0);
    let batches = batches(&folder.join("batches.safetensors"))?;
    let (mut seconds, mut cpu, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for (step, batch) in batches.iter().cycle().take(warmup + steps).enumerate() {
        if step == warmup {
            fs_err::write("/proc/self/clear_refs", "5")?;
        }
        let (begin, spent) = (Instant::now(), cpu_seconds()?);
        let trained = f64::from(batch.weights.iter().sum::<f32>());
        let step = engine.step(std::slice::from_ref(batch), trained, 1e-3, 1, || false)?;
        losses.push(step.map_or(f64::NAN, |step| step.by_source.double_value(&[0, 0])) / trained);
        seconds.push(begin.elapsed().as_secs_f64());
        cpu.push(cpu_seconds()? - spent);
    }
    Ok(json!({
        "program": "hephaestus",
        "model": folder.file_name().map(|name| name.to_string_lossy()),
        "precision": precision,
        "tokens": batches[0].tokens.len(),
        "seconds": seconds[warmup..],
        "cpu": cpu[warmup..],
        "losses": losses,
        "peak_mib": peak_mib()?,
    }))
}

/// Every `[B, T]` slice of the `[S, B, T]` tokens and positions that the peer wrote.
fn batches(file: &Path) -> Result<Vec<Batch>> {
    let tensors: HashMap<_, _> = Tensor::read_safetensors(file)?.into_iter().collect();
    let (tokens, positions) = (&tensors["tokens"], &tensors["positions"]);
    let slices = tokens.split(1, 0).into_iter().zip(positions.split(1, 0));
    slices.map(|(tokens, positions)| batch(&tokens.squeeze_dim(0), &positions.squeeze_dim(0))).collect()
}

/// A segment begins wherever a position is 0, and no target crosses one.
fn batch(tokens: &Tensor, positions: &Tensor) -> Result<Batch> {
    let (rows, length) = tokens.size2()?;
    let tokens = Vec::<i64>::try_from(tokens.flatten(0, -1))?;
    let positions = Vec::<i64>::try_from(positions.flatten(0, -1))?;
    let follows = positions.iter().skip(1).map(|position| *position != 0).chain([false]);
    let next = tokens.iter().skip(1).chain([&IGNORE]);
    let targets: Vec<i64> = next.zip(follows).map(|(token, follows)| if follows { *token } else { IGNORE }).collect();
    let weights = targets.iter().map(|target| if *target == IGNORE { 0.0 } else { 1.0 }).collect();
    let mut segments: Vec<i64> = Vec::new();
    for position in &positions {
        match segments.last_mut() {
            Some(last) if *position != 0 => *last += 1,
            _ => segments.push(1),
        }
    }
    let sources = vec![0; usize::try_from(rows)?];
    let (rows, length) = (usize::try_from(rows)?, usize::try_from(length)?);
    Ok(Batch { rows, length, tokens, targets, weights, positions, segments, sources })
}

/// Most memory this process had resident, in MiB.
fn peak_mib() -> Result<f64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let kib = status.split("VmHWM:").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("/proc/self/status has no VmHWM")?.parse::<f64>()? / 1024.0)
}

/// CPU time of all threads: fields 14 and 15 of proc(5)'s stat, in hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("/proc/self/stat has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
