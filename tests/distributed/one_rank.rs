//! One process that goes all the ways of many: over Gloo on the CPU, over NCCL where there is a GPU.

use hephaestus::corpus::batch::Batch;
use hephaestus::distributed::World;
use hephaestus::distributed::mesh::Mesh;
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::distributed::sharding::Sharding;
use hephaestus::distributed::sharding::link::Link;
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::parameters::Parameters;
use hephaestus::optim::adamw::{AdamW, Settings};
use hephaestus::train::step::Engine;
use tch::{Device, Kind};

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
            let port = free_port();
            let launch = Launch {
                rank: 0,
                world: 1,
                local_rank: 0,
                local_world: 1,
                host: "127.0.0.1".to_owned(),
                port,
                serves: true,
                restart: 0,
                job: None,
            };
            let world = World::join(launch, Device::Cpu, std::time::Duration::from_secs(60)).unwrap();
            let link = Link::open(&world, Mesh::new(1, 1).unwrap(), device).unwrap();
            let (sharding, parameters) = Sharding::zeros(&config, link, fully, Kind::Float, kind, device).unwrap();
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
