//! The planner's estimate against the bytes that libtorch's allocator counts.

use std::fmt::Write as _;

use hephaestus::corpus::batch::Batch;
use hephaestus::distributed::sharding::Sharding;
use hephaestus::ffi::CountedMemory;
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::loss::rows_at_once;
use hephaestus::model::parameters::Parameters;
use hephaestus::optim::adamw::{AdamW, Settings};
use hephaestus::plan::memory::Load;
use hephaestus::plan::{Arithmetic, Compute, DistributedPlan};
use hephaestus::recipe::sections::Moments;
use hephaestus::train::step::Engine;
use tch::{Device, Kind, Tensor};

use Recompute::{Full, None as Nothing, Selective};

/// A model of so many layers of width 128.
pub(crate) fn config(layers: usize, vocab_size: usize) -> ModelConfig {
    ModelConfig::llama(vocab_size, 128, 352, layers, 8)
}

/// Rows of a few documents each.
pub(crate) fn batch(config: &ModelConfig, rows: usize, length: usize) -> Batch {
    let tokens: Vec<i64> = (0..rows * length).map(|at| (at * 7919 % config.vocab_size) as i64).collect();
    let documents = [length / 4, length - length / 4];
    Batch {
        rows,
        length,
        targets: tokens.iter().map(|token| (token + 1) % config.vocab_size as i64).collect(),
        weights: vec![1.0; tokens.len()],
        positions: (0..rows).flat_map(|_| documents.iter().flat_map(|tokens| 0..*tokens as i64)).collect(),
        segments: (0..rows).flat_map(|_| documents.map(|tokens| tokens as i64)).collect(),
        sources: vec![0; rows],
        tokens,
    }
}

/// A step whose memory is measured.
struct Case<'a> {
    config: &'a ModelConfig,
    arithmetic: Arithmetic,
    /// Rows of a micro-batch, and how many of them.
    batch: (usize, usize),
    recompute: &'a [Recompute],
}

const LENGTH: usize = 256;

impl Case<'_> {
    fn estimate(&self) -> u64 {
        let Case { config, arithmetic, batch: (rows, micro), recompute } = *self;
        let tokens = (rows * LENGTH) as u64;
        Load {
            config,
            arithmetic,
            compute: Compute::Cpu,
            moments: Moments::Fp32,
            tokens,
            several: micro > 1,
            graphs: false,
            recompute,
            loss_rows: rows_at_once(None, config.vocab_size as u64, 4),
            distributed: DistributedPlan::ALONE,
        }
        .memory()
        .total()
    }

    /// The most bytes of a step; of the second one, where the first leaves something behind.
    fn measured(&self) -> u64 {
        let Case { config, arithmetic, batch: (rows, micro), recompute } = *self;
        let mut memory = CountedMemory::begin().unwrap();
        let kind = if arithmetic == Arithmetic::Fp32 { Kind::Float } else { Kind::BFloat16 };
        let mut engine = engine(config, kind, Device::Cpu, recompute);
        engine.decoder.set_fp8(arithmetic == Arithmetic::Fp8);
        let micro = vec![batch(config, rows, LENGTH); micro];
        for _ in 0..micro.len().min(2) {
            memory.most();
            engine.step(&micro, (rows * LENGTH * micro.len()) as f64, 1e-3, 1, || false).unwrap();
        }
        memory.most()
    }
}

/// A fresh model with its optimizer.
pub(crate) fn engine(config: &ModelConfig, kind: Kind, device: Device, recompute: &[Recompute]) -> Engine {
    let masters = Parameters::fresh(config, 1, Kind::Float, device).unwrap();
    let reduced = masters.tensors().iter().map(|master| master.to_kind(kind)).collect();
    let parameters = Parameters::new(masters.specs().to_vec(), reduced).unwrap();
    let optimizer = AdamW::new(&parameters, &masters, Settings::default()).unwrap();
    let decoder = Decoder::new(config, &parameters, Nothing).unwrap().with_recompute(recompute);
    let sharding = Sharding::alone(config, &parameters);
    Engine::new(parameters, decoder, optimizer, sharding, 0.0)
}

#[test]
fn the_estimate_is_within_a_tenth_of_the_bytes_that_are_there() {
    let plain = || config(4, 2048);
    let models = [
        ("grouped heads", ModelConfig { kv_heads: 2, ..plain() }),
        ("qk-norm, biases", ModelConfig { qk_norm: true, qkv_bias: true, kv_heads: 4, ..plain() }),
        ("tied, deep", ModelConfig { tied_embeddings: true, ..config(8, 1024) }),
        ("logits in two chunks", ModelConfig { hidden_size: 64, head_dim: 8, ..config(2, 40_000) }),
    ];
    let layers: [(&str, [Recompute; 8]); 4] = [
        ("nothing", [Nothing; 8]),
        ("selectively", [Selective; 8]),
        ("fully", [Full; 8]),
        ("mixed", [Full, Selective, Selective, Nothing, Nothing, Nothing, Nothing, Nothing]),
    ];
    let mut table = "| model | precision | recomputed | micro-batches | estimate | measured | off |\n".to_owned();
    let mut most = 0.0_f64;
    for (number, (name, config)) in models.iter().enumerate() {
        for (at, (recomputed, recompute)) in layers.iter().enumerate() {
            let arithmetic = [Arithmetic::Bf16, Arithmetic::Fp32, Arithmetic::Fp8][(number + at) % 3];
            let batch = [(4, 1), (2, 2)][(number / 2 + at / 2) % 2];
            let case = Case { config, arithmetic, batch, recompute };
            let (estimate, measured) = (case.estimate() as f64, case.measured() as f64);
            let off = 100.0 * (estimate / measured - 1.0);
            most = most.max(off.abs());
            let [estimate, measured] = [estimate, measured].map(|bytes| bytes / 1e6);
            let (rows, count) = batch;
            writeln!(
                table,
                "| {name} | {arithmetic:?} | {recomputed} | {count} x {rows} rows | {estimate:.1} MB | {measured:.1} MB | {off:+.1} % |"
            )
            .unwrap();
        }
    }
    assert!(most < 10.0, "{table}");
    if std::env::var_os("SHOW_MEMORY").is_some() {
        fs_err::write(std::env::temp_dir().join("memory.md"), &table).unwrap();
    }
}

#[test]
fn what_is_counted_is_what_is_there_at_once() {
    let mut memory = CountedMemory::begin().unwrap();
    let kept = Tensor::zeros([1 << 20], (Kind::Float, Device::Cpu));
    drop(Tensor::zeros([1 << 20], (Kind::Float, Device::Cpu)));
    assert_eq!(memory.most(), 8 << 20);
    assert_eq!(memory.most(), 4 << 20);
    drop(kept);
    assert!(CountedMemory::begin().is_err(), "it would count in the place of the first");
    drop(memory);
    assert_eq!(CountedMemory::begin().unwrap().most(), 0);
}

#[test]
fn a_rehearsed_step_leaves_everything_as_it_was() {
    let config = config(2, 512);
    let batches = vec![batch(&config, 1, 64); 2];
    let values = |engine: &Engine| -> Vec<Tensor> {
        let specs = engine.parameters.specs();
        let state = engine.optimizer.slices(specs).into_iter().map(|slice| slice.tensor.copy());
        state.chain(engine.parameters.tensors().iter().map(Tensor::copy)).collect()
    };
    for kind in [Kind::Float, Kind::BFloat16] {
        let [mut rehearsed, mut other] = [(); 2].map(|()| engine(&config, kind, Device::Cpu, &[Full, Nothing]));
        // Tests beside this one draw from the same generator.
        let specs = rehearsed.parameters.specs().to_vec();
        let drawn = rehearsed.optimizer.slices(&specs);
        for (mut mine, drawn) in other.optimizer.slices(&specs).into_iter().zip(&drawn) {
            tch::no_grad(|| mine.tensor.copy_(&drawn.tensor));
        }
        other.optimizer.round_masters().unwrap();
        if kind == Kind::Float {
            tch::no_grad(|| hephaestus::ffi::copy_all(other.parameters.tensors(), rehearsed.parameters.tensors()))
                .unwrap();
        }
        rehearsed.rehearse(&batch(&config, 3, 64), true).unwrap();
        assert!(rehearsed.parameters.tensors().iter().all(|parameter| !parameter.grad().defined()));
        for engine in [&mut rehearsed, &mut other] {
            engine.step(&batches, 128.0, 1e-3, 1, || false).unwrap();
        }
        let same = values(&rehearsed).iter().zip(values(&other)).all(|(one, other)| one.equal(&other));
        assert!(same, "{kind:?}");
    }
}
