//! `hephaestus-train`: a recipe into a trained model.

use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use hephaestus::distributed::World;
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::plan::{self, Machine};
use hephaestus::train::profile::Steps;
use hephaestus::train::start::Resume;
use hephaestus::train::stop::{INTERRUPTED, Stop};
use hephaestus::train::{Options, Outcome};
use hephaestus::{ffi, recipe, trace, train};
use tch::Device;

/// Continue the pre-training of a Hugging Face model on a mixture of corpora, as a recipe says.
#[derive(Parser)]
#[command(name = "hephaestus-train", version = version(), max_term_width = 100)]
struct Cli {
    /// The recipe.
    #[arg(long, value_name = "FILE", required_unless_present = "print_schema")]
    recipe: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run that verifies (auto), from none (never), or from this one.
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: Resume,
    /// Override a key of the recipe, such as data.sequence_length=4096; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the plan, and train nothing.
    #[arg(long)]
    dry_run: bool,
    /// Stop after this step with a checkpoint, as Ctrl-C would.
    #[arg(long, value_name = "STEP")]
    stop_at: Option<u64>,
    /// Go on with corpora that have changed since the run began.
    #[arg(long)]
    accept_changed_data: bool,
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
    let recipe = recipe::load(path, &cli.set)?;
    let launch = Launch::from_environment()?;
    let plan = plan::resolve(&recipe, &machine(launch.as_ref()))?;
    if cli.dry_run {
        write!(out, "{}", plan::show(&plan))?;
        return Ok(ExitCode::SUCCESS);
    }
    let stop = Stop::on_signals()?;
    let timeout = plan.distributed.timeout;
    let world = launch.map(|launch| World::join(launch, Device::Cpu, timeout)).transpose()?;
    let options = Options {
        resume: cli.resume.clone(),
        stop_at: cli.stop_at,
        accept_changed_data: cli.accept_changed_data,
        profile: cli.profile.clone(),
    };
    let _ranges = cli.nvtx.then(ffi::Ranges::begin).transpose()?;
    match train::run(&plan, &options, &stop, world.as_ref())? {
        Outcome::Finished(checkpoint) => {
            writeln!(out, "finished: {}", checkpoint.display())?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped(checkpoint) => {
            writeln!(out, "stopped: {}; the same command goes on from there", checkpoint.display())?;
            Ok(if stop.asked() { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
        }
    }
}

/// What the plan has to fit.
fn machine(launch: Option<&Launch>) -> Machine {
    let cuda = if tch::Cuda::is_available() { (0..).map_while(ffi::cuda_device).collect() } else { Vec::new() };
    Machine::here(cuda, launch.map(Launch::ranks).unwrap_or_default())
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
        format!("{} (libtorch {}, {cuda})", env!("CARGO_PKG_VERSION"), versions.libtorch)
    })
}
