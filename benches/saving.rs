//! Saves of a checkpoint as a run makes them, without a run: their time and memory, one JSON line each.
//!
//! ```text
//! saving CONFIG.json FOLDER [ROUNDS]
//! ```
//!
//! The weights are bf16, the moments and master weights fp32, all on the CPU and drawn at random. `saving.sh` runs it against
//! its peers. Without arguments, as under `cargo test --all-targets`, it does nothing.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hephaestus::checkpoint::manifest::Manifest;
use hephaestus::checkpoint::save::{self, Contents};
use hephaestus::checkpoint::{State, Together};
use hephaestus::hf;
use hephaestus::hf::companions::Carried;
use hephaestus::hf::layout::Layout;
use hephaestus::model::parameters::Parameters;
use hephaestus::optim::slice::Slice;
use serde_json::json;
use tch::{Device, Kind};

#[path = "throughput/usage.rs"]
mod usage;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (config, folder, rounds) = match &arguments[..] {
        [] => return Ok(()),
        [config, folder] => (config, folder, 1),
        [config, folder, rounds] => (config, folder, rounds.parse().context("ROUNDS is no number")?),
        _ => bail!("expected: saving CONFIG.json FOLDER [ROUNDS]"),
    };
    let config = hf::config::parse(serde_json::from_slice(&fs_err::read(config)?)?)
        .map_err(|problems| anyhow::anyhow!("{config}: {}", problems.join("; ")))?;
    let draw = |seed, kind| Parameters::fresh(&config, seed, kind, Device::Cpu);
    let weights = draw(0, Kind::BFloat16)?;
    let layout = Layout::of(&config, weights.kind(), hf::export::DEFAULT_SHARD, 1)?;
    let parts = [draw(1, Kind::Float)?, draw(2, Kind::Float)?, draw(3, Kind::Float)?];
    let state = State {
        version: State::VERSION,
        step: 1,
        tokens: 0,
        skipped: 0,
        stage: "measured".to_owned(),
        stage_step: 1,
        stage_tokens: None,
        shares: Default::default(),
        base: None,
        seed: 0,
        sequence_length: 1024,
        sources: Default::default(),
    };
    for _ in 0..rounds {
        let slices = ["exp_avg", "exp_avg_sq", "master"].iter().zip(&parts).flat_map(|(part, values)| {
            values.iter().map(move |(name, values)| Slice::whole(format!("{name}.{part}"), values.shallow_clone()))
        });
        let contents = Contents {
            config: &config,
            layout: &layout,
            weights: weights.iter().map(|(name, weight)| (name.to_owned(), weight.shallow_clone())).collect(),
            optimizer: slices.collect(),
            replica: (0, 1),
            state: &state,
            carried: &Carried::default(),
            recipe: "",
        };
        // What was written before is on the disk, and not in this save's way.
        usage::forget_peak()?;
        let (before, cpu, began) = (usage::peak_mib()?, usage::cpu_seconds()?, Instant::now());
        let saved = save::save(Path::new(folder), &contents, &Together::alone())?;
        let seconds = began.elapsed().as_secs_f64();
        let bytes: u64 = Manifest::read(&saved)?.files.values().map(|entry| entry.bytes).sum();
        let figures = json!({
            "program": "hephaestus", "bytes": bytes, "seconds": seconds, "cpu_seconds": usage::cpu_seconds()? - cpu,
            "peak_mib": usage::peak_mib()? - before,
        });
        writeln!(std::io::stdout(), "{figures}")?;
    }
    Ok(())
}
