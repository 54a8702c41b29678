//! `hephaestus-doctor`: what a machine can do.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use hephaestus::train::refusal;
use hephaestus::{doctor, trace};
use tch::{Cuda, Device};

/// Check a machine: its libraries and devices, every fused function against its definition and against the speed of memory,
/// and a few training steps. Exit code 1 if training here would fail or compute something else.
#[derive(Parser)]
#[command(name = "hephaestus-doctor", version, max_term_width = 100)]
struct Cli {
    /// Where to compute.
    #[arg(long, value_enum, default_value = "auto")]
    device: Choice,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// The first GPU where there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU.
    Cuda,
}

fn main() -> ExitCode {
    trace::start();
    let device = match Cli::parse().device {
        Choice::Cpu => Device::Cpu,
        Choice::Auto => Device::cuda_if_available(),
        Choice::Cuda if Cuda::is_available() => Device::Cuda(0),
        Choice::Cuda => {
            eprintln!("error: libtorch sees no GPU: is a driver installed, and does CUDA_VISIBLE_DEVICES name one?");
            return ExitCode::FAILURE;
        }
    };
    match refusal::caught(|| Ok(doctor::examine(device, &mut io::stdout())?)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(bad) => {
            eprintln!("{bad} findings are bad");
            ExitCode::FAILURE
        }
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
