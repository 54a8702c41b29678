//! `hephaestus-train`: a recipe into a trained model.

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::bail;
use clap::Parser;
use hephaestus::distributed::World;
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::metrics::throughput;
use hephaestus::plan::gpus::Card;
use hephaestus::plan::{self, Assumed, Compute, Disk, Machine, Plan, Ranks};
use hephaestus::recipe::{Loaded, STANDARD_INPUT};
use hephaestus::train::profile::Steps;
use hephaestus::train::start::{self, Resume};
use hephaestus::train::stop::{INTERRUPTED, Stop};
use hephaestus::train::team::Team;
use hephaestus::train::{Options, Outcome};
use hephaestus::{ffi, recipe, trace, train};
use tch::Device;

/// Continue the pre-training of a Hugging Face model on a mixture of corpora, as a recipe says.
#[derive(Parser)]
#[command(name = "hephaestus-train", version = version(), max_term_width = 100)]
struct Cli {
    /// The recipe; - reads it from standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "print_schema")]
    recipe: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run that verifies (auto), from none (never), or from this one, once: the same
    /// command given again goes on from what was saved since.
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: Resume,
    /// Override a key of the recipe, such as data.sequence_length=4096; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the plan, and train nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: plan for so many ranks, instead of those that were started.
    #[arg(long, value_name = "RANKS", requires = "dry_run", value_parser = at_least_one, help_heading = PLANNING)]
    world: Option<usize>,
    /// With --dry-run: plan for machines with GPUs of this kind, such as h100-80g, instead of this machine.
    #[arg(long, value_name = "NAME", requires = "dry_run", value_parser = Card::named, help_heading = PLANNING)]
    gpu: Option<Card>,
    /// GPUs, or ranks, of one machine [default: the GPUs that there are, or 8 with --gpu].
    #[arg(long, value_name = "GPUS", requires = "dry_run", value_parser = at_least_one, help_heading = PLANNING)]
    node_gpus: Option<usize>,
    /// Share of the GPUs' peak that computing is assumed to reach [default: 0.4].
    #[arg(long, value_name = "SHARE", requires = "dry_run", value_parser = share, help_heading = PLANNING)]
    mfu: Option<f64>,
    /// Bandwidth from a GPU to others of its machine, each way [default: the GPU's data sheet].
    #[arg(long, value_name = "GB/s", requires = "dry_run", value_parser = rate, help_heading = PLANNING)]
    node_link: Option<f64>,
    /// Bandwidth from a GPU to other machines, each way: 400 Gb/s are 50 GB/s [default: what is usual with the GPU].
    #[arg(long, value_name = "GB/s", requires = "dry_run", value_parser = rate, help_heading = PLANNING)]
    network: Option<f64>,
    /// Stop after this step with a checkpoint, as Ctrl-C would.
    #[arg(long, value_name = "STEP")]
    stop_at: Option<u64>,
    /// Resume although this key of the recipe has changed in a way that is refused, such as run.seed; data.sources stands for
    /// all corpora. May be repeated.
    #[arg(long, value_name = "KEY")]
    accept: Vec<String>,
    /// Record these steps: a trace and a table of operations, in the run's folder.
    #[arg(long, value_name = "steps=A..B")]
    profile: Option<Steps>,
    /// Name every operation for Nsight, by NVTX ranges: nsys profile hephaestus-train --nvtx ...
    #[arg(long, conflicts_with = "profile")]
    nvtx: bool,
    /// Print the JSON Schema of recipes, for editors.
    #[arg(long)]
    print_schema: bool,
}

/// The heading of the options for machines that need not be there.
const PLANNING: &str = "Planning for other machines";

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| (1..=1 << 20).contains(number)).ok_or_else(|| "expected 1 or more".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or_else(|| "expected a number above 0, 1 at most, such as 0.4".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected GB/s, a number above 0".to_owned())
}

fn main() -> ExitCode {
    trace::start();
    match train(&Cli::parse()) {
        Ok(code) => code,
        // The reader of our output has seen enough: `hephaestus-train --print-schema | head`.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn train(cli: &Cli) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout();
    let Some(path) = cli.recipe.as_deref().filter(|_| !cli.print_schema) else {
        writeln!(out, "{:#}", recipe::schema())?;
        return Ok(ExitCode::SUCCESS);
    };
    let launch = Launch::from_environment()?;
    if launch.is_some() && path == Path::new(STANDARD_INPUT) {
        bail!("--recipe -: several ranks cannot read one standard input: give a file that each of them can read");
    }
    if cli.dry_run {
        let plan = plan::resolve(&recipe::load(path, &cli.set)?, &machine(launch.as_ref(), cli))?;
        let plan = start::looked_ahead(plan, &cli.resume, &cli.accept)?;
        let shown = match assumed(&plan, cli) {
            Some(assumed) => plan::show_expecting(&plan, &assumed),
            None => plan::show(&plan),
        };
        write!(out, "{shown}")?;
        // Other machines have other disks.
        if cli.world.is_none() && cli.gpu.is_none() {
            let disk = Disk::of(&plan);
            write!(out, "\n{}", disk.show(&plan, plan::show::NAMES))?;
            disk.check(&plan)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything that starts a thread.
    let stop = Stop::on_signals()?;
    let recipe = recipe::load(path, &cli.set);
    let Some(launch) = launch else {
        return told(&run(cli, recipe?, &stop, &Team::alone())?, &stop);
    };
    // What is wrong with a recipe all ranks see: they meet first, so that one of them says it.
    let distributed = recipe.as_ref().map(|loaded| loaded.recipe.distributed.clone()).unwrap_or_default();
    let world = World::join(launch, Device::Cpu, distributed.timeout.0)?;
    let team = Team::of(&world, &stop)?;
    let outcome = team.judged(recipe.map_err(Into::into).and_then(|recipe| run(cli, recipe, &stop, &team)))?;
    let first = team.rank() == 0;
    let groups = team.leave();
    world.close(groups)?;
    if first { told(&outcome, &stop) } else { Ok(exit_code(&outcome, &stop)) }
}

/// Plans, and carries the plan out.
fn run(cli: &Cli, recipe: Loaded, stop: &Stop, team: &Team<'_>) -> anyhow::Result<Outcome> {
    let launch = team.world().map(World::launch);
    let plan = plan::resolve(&recipe, &team.alike(machine(launch, cli))?)?;
    let options = Options {
        resume: cli.resume.clone(),
        stop_at: cli.stop_at,
        accept: cli.accept.clone(),
        profile: cli.profile.clone(),
    };
    let _ranges = cli.nvtx.then(ffi::Ranges::begin).transpose()?;
    train::run(&plan, &options, stop, team)
}

fn told(outcome: &Outcome, stop: &Stop) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout();
    match outcome {
        Outcome::Finished(checkpoint) => writeln!(out, "finished: {}", checkpoint.display())?,
        Outcome::Stopped(checkpoint) => {
            writeln!(out, "stopped: {}; the same command goes on from there", checkpoint.display())?;
        }
    }
    Ok(exit_code(outcome, stop))
}

fn exit_code(outcome: &Outcome, stop: &Stop) -> ExitCode {
    match outcome {
        Outcome::Stopped(_) if stop.asked() => ExitCode::from(INTERRUPTED),
        Outcome::Finished(_) | Outcome::Stopped(_) => ExitCode::SUCCESS,
    }
}

/// What the plan has to fit: this machine and the ranks that were started, or what the options name instead.
fn machine(launch: Option<&Launch>, cli: &Cli) -> Machine {
    let started = launch.map(Launch::ranks).unwrap_or_default();
    let cuda: Vec<_> = match cli.gpu {
        Some(card) => vec![card.gpu(); cli.node_gpus.unwrap_or(NODE)],
        None if tch::Cuda::is_available() => (0..).map_while(ffi::cuda_device).collect(),
        None => Vec::new(),
    };
    let ranks = match (cli.world, cli.gpu) {
        (None, None) => started,
        (world, _) => {
            let world = world.unwrap_or(started.world);
            Ranks::of(world, cli.node_gpus.unwrap_or(if cuda.is_empty() { world } else { cuda.len() }))
        }
    };
    Machine::here(cuda, ranks)
}

/// GPUs of a machine where nothing else is said: those of NVIDIA's own.
const NODE: usize = 8;

/// What the time of a plan is reckoned by; `None` for a device whose peak is not known.
fn assumed(plan: &Plan, cli: &Cli) -> Option<Assumed> {
    if plan.device.compute == Compute::Cpu {
        return None;
    }
    let card = Card::of(&plan.notes.gpu);
    let rate = |given: Option<f64>, usual: fn(&Card) -> f64| given.or(card.as_ref().map(usual)).map(|rate| rate * 1e9);
    Some(Assumed {
        peak: throughput::peak(&plan.notes.gpu, plan.device.arithmetic)?,
        mfu: cli.mfu.unwrap_or(0.4),
        node_gpus: cli.node_gpus.unwrap_or(plan.notes.node),
        node_link: rate(cli.node_link, |card| card.node_link)?,
        network: rate(cli.network, |card| card.network)?,
    })
}

/// This program's version, and those of what it runs on.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let versions = ffi::versions();
        let cuda = match versions.cuda {
            Some((major, minor)) if ffi::has_kernels() => format!("CUDA {major}.{minor}"),
            Some((major, minor)) => format!("CUDA {major}.{minor}, built without nvcc and so without kernels"),
            None => "no CUDA".to_owned(),
        };
        let nccl = match ffi::nccl_version() {
            Some((major, minor, patch)) if ffi::has_nccl() => format!("NCCL {major}.{minor}.{patch}"),
            Some((major, minor, patch)) => {
                format!("NCCL {major}.{minor}.{patch}, built without nccl.h and so without it")
            }
            None => "no NCCL".to_owned(),
        };
        format!("{} (libtorch {}, {cuda}, {nccl})", env!("CARGO_PKG_VERSION"), versions.libtorch)
    })
}
