//! Training steps of a recipe, as `hephaestus-train` makes them but without its checkpoints: their time, losses and memory
//! as one JSON line.
//!
//! ```text
//! throughput RECIPE [--set KEY=VALUE]... --steps N [--warmup N] [--rounds N] [--rows FILE] [--weights FOLDER] [--twins]
//!     [--profile FOLDER]
//! ```
//!
//! `throughput.sh` and `gpu.sh` run it against its peers, for which it writes the very rows and first weights. Without
//! arguments, as under `cargo test --all-targets`, it does nothing.

mod peers;
mod usage;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use hephaestus::corpus::loader::{Loader, Position, UNIT};
use hephaestus::metrics::throughput::flops_a_token;
use hephaestus::plan::{self, Compute, Machine, Plan, Ranks, memory};
use hephaestus::recipe::Loaded;
use hephaestus::train::data::Data;
use hephaestus::train::profile::Profile;
use hephaestus::train::refusal;
use hephaestus::train::start;
use hephaestus::train::step::Engine;
use hephaestus::{ffi, hf, recipe, trace};
use serde_json::{Value, json};
use tch::{Cuda, Device, Tensor};

/// Steps that a profile records, after those that are measured.
const RECORDED: usize = 2;
/// What allocator and libraries take of a GPU besides what a plan counts.
const BESIDES: u64 = 2 << 30;

/// Measure training steps of a recipe.
#[derive(Parser)]
#[command(name = "throughput")]
struct Cli {
    /// The recipe; its stages have as many steps as are asked for.
    recipe: PathBuf,
    /// Override a key of the recipe; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Steps before those that are measured.
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Times that are taken, the device waited for at the end of each.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Steps of each.
    #[arg(long)]
    steps: usize,
    /// Write the rows and learning rate of every step there.
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Write the first weights there, in fp32, as a Hugging Face folder.
    #[arg(long, value_name = "FOLDER")]
    weights: Option<PathBuf>,
    /// Compute with libtorch's plain operations instead of fused functions, the optimizer excepted.
    #[arg(long)]
    twins: bool,
    /// Record two steps more, into this folder.
    #[arg(long, value_name = "FOLDER")]
    profile: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    if arguments.len() < 2 {
        return ExitCode::SUCCESS;
    }
    trace::start();
    let cli = Cli::parse_from(arguments);
    let told = refusal::caught(|| run(&cli)).and_then(|found| Ok(writeln!(io::stdout(), "{found}")?));
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Value> {
    ffi::keep_freed_memory();
    if cli.twins {
        ffi::fuse_nothing();
    }
    let loaded = recipe::load(&cli.recipe, &cli.set)?;
    let cuda = if Cuda::is_available() { (0..).map_while(ffi::cuda_device).collect() } else { Vec::new() };
    let plan = plan::resolve(&loaded, &Machine::here(cuda, Ranks::default()))?;
    check_room(&plan)?;
    if let Some(threads) = plan.device.threads {
        tch::set_num_threads(i32::try_from(threads).context("device.threads")?);
    }
    let data = Data::open(&plan)?;
    let engine = start::engine(&plan, None, None)?;
    if let Some(folder) = &cli.weights {
        save_weights(folder, &plan, &engine)?;
    }
    let rows = cli.rows.is_some().then(Vec::new);
    let loader = data.loader(&plan, 0, Position::start(plan.data.sources.len()))?;
    let mut steps = Steps { plan: &plan, engine, loader, made: 0, losses: Vec::new(), seen: [0.0; 2], rows };
    let measured = steps.measure(cli.warmup, cli.rounds, cli.steps)?;
    let profile = cli.profile.as_deref().map(|folder| steps.record(folder)).transpose()?;
    if let (Some(file), Some(rows)) = (&cli.rows, &steps.rows) {
        peers::write_rows(file, rows)?;
    }
    let told = json!({ "losses": steps.losses, "mean_segment": steps.seen[0] / steps.seen[1], "profile": profile });
    Ok(merged(described(&loaded, &plan, cli.twins)?, [measured, told]))
}

/// Refuses before anything is drawn what a GPU would refuse after minutes.
fn check_room(plan: &Plan) -> Result<()> {
    let Compute::Cuda(index) = plan.device.compute else { return Ok(()) };
    let Some(there) = ffi::cuda_device(index).map(|gpu| gpu.memory) else { return Ok(()) };
    let needed = memory::estimate(plan).total() + BESIDES;
    if needed > there {
        let [needed, there] = [needed, there].map(|bytes| bytes as f64 / 1e9);
        bail!("does not fit: an estimated {needed:.1} GB of {there:.1} GB");
    }
    Ok(())
}

/// What is measured.
fn described(loaded: &Loaded, plan: &Plan, twins: bool) -> Result<Value> {
    Ok(json!({
        "program": if twins { "hephaestus, twins" } else { "hephaestus" },
        "model": plan.name,
        "device": plan.notes.device,
        "precision": format!("{:?}", plan.device.arithmetic).to_lowercase(),
        "graphs": plan.device.graphs,
        "checkpointing": loaded.recipe.model.activation_checkpointing,
        "layers": plan.model.config.layers,
        "parameters": hf::names::total(&plan.model.config),
        "length": plan.data.sequence_length,
        "tokens": plan.tokens_a_step(),
        "flops_a_token": flops_a_token(&plan.model.config, plan.data.sequence_length),
        // Of which for queries times keys and scores times values.
        "flops_of_attention": flops_a_token(&plan.model.config, plan.data.sequence_length)
            - flops_a_token(&plan.model.config, 0),
        "peak_flops": start::peak_flops(plan),
        "estimated_mib": memory::estimate(plan).total() >> 20,
    }))
}

fn merged(mut into: Value, others: [Value; 2]) -> Value {
    if let Some(into) = into.as_object_mut() {
        into.extend(others.into_iter().filter_map(|other| other.as_object().cloned()).flatten());
    }
    into
}

/// The masters where the weights are rounded ones.
fn save_weights(folder: &Path, plan: &Plan, engine: &Engine) -> Result<()> {
    let specs = engine.parameters.specs();
    let states = engine.optimizer.slices(specs);
    let masters = states.iter().filter_map(|state| Some((state.name.strip_suffix(".master")?, &state.tensor)));
    let masters: Vec<(&str, &Tensor)> = masters.collect();
    let weights = if masters.is_empty() { engine.parameters.iter().collect() } else { masters };
    let kind = tch::Kind::Float;
    Ok(hf::export::save(
        folder,
        &plan.model.config,
        &weights,
        kind,
        &hf::companions::Carried::default(),
        hf::export::DEFAULT_SHARD,
    )?)
}

/// A run's steps, one after another.
struct Steps<'a> {
    plan: &'a Plan,
    engine: Engine,
    loader: Loader,
    made: u64,
    losses: Vec<f64>,
    /// Sums over the tokens so far: of their segments' lengths, and of one each.
    seen: [f64; 2],
    rows: Option<Vec<peers::Rows>>,
}

impl Steps<'_> {
    /// Seconds a step, of the process's CPU time too, of each of `rounds` of `steps`; and the most memory meanwhile.
    fn measure(&mut self, warmup: usize, rounds: usize, steps: usize) -> Result<Value> {
        self.make(warmup)?;
        usage::forget_peak()?;
        let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (begin, spent) = (Instant::now(), usage::cpu_seconds()?);
            self.make(steps)?;
            seconds.push(begin.elapsed().as_secs_f64() / steps as f64);
            cpu.push((usage::cpu_seconds()? - spent) / steps as f64);
        }
        let peak = match start::peak_memory(self.plan) {
            Some(bytes) => bytes as f64 / f64::from(1 << 20),
            None => usage::peak_mib()?,
        };
        Ok(json!({ "seconds": seconds, "cpu": cpu, "peak_mib": peak }))
    }

    /// Records some steps more, and returns where their time went.
    fn record(&mut self, folder: &Path) -> Result<Option<String>> {
        fs_err::create_dir_all(folder)?;
        let (first, last) = (self.made + 1, self.made + RECORDED as u64);
        let asked = format!("steps={first}..{last}").parse().map_err(anyhow::Error::msg)?;
        let mut profile = Profile::new(Some(&asked), folder, self.plan.device.compute != Compute::Cpu);
        let mut line = None;
        for step in first..=last {
            profile.before(step)?;
            self.make(1)?;
            line = profile.after(step)?;
        }
        Ok(line)
    }

    /// Makes steps and waits for the device once, when all are on their way.
    fn make(&mut self, steps: usize) -> Result<()> {
        let mut found = Vec::with_capacity(steps);
        for _ in 0..steps {
            let Some(batch) = self.loader.next().transpose()? else {
                bail!("the recipe ends after {} steps: give its stage more", self.made);
            };
            for length in batch.micro.iter().flat_map(|micro| &micro.segments).map(|length| *length as f64) {
                self.seen = [self.seen[0] + length * length, self.seen[1] + length];
            }
            let rate = self.plan.stages[batch.position.stage].schedule.rate(batch.position.stage_step - 1);
            let sources = self.plan.data.sources.len();
            let step = self.engine.step(&batch.micro, batch.weight as f64 / UNIT, rate, sources, || false)?;
            found.push((step.context("a step that nobody stopped")?.by_source, batch.weight as f64 / UNIT));
            if let Some(rows) = &mut self.rows {
                rows.push(peers::Rows::new(&batch.micro, rate)?);
            }
            self.loader.recycle(batch);
            self.made += 1;
        }
        if let Device::Cuda(index) = self.engine.parameters.device() {
            Cuda::synchronize(index as i64);
        }
        for (by_source, trained) in found {
            let sum = by_source.f_select(1, 0)?.f_sum(tch::Kind::Double)?.f_double_value(&[])?;
            self.losses.push(sum / trained);
        }
        Ok(())
    }
}
