//! A few training steps of a standard model: random weights, packed rows of random tokens.

use std::time::Instant;

use tch::{Device, Kind, TchError};

use super::ceilings::Ceilings;
use super::{Finding, Verdict, wait};
use crate::corpus::batch::{Batch, IGNORE};
use crate::distributed::sharding::{Sharding, StepError};
use crate::ffi;
use crate::hf::names;
use crate::metrics::throughput::{flops_a_token, mfu};
use crate::model::config::{ModelConfig, Recompute};
use crate::model::decoder::Decoder;
use crate::model::parameters::Parameters;
use crate::optim::adamw::{AdamW, Settings};
use crate::plan::machine::FP8;
use crate::train::step::{Engine, Step};

/// Enough for CUDA graphs to be recorded.
const WARMUP: usize = 4;
const STEPS: usize = 5;
/// Largest relative difference of the last loss from that of bf16.
const TOLERANCE: f64 = 2e-2;

/// A way to compute them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Bf16,
    Fp8,
    Graphs,
}

/// What steps came to.
struct Steps {
    /// Tokens a second.
    rate: f64,
    first: f64,
    last: f64,
}

/// A finding a way: its tokens a second, and its loss, which must fall as that of bf16 does.
pub(super) fn findings(device: Device, ceilings: Option<&Ceilings>) -> impl Iterator<Item = Finding> {
    let (config, rows, length) = standard(device);
    let ceilings = ceilings.copied();
    let is_gpu = device.is_cuda();
    let mut expected = None;
    let ways = [Way::Bf16, Way::Fp8, Way::Graphs].into_iter().filter(move |way| match way {
        Way::Bf16 => true,
        Way::Fp8 => has_fp8(device),
        Way::Graphs => is_gpu,
    });
    ways.map(move |way| {
        let millions = names::total(&config) as f64 / 1e6;
        let name = match way {
            Way::Bf16 => "bf16",
            Way::Fp8 => "fp8",
            Way::Graphs => "bf16, CUDA graphs",
        };
        let what = format!("{millions:.1} M parameters, {name}");
        match train(&config, rows, length, device, way) {
            Ok(Steps { rate, first, last }) => {
                let mut seen = format!("{rate:.0} tokens/s, loss {first:.3} to {last:.3} in {} steps", WARMUP + STEPS);
                if let Some(ceilings) = ceilings {
                    let share = mfu(rate, flops_a_token(&config, length), ceilings.product);
                    seen += &format!(", {:.0} % of the product's rate", 100.0 * share);
                }
                let expected = *expected.get_or_insert(last);
                let agrees = (last - expected).abs() <= TOLERANCE * expected;
                let verdict = match (last < first, agrees) {
                    (true, true) => Verdict::Good,
                    (true, false) => Verdict::Bad(format!("another loss than in bf16, {expected:.3}")),
                    (false, _) => Verdict::Bad("the loss did not fall on rows that repeat".to_owned()),
                };
                Finding { what, seen, verdict }
            }
            Err(error) => Finding { what, seen: "failed".to_owned(), verdict: Verdict::Bad(error.to_string()) },
        }
    })
}

/// Whether products in FP8 are computed on this device: on a CPU they are emulated.
pub(super) fn has_fp8(device: Device) -> bool {
    match device {
        Device::Cuda(index) => ffi::cuda_device(index).is_some_and(|gpu| gpu.capability >= FP8),
        _ => true,
    }
}

/// The model, and the rows of a step: GPT-2's size on a GPU, a tiny one on the CPU.
fn standard(device: Device) -> (ModelConfig, usize, usize) {
    let (config, rows, length) = match device {
        Device::Cuda(_) => (ModelConfig::llama(50_304, 768, 2048, 12, 12), 16, 1024),
        _ => (ModelConfig::llama(1024, 128, 344, 2, 2), 2, 256),
    };
    (ModelConfig { tied_embeddings: true, ..config }, rows, length)
}

fn train(config: &ModelConfig, rows: usize, length: usize, device: Device, way: Way) -> Result<Steps, StepError> {
    let masters = Parameters::fresh(config, 0, Kind::Float, device)?;
    let reduced = masters.tensors().iter().map(|master| master.f_to_kind(Kind::BFloat16));
    let parameters = Parameters::new(masters.specs().to_vec(), reduced.collect::<Result<_, TchError>>()?)?;
    let optimizer = AdamW::new(&parameters, &masters, Settings::default())?;
    let decoder = Decoder::new(config, &parameters, Recompute::None)?.with_fp8(way == Way::Fp8);
    let sharding = Sharding::alone(config, &parameters);
    let engine = Engine::new(parameters, decoder, optimizer, sharding, 0.0);
    let mut engine = if way == Way::Graphs { engine.with_graphs() } else { engine };
    let batch = batch(config.vocab_size, rows, length);
    let trained = f64::from(batch.weights.iter().sum::<f32>());
    let mut step = || -> Result<_, StepError> {
        let step = engine.step(std::slice::from_ref(&batch), trained, 1e-3, 1, || false)?;
        Ok(step.ok_or_else(|| TchError::Torch("stopped".to_owned()))?)
    };
    let first = step()?;
    for _ in 1..WARMUP {
        step()?;
    }
    wait(device);
    let begin = Instant::now();
    let mut last = step()?;
    for _ in 1..STEPS {
        last = step()?;
    }
    wait(device);
    let took = begin.elapsed().as_secs_f64();
    let loss = |step: Step| Ok::<_, TchError>(step.by_source.f_double_value(&[0, 0])? / trained);
    Ok(Steps { rate: (STEPS * rows * length) as f64 / took, first: loss(first)?, last: loss(last)? })
}

/// Rows of documents of a few lengths, the same every time.
fn batch(vocabulary: usize, rows: usize, length: usize) -> Batch {
    let mut batch = Batch { rows, length, sources: vec![0; rows], ..Batch::default() };
    let mut lengths = [64, 17, 200, 96, 5].into_iter().cycle();
    let mut left = rows * length;
    while left > 0 {
        // A document ends where its row does.
        let room = (left - 1) % length + 1;
        let segment = lengths.next().map_or(room, |length: usize| length.min(room));
        for at in 0..segment {
            let token = |at: usize| ((at * 7919 + batch.segments.len() * 104_729) % vocabulary) as i64;
            let (target, weight) = if at + 1 < segment { (token(at + 1), 1.0) } else { (IGNORE, 0.0) };
            batch.tokens.push(token(at));
            batch.targets.push(target);
            batch.weights.push(weight);
            batch.positions.push(at as i64);
        }
        batch.segments.push(segment as i64);
        left -= segment;
    }
    batch
}
