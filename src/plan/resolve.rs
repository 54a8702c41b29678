//! Makes a plan, or says everything that stands against it at once, each by the place in the recipe that asks for it.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::machine::FP8;
use super::{
    Arithmetic, BatchPlan, CheckpointPlan, Compute, DevicePlan, LoggingPlan, Machine, Notes, Plan, Room,
    ValidationPlan, data, fit, model, ranks, stages,
};
use crate::distributed::join::{host, word};
use crate::figures::size;
use crate::recipe::problem::Problems;
use crate::recipe::quantity::Rows;
use crate::recipe::sections::{ActivationCheckpointing, DeviceKind, Precision};
use crate::recipe::{Loaded, Recipe};

/// Everything that stands against a plan.
pub type PlanError = Problems;

/// Resolves a recipe on a machine. Files are only looked at; nothing is written.
///
/// # Errors
/// Whatever the model, the tokenizer, the corpora, the output folder or the machine stand against, all at once.
pub fn resolve(loaded: &Loaded, machine: &Machine) -> Result<Plan, PlanError> {
    let recipe = &loaded.recipe;
    let mut findings = Findings::new(&loaded.positions);
    let device = device(recipe, machine, &mut findings);
    let output = output(recipe, &mut findings);
    let model = model::model(recipe, &mut findings);
    let vocabulary = model::vocabulary(recipe, model.as_ref(), &mut findings);
    let batch = batch(recipe);
    let distributed = ranks::distributed(recipe, machine, device, batch, &mut findings);
    let data = data::data(recipe, model.as_ref(), vocabulary.as_ref(), &mut findings);
    let staged = stages::stages(recipe, batch, data.as_ref(), &mut findings);
    let (Some(data), Some(staged), Some(model), Some(vocabulary)) = (data, staged, model, vocabulary) else {
        return Err(Problems::new(findings.problems));
    };
    if !findings.problems.is_empty() {
        return Err(Problems::new(findings.problems));
    }
    let (name, memory) = match device.compute {
        Compute::Cuda(at) => machine.cuda.get(at).map_or((String::new(), 0), |gpu| (gpu.name.clone(), gpu.memory)),
        Compute::Cpu => (format!("CPU, {} cores", machine.cores), machine.memory),
    };
    let gpu = if device.compute == Compute::Cpu { String::new() } else { name.clone() };
    let name = if memory > 0 { format!("{name}, {}", size(memory)) } else { name };
    let mut resolved = recipe.clone();
    resolved.run.output = Some(output.clone());
    resolved.tokenizer = Some(vocabulary.folder.clone());
    let plan = Plan {
        name: recipe.run.name.clone(),
        output,
        seed: recipe.run.seed,
        model,
        tokenizer: vocabulary.folder,
        data,
        batch,
        stages: staged.stages,
        optimizer: recipe.optimizer.clone(),
        checkpoint: CheckpointPlan {
            every: recipe.checkpoint.every,
            keep_last: recipe.checkpoint.keep_last as usize,
            keep_every: recipe.checkpoint.keep_every,
        },
        validation: ValidationPlan {
            every: Some(recipe.validation.every).filter(|every| *every > 0),
            rows: recipe.validation.sequences.0,
            at_start: recipe.validation.at_start,
        },
        logging: LoggingPlan { every: recipe.logging.every, tensorboard: recipe.logging.tensorboard },
        device,
        distributed,
        room: room(recipe, device.compute, memory, machine.ranks.local_world),
        resolved,
        resumed: None,
        notes: Notes {
            device: name,
            gpu,
            asked: staged.asked,
            capped: staged.capped,
            node: machine.node(),
            remarks: Vec::new(),
        },
    };
    let mut plan = fit::settle(plan, &mut findings);
    plan.notes.remarks = findings.remarks;
    if findings.problems.is_empty() { Ok(plan) } else { Err(Problems::new(findings.problems)) }
}

/// What the recipe leaves open. On a CPU half of the machine's memory is left to the system, other programs and the files that
/// are cached in it; its ranks share the other half.
fn room(recipe: &Recipe, compute: Compute, there: u64, ranks: usize) -> Room {
    let there = if compute == Compute::Cpu { there / 2 / (ranks as u64).max(1) } else { there };
    Room {
        rows: recipe.batch.micro_sequences == Rows::Auto,
        layers: recipe.model.activation_checkpointing == ActivationCheckpointing::Auto,
        memory: recipe.device.memory.map_or(there, |bytes| bytes.0),
    }
}

fn device(recipe: &Recipe, machine: &Machine, findings: &mut Findings) -> DevicePlan {
    let there = !machine.cuda.is_empty();
    if recipe.device.kind == DeviceKind::Cuda && !there {
        let message =
            "is cuda, and libtorch sees no CUDA device here: use auto or cpu, or a machine and a libtorch with CUDA";
        findings.complain("device.kind", message);
    }
    let compute = match recipe.device.kind {
        DeviceKind::Cpu => Compute::Cpu,
        DeviceKind::Auto if !there => Compute::Cpu,
        DeviceKind::Auto | DeviceKind::Cuda => Compute::Cuda(machine.ranks.local_rank),
    };
    let arithmetic = match (recipe.device.precision, compute) {
        (Precision::Bf16, _) | (Precision::Auto, Compute::Cuda(_)) => Arithmetic::Bf16,
        (Precision::Fp8, _) => Arithmetic::Fp8,
        (Precision::Fp32, _) | (Precision::Auto, Compute::Cpu) => Arithmetic::Fp32,
    };
    if arithmetic == Arithmetic::Fp8 {
        fp8(compute, machine, findings);
    }
    let graphs = recipe.device.cuda_graphs && compute != Compute::Cpu;
    if graphs && arithmetic == Arithmetic::Fp32 {
        let message = "is true with precision fp32, whose attention goes document by document and is never the same twice: \
                       use bf16 or fp8, or leave it out";
        findings.complain("device.cuda_graphs", message);
    }
    let ranks = machine.ranks.local_world;
    let share = (machine.shared && ranks > 1).then(|| (machine.cores / ranks).max(1));
    let threads = recipe.device.threads.map(|threads| threads as usize).or(share);
    DevicePlan { compute, arithmetic, graphs, threads }
}

/// What FP8 takes.
fn fp8(compute: Compute, machine: &Machine, findings: &mut Findings) {
    match compute {
        Compute::Cuda(at) => {
            if let Some(gpu) = machine.cuda.get(at).filter(|gpu| gpu.capability < FP8) {
                let (major, minor) = gpu.capability;
                let message = format!(
                    "is fp8, and {} has compute capability {major}.{minor}, which multiplies nothing in FP8: use bf16, or a \
                     GPU of 8.9 or newer (Ada, Hopper, Blackwell)",
                    gpu.name
                );
                findings.complain("device.precision", message);
            }
        }
        Compute::Cpu => findings.remarks.push("device.precision: FP8 is emulated on the CPU, and slow".to_owned()),
    }
}

/// The batch; that it divides is the recipe's own rule. A micro-batch of its own choice is chosen when all else is known.
fn batch(recipe: &Recipe) -> BatchPlan {
    let micro_rows = match recipe.batch.micro_sequences {
        Rows::Auto => 1,
        Rows::Count(rows) => rows.0,
    };
    BatchPlan { rows: recipe.rows_per_step(), micro_rows }
}

/// The output folder, if a file can be written there or in the nearest folder above that exists.
fn output(recipe: &Recipe, findings: &mut Findings) -> PathBuf {
    let (key, output) = match &recipe.run.output {
        Some(output) => ("run.output", output.clone()),
        None => ("run.name", Path::new("checkpoints").join(&recipe.run.name)),
    };
    let here = Path::new(".");
    let above = output.ancestors().find(|above| above.exists()).filter(|above| *above != Path::new("")).unwrap_or(here);
    // Only writing tells: permissions, read-only mounts and quotas all have a say.
    let probe = above.join(format!(".hephaestus-{}.tmp", word(&host())));
    let tried = fs_err::OpenOptions::new().write(true).create_new(true).open(&probe);
    if let Err(error) = tried.and_then(|_| fs_err::remove_file(&probe)) {
        let reason = if above.is_dir() { error.kind().to_string() } else { "it is a file".to_owned() };
        let place =
            if above == output { String::new() } else { format!("; the folder above it is {}", above.display()) };
        findings.complain(key, format!("{}: cannot be written to: {reason}{place}", output.display()));
    }
    output
}
