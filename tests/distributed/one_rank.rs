//! One process that goes all the ways of many: over Gloo on the CPU, over NCCL where there is a GPU.

use std::time::Duration;

use hephaestus::corpus::batch::Batch;
use hephaestus::distributed::World;
use hephaestus::distributed::mesh::Mesh;
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::distributed::sharding::link::Link;
use hephaestus::distributed::sharding::{Sharding, Turn};
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::parameters::Parameters;
use hephaestus::optim::adamw::{AdamW, Settings};
use hephaestus::train::step::Engine;
use tch::{Device, Kind, Tensor};

use super::free_port;
use crate::memory::{batch, config};

#[test]
fn one_rank_in_every_mode_trains_as_a_process_alone() {
    trains_as_a_process_alone(Device::Cpu, Kind::Float, 1e-6);
    trains_as_a_process_alone(Device::Cpu, Kind::BFloat16, 1e-6);
}

/// Every mode against none, from the same weights over the same batches; gradients are summed in fp32.
pub(crate) fn trains_as_a_process_alone(device: Device, kind: Kind, tolerance: f64) {
    let config = ModelConfig { tied_embeddings: false, ..config(3, 512) };
    let masters = Parameters::fresh(&config, 7, Kind::Float, Device::Cpu).unwrap();
    for micro in [1, 3].map(|count| (0..count).map(|_| batch(&config, 2, 64)).collect::<Vec<_>>()) {
        let alone = {
            let tensors =
                masters.tensors().iter().map(|master| master.to_device(device).to_kind(kind).copy()).collect();
            let parameters = Parameters::new(masters.specs().to_vec(), tensors).unwrap();
            let sharding = Sharding::alone(&config, &parameters);
            steps(&mut engine(&config, &masters, parameters, sharding), &micro)
        };
        for fully in [false, true] {
            let (world, sharding, parameters) = one_rank(&config, fully, Kind::Float, kind, device);
            let mut engine = engine(&config, &masters, parameters, sharding);
            let found = steps(&mut engine, &micro);
            world.close(engine.sharding.into_groups()).unwrap();
            for (step, (found, expected)) in found.iter().zip(&alone).enumerate() {
                let off = (found / expected - 1.0).abs();
                assert!(
                    off <= tolerance,
                    "{kind:?}, fully {fully}, {} micro-batches, step {step}: {found}, {expected}",
                    micro.len()
                );
            }
        }
    }
}

/// A world of one rank, and what it has of a model.
fn one_rank(
    config: &ModelConfig,
    fully: bool,
    reduce: Kind,
    kind: Kind,
    device: Device,
) -> (World, Sharding, Parameters) {
    let launch = Launch {
        rank: 0,
        world: 1,
        local_rank: 0,
        local_world: 1,
        host: "127.0.0.1".to_owned(),
        port: free_port(),
        serves: true,
        restart: 0,
        job: None,
    };
    let world = World::join(launch, Device::Cpu, Duration::from_secs(60)).unwrap();
    let link = Link::open(&world, Mesh::new(1, 1).unwrap(), device).unwrap();
    let (sharding, parameters) = Sharding::zeros(config, link, fully, reduce, kind, device).unwrap();
    (world, sharding, parameters)
}

/// As plans count them: a process alone has no others to reduce with, be it started by torchrun.
#[test]
fn gradients_of_one_rank_stay_in_what_they_are_computed_or_summed_in() {
    let config = config(2, 512);
    for fully in [false, true] {
        for (turns, expected) in [(1, Kind::BFloat16), (3, Kind::Float)] {
            let (world, mut sharding, parameters) =
                one_rank(&config, fully, Kind::BFloat16, Kind::BFloat16, Device::Cpu);
            let ones: Vec<_> = parameters.tensors().iter().map(Tensor::ones_like).collect();
            // 256 and 1 are 256 in bf16.
            let large: Vec<_> = ones.iter().map(|one| one * 256).collect();
            for at in 0..turns {
                let turn = Turn { first: at == 0, last: at + 1 == turns };
                sharding.take(if at == 0 { &large } else { &ones }, turn).unwrap();
            }
            for gradient in sharding.gradients().unwrap() {
                assert_eq!(gradient.kind(), expected, "fully {fully}, {turns} micro-batches");
                let sum = f64::from(255 + turns);
                assert_eq!(gradient.double_value(&vec![0; gradient.dim()]), sum, "fully {fully}");
            }
            world.close(sharding.into_groups()).unwrap();
        }
    }
}

fn engine(config: &ModelConfig, masters: &Parameters, parameters: Parameters, mut sharding: Sharding) -> Engine {
    let held = sharding.held().unwrap();
    let mut optimizer = AdamW::over(held, parameters.specs(), Settings::default(), parameters.device()).unwrap();
    optimizer.set_masters(masters).unwrap();
    optimizer.round_masters().unwrap();
    sharding.updated().unwrap();
    let decoder = Decoder::new(config, &parameters, Recompute::Selective).unwrap();
    Engine::new(parameters, decoder, optimizer, sharding, 0.0)
}

/// The losses of some steps, and the norms of their gradients.
fn steps(engine: &mut Engine, micro: &[Batch]) -> Vec<f64> {
    let trained = (2 * 64 * micro.len()) as f64;
    let mut found = Vec::new();
    for _ in 0..4 {
        let step = engine.step(micro, trained, 1e-3, 1, || false).unwrap().unwrap();
        found.extend([step.by_source.double_value(&[0, 0]), step.norm.double_value(&[])]);
    }
    found
}
