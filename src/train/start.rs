//! The three ways a run begins: with weights alone, with weights and moments, or where it stopped.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use tch::{Device, Kind, Tensor};

use super::step::Engine;
use crate::checkpoint::back::{self, WENT_BACK};
use crate::checkpoint::{self, CheckpointError, MODEL, Together, find};
use crate::distributed::World;
use crate::distributed::mesh::Mesh;
use crate::distributed::sharding::Sharding;
use crate::distributed::sharding::link::Link;
use crate::ffi;
use crate::hf;
use crate::hf::names;
use crate::metrics::throughput;
use crate::model::attention;
use crate::model::config::Recompute;
use crate::model::decoder::Decoder;
use crate::model::parameters::Parameters;
use crate::optim::adamw::{AdamW, Settings};
use crate::plan::{self, Arithmetic, Compute, DistributedPlan, Plan, Saved, Weights, memory};
use crate::progress;
use crate::recipe::sections::{Moments, Reduction};

/// Where a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The newest checkpoint in its own folder that verifies, if there is one.
    Auto,
    /// None: it begins, and its folder must hold no checkpoint.
    Never,
    /// This checkpoint, or the newest of this run; given again, the newest that the run has saved since.
    From(PathBuf),
}

impl FromStr for Resume {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            path => Self::From(path.into()),
        })
    }
}

/// The checkpoint that `resume` stands for, and what is to be told of the choice. All ranks give the same.
///
/// # Errors
/// A checkpoint that was named and is not one, checkpoints that a run told to begin anew would bury.
pub fn choose(
    resume: &Resume,
    output: &Path,
    together: &Together<'_>,
) -> anyhow::Result<(Option<PathBuf>, Vec<String>)> {
    let (candidates, mut notes) = together.first("choose a checkpoint", || candidates(resume, output))?;
    let _looking = (together.rank() == 0).then(|| progress::spinner("verifying checkpoints"));
    let (found, skipped) = find::verified(candidates, together)?;
    let lines = skipped.iter().map(|one| format!("passed over {}: {}", one.folder.display(), one.reason));
    let lines: Vec<_> = lines.collect();
    if found.is_none() && !lines.is_empty() {
        bail!(
            "no checkpoint to go on from can be believed, and beginning anew would bury them:\n  {}\nname another by \
             --resume, remove them, or name another run.output",
            lines.join("\n  ")
        );
    }
    notes.extend(lines);
    Ok((found, notes))
}

/// The checkpoints that `resume` may stand for, the best first, and what is to be told of them.
fn candidates(resume: &Resume, output: &Path) -> anyhow::Result<(Vec<PathBuf>, Vec<String>)> {
    let path = match resume {
        Resume::From(path) => path,
        Resume::Auto => return Ok((find::candidates(output)?, Vec::new())),
        Resume::Never => match find::all(output)?.last() {
            None => return Ok((Vec::new(), Vec::new())),
            Some((_, folder)) => bail!(
                "{}: a run has left checkpoints here, and --resume never begins another: remove them, name another \
                 run.output, or go on with --resume auto",
                folder.display()
            ),
        },
    };
    // What a run has saved since it went back there is newer than that.
    let since: Vec<_> = match back::went_back(output, path)? {
        Some(step) => find::all(output)?.into_iter().filter(|(own, _)| *own > step).collect(),
        None => Vec::new(),
    };
    let mut candidates: Vec<_> = since.into_iter().rev().map(|(_, folder)| folder).collect();
    let mut notes = Vec::new();
    if !candidates.is_empty() {
        notes.push(format!(
            "the run went back to {} before, and goes on as by --resume auto: to go back there once more remove {}",
            path.display(),
            output.join(WENT_BACK).display()
        ));
    }
    candidates.extend(find::candidates(path)?);
    if candidates.is_empty() {
        return Err(CheckpointError::NotOne(path.clone()).into());
    }
    Ok((candidates, notes))
}

/// Has a run go on from `checkpoint`, after `step` steps, for good: what it has saved beyond that is set aside. Returns what is
/// to be told of it.
///
/// # Errors
/// A disk that refuses.
pub fn settle(resume: &Resume, output: &Path, checkpoint: &Path, step: u64) -> anyhow::Result<Option<String>> {
    let left = back::set_aside(output, checkpoint, step)?;
    // Not before: else a run killed in between would go on from what it was to leave.
    if let Resume::From(path) = resume {
        back::record(output, path, step)?;
    }
    let left: Vec<_> = left.iter().map(|folder| folder.display().to_string()).collect();
    let told = || format!("set aside, as the run goes on from step {step}, and may be removed: {}", left.join(", "));
    Ok((!left.is_empty()).then(told))
}

/// The device that a plan computes on.
#[must_use]
pub fn device(plan: &Plan) -> Device {
    match plan.device.compute {
        Compute::Cpu => Device::Cpu,
        Compute::Cuda(index) => Device::Cuda(index),
    }
}

/// Peak FLOP/s of the device that a plan computes on, where it is known.
#[must_use]
pub fn peak_flops(plan: &Plan) -> Option<f64> {
    let Compute::Cuda(index) = plan.device.compute else { return None };
    throughput::peak(&ffi::cuda_device(index)?.name, plan.device.arithmetic)
}

/// The most bytes that the device of a plan has had in use; `None` for the CPU.
#[must_use]
pub fn peak_memory(plan: &Plan) -> Option<u64> {
    let Compute::Cuda(index) = plan.device.compute else { return None };
    Some(ffi::cuda_peak_memory(index))
}

/// The model and optimizer of `plan`, with the contents of `checkpoint` where there is one.
///
/// # Errors
/// Weights that cannot be read or do not fit, more memory than there is.
pub fn engine(plan: &Plan, checkpoint: Option<&Path>, world: Option<&World>) -> anyhow::Result<Engine> {
    let device = device(plan);
    if plan.device.arithmetic == Arithmetic::Fp8 && device.is_cuda() && !ffi::has_kernels() {
        bail!(
            "device.precision is fp8, and this program was built without kernels for GPUs: build it where nvcc is (CUDA_HOME)"
        );
    }
    let kind = match plan.device.arithmetic {
        Arithmetic::Bf16 | Arithmetic::Fp8 => Kind::BFloat16,
        Arithmetic::Fp32 => Kind::Float,
    };
    let config = &plan.model.config;
    let moments = match (checkpoint, &plan.model.weights) {
        (Some(folder), _) => Some(folder),
        (None, Weights::WithOptimizer(folder)) => Some(folder.as_path()),
        (None, _) => None,
    };
    let settings = Settings {
        beta1: plan.optimizer.beta1,
        beta2: plan.optimizer.beta2,
        eps: plan.optimizer.eps,
        weight_decay: plan.optimizer.weight_decay,
        moments: match plan.optimizer.moments {
            Moments::Fp32 => Kind::Float,
            Moments::Bf16 => Kind::BFloat16,
        },
        clip_norm: (plan.optimizer.clip_norm > 0.0).then_some(plan.optimizer.clip_norm),
    };
    let (mut sharding, parameters) = sharding(plan, world, kind)?;
    let mut optimizer = AdamW::over(sharding.held()?, parameters.specs(), settings, device)?;
    match (moments, &plan.model.weights) {
        (Some(folder), _) => fill(&optimizer, &checkpoint::load::weights(folder, config)?)?,
        (None, Weights::Folder(folder) | Weights::WithOptimizer(folder)) => {
            fill(&optimizer, &hf::import::Weights::open(folder, config)?)?;
        }
        (None, Weights::Fresh) => Parameters::draw(config, plan.seed, |at, drawn| optimizer.set_master(at, drawn))?,
    }
    optimizer.round_masters()?;
    if let Some(folder) = moments {
        checkpoint::load::optimizer(folder, &parameters, &mut optimizer)
            .with_context(|| format!("{}: the optimizer's state does not fit this model", folder.display()))?;
    }
    sharding.updated()?;
    let batched = attention::is_batched_faster(config, device, plan.data.sequence_length as i64)?;
    let decoder = Decoder::new(config, &parameters, Recompute::None)?
        .with_recompute(&plan.model.recompute)
        .with_loss_rows(memory::loss_rows(plan))
        .with_attention(batched)
        .with_fp8(plan.device.arithmetic == Arithmetic::Fp8);
    let engine = Engine::new(parameters, decoder, optimizer, sharding, plan.optimizer.z_loss);
    Ok(if plan.device.graphs { engine.with_graphs() } else { engine })
}

/// Fills masters from weights, of which only what this rank holds is read.
fn fill(optimizer: &AdamW, weights: &hf::import::Weights) -> anyhow::Result<()> {
    for (parameter, from, master) in optimizer.masters() {
        weights.fill_finite(&weights.specs()[parameter].name, from, master)?;
    }
    Ok(())
}

/// What a rank holds of a model, with its parameters, zeros as yet.
fn sharding(plan: &Plan, world: Option<&World>, kind: Kind) -> anyhow::Result<(Sharding, Parameters)> {
    let (config, device) = (&plan.model.config, device(plan));
    let Some(world) = world else {
        let specs = names::parameters(config);
        let zeros = specs.iter().map(|spec| Tensor::f_zeros(&spec.shape, (kind, device)));
        let parameters = Parameters::new(specs.clone(), zeros.collect::<Result<_, _>>()?)?;
        return Ok((Sharding::alone(config, &parameters), parameters));
    };
    let DistributedPlan { world: ranks, shard, fully, reduce, .. } = plan.distributed;
    let mesh = Mesh::new(ranks, shard).with_context(|| format!("{ranks} ranks in shards of {shard}"))?;
    let reduce = match reduce {
        Reduction::Fp32 => Kind::Float,
        Reduction::Bf16 => Kind::BFloat16,
    };
    Ok(Sharding::zeros(config, Link::open(world, mesh, device)?, fully, reduce, kind, device)?)
}

/// Returns what is left of `plan` from `checkpoint` on.
///
/// # Errors
/// Another model, a checkpoint that cannot be read, or a recipe that asks for another run; keys in `accept` may differ.
pub fn resumed(plan: &Plan, checkpoint: &Path, accept: &[String]) -> anyhow::Result<Plan> {
    let stored = hf::config::read(&checkpoint.join(MODEL))?;
    let differing = hf::config::differing(&stored, &plan.model.config);
    if !differing.is_empty() {
        bail!(
            "{}: a checkpoint of another model than the recipe's, by config.json of model.from or model.config: {}; put that \
             back, or give the new run another run.output",
            checkpoint.display(),
            differing.join(", ")
        );
    }
    let saved = Saved::read(checkpoint)?;
    Ok(plan::resume(plan.clone(), &saved, accept)?)
}

/// The plan from the checkpoint that a run would resume from, if there is one; it is looked at, not verified.
///
/// # Errors
/// As [`choose`] and [`resumed`].
pub fn looked_ahead(plan: Plan, resume: &Resume, accept: &[String]) -> anyhow::Result<Plan> {
    let (candidates, _) = candidates(resume, &plan.output)?;
    match candidates.into_iter().find(|folder| find::is_complete(folder)) {
        Some(folder) => resumed(&plan, &folder, accept),
        None => Ok(plan),
    }
}
