//! What a rank holds and sends: the planner's figures against the bytes that libtorch's allocator and the engine count.

use std::fmt::Write as _;

use hephaestus::distributed::World;
use hephaestus::distributed::mesh::Mesh;
use hephaestus::distributed::sharding::Sharding;
use hephaestus::distributed::sharding::link::Link;
use hephaestus::ffi::{CollectiveError, CountedMemory, Reduce, Work};
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::loss::rows_at_once;
use hephaestus::optim::adamw::{AdamW, Settings};
use hephaestus::plan::memory::Load;
use hephaestus::plan::traffic::Traffic;
use hephaestus::plan::units::UnitSizes;
use hephaestus::plan::{Arithmetic, Compute, DistributedPlan};
use hephaestus::recipe::sections::{Moments, Reduction};
use hephaestus::train::step::Engine;
use tch::{Device, Kind, Tensor};

use super::rank::{Outcome, folder};
use super::*;
use crate::memory::{batch, config};

const LENGTH: usize = 64;

/// A step whose memory is measured.
struct Case {
    name: &'static str,
    config: ModelConfig,
    arithmetic: Arithmetic,
    reduce: Reduction,
    /// Rows of a micro-batch, and how many of them.
    batch: (usize, usize),
    recompute: Recompute,
}

fn cases() -> [Case; 7] {
    use Arithmetic::{Bf16, Fp32};
    let (plain, tied) = (|| config(4, 2048), || ModelConfig { tied_embeddings: true, ..config(6, 1024) });
    // Its head and its embedding are large enough for units of their own in every mode.
    let wide = || config(2, 50_000);
    let case = |name, config, arithmetic, batch, recompute| Case {
        name,
        config,
        arithmetic,
        reduce: Reduction::Fp32,
        batch,
        recompute,
    };
    [
        case("untied", plain(), Bf16, (2, 1), Recompute::None),
        case("untied", plain(), Fp32, (1, 3), Recompute::None),
        case("tied", tied(), Bf16, (1, 2), Recompute::Full),
        case("tied", tied(), Fp32, (2, 1), Recompute::Full),
        case("large vocabulary", wide(), Fp32, (1, 1), Recompute::None),
        case("large vocabulary", wide(), Bf16, (1, 2), Recompute::Full),
        Case {
            name: "reduced in bf16",
            reduce: Reduction::Bf16,
            ..case("", plain(), Bf16, (1, 2), Recompute::Selective)
        },
    ]
}

impl Case {
    fn estimate(&self, distributed: DistributedPlan) -> u64 {
        let Case { config, batch: (rows, micro), recompute, .. } = self;
        let load = Load {
            config,
            arithmetic: self.arithmetic,
            compute: Compute::Cpu,
            moments: Moments::Fp32,
            tokens: (rows * LENGTH) as u64,
            several: *micro > 1,
            graphs: false,
            recompute: &vec![*recompute; config.layers],
            loss_rows: rows_at_once(None, config.vocab_size as u64, self.width()),
            distributed,
        };
        load.memory().total()
    }

    fn traffic(&self, distributed: DistributedPlan) -> u64 {
        Traffic::new(&UnitSizes::of(&self.config, distributed), distributed, self.width(), self.batch.1 as u64).total()
    }

    /// Bytes of an element that computes.
    fn width(&self) -> u64 {
        if self.arithmetic == Arithmetic::Fp32 { 4 } else { 2 }
    }

    /// The most bytes of the second step, and those that it sends.
    fn measured(&self, link: Link, fully: bool) -> Result<(Measured, Link), Box<dyn std::error::Error>> {
        let Case { config, batch: (rows, micro), recompute, .. } = self;
        let kind = if self.arithmetic == Arithmetic::Fp32 { Kind::Float } else { Kind::BFloat16 };
        let reduce = if self.reduce == Reduction::Fp32 { Kind::Float } else { Kind::BFloat16 };
        let mut memory = CountedMemory::begin()?;
        let world = link.mesh().replicate * link.mesh().shard;
        let (sharding, parameters) = Sharding::zeros(config, link, fully, reduce, kind, Device::Cpu)?;
        let optimizer = AdamW::over(sharding.held()?, parameters.specs(), Settings::default(), Device::Cpu)?;
        let decoder = Decoder::new(config, &parameters, *recompute)?;
        let mut engine = Engine::new(parameters, decoder, optimizer, sharding, 0.0);
        let micro = vec![batch(config, *rows, LENGTH); *micro];
        let trained = (rows * LENGTH * micro.len() * world) as f64;
        let mut sent = None;
        for _ in 0..2 {
            memory.most();
            sent = engine.step(&micro, trained, 1e-3, 1, || false)?.and_then(|step| step.sent);
        }
        let most = memory.most();
        engine.sharding.settle()?;
        let Engine { sharding, parameters, decoder, optimizer, .. } = engine;
        drop((parameters, decoder, optimizer));
        let link = sharding.into_link().ok_or("a link")?;
        memory.most();
        Ok((Measured { most, sent: sent.ok_or("nothing sent")?, left: memory.most() }, link))
    }
}

/// What a rank measures of a step.
struct Measured {
    /// The most bytes that were there.
    most: u64,
    /// Those that it sent.
    sent: u64,
    /// Those that are counted when nothing is there any more.
    left: u64,
}

/// One rank: every case one after another, in shards of so many ranks, fully or not.
pub(super) fn count(what: &str, world: World) -> Outcome {
    tch::set_num_threads(1);
    let rank = world.launch().rank;
    if what == "copies" {
        copies(&world)?;
        return Ok(world.close(Vec::new())?);
    }
    let (shard, fully) = what.split_once(' ').ok_or("shards and whether fully")?;
    let mesh = Mesh::new(world.launch().world, shard.parse()?).ok_or("a mesh")?;
    let mut link = Link::open(&world, mesh, Device::Cpu)?;
    let mut told = String::new();
    for case in cases() {
        let measured = loop {
            let (measured, again) = case.measured(link, fully.parse()?)?;
            link = again;
            // What Gloo's threads free last, of what this one made, is not counted as freed. Then rank 0 counts again.
            let left = Tensor::from(if rank == 0 { measured.left as i64 } else { 0 }).view([1]);
            world.all().all_reduce(&left, Reduce::Sum)?.wait()?;
            if left.int64_value(&[0]) < 1024 {
                break measured;
            }
        };
        let Measured { most, sent, .. } = measured;
        writeln!(told, "{most} {sent}")?;
    }
    fs_err::write(folder().join(format!("told-{rank}")), told)?;
    Ok(world.close(link.into_groups())?)
}

/// Gloo's own copies, as the plan has them: a reduce-scatter sums in a copy of the whole, a gather is made in one, and an
/// all-reduce makes none that is a tensor.
fn copies(world: &World) -> Outcome {
    let (all, size, n) = (world.all(), world.launch().world as i64, 1_i64 << 20);
    let zeros = |n: i64| Tensor::zeros([n], (Kind::Float, Device::Cpu));
    let (whole, part) = (zeros(n), zeros(n / size));
    let mut memory = CountedMemory::begin()?;
    let mut copied = |begun: Result<Work, CollectiveError>| {
        begun?.wait()?;
        let most = memory.most();
        // Also what a thread of Gloo's has freed, which is not counted.
        let left = memory.most();
        Ok::<_, CollectiveError>((most, left))
    };
    let (scattered, left) = copied(all.reduce_scatter(&part, &whole, Reduce::Sum))?;
    let (gathered, after) = copied(all.all_gather(&whole, &part))?;
    let (reduced, _) = copied(all.all_reduce(&whole, Reduce::Sum))?;
    let n = 4 * n as u64;
    assert_eq!([scattered, gathered - left, reduced - after], [n, n, 0]);
    Ok(())
}

#[test]
fn gloo_scatters_and_gathers_in_copies() {
    all_succeed(&run("count copies", 2, &[0, 1]));
}

#[test]
fn a_rank_holds_and_sends_what_is_planned_for_each_mode() {
    let jobs = [
        ("ddp", "count 1 false", 2, 1, false),
        ("zero1", "count 2 false", 2, 2, false),
        ("fsdp", "count 2 true", 2, 2, true),
        ("zero1, 2 copies", "count 2 false", 4, 2, false),
        ("fsdp, 2 copies", "count 2 true", 4, 2, true),
        ("fsdp", "count 4 true", 4, 4, true),
    ];
    let mut table = "| mode | ranks | model | precision | recomputed | micro-batches | estimate | measured | off |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let (mut most, mut wrong) = (0.0_f64, String::new());
    for (mode, does, world, shard, fully) in jobs {
        let (ended, folder) = run_in(does, world, &(0..world).collect::<Vec<_>>());
        all_succeed(&ended);
        let told = |rank: usize| -> Vec<(u64, u64)> {
            let text = fs_err::read_to_string(folder.path().join(format!("told-{rank}"))).unwrap();
            let pair =
                |line: &str| line.split_once(' ').map(|(most, sent)| (most.parse().unwrap(), sent.parse().unwrap()));
            text.lines().filter_map(pair).collect()
        };
        let ranks: Vec<_> = (0..world).map(told).collect();
        for (number, case) in cases().iter().enumerate() {
            let distributed = DistributedPlan { world, shard, fully, reduce: case.reduce, ..DistributedPlan::ALONE };
            let Case { name, arithmetic, batch: (rows, micro), recompute, .. } = case;
            let (estimate, planned) = (case.estimate(distributed) as f64, case.traffic(distributed));
            let measured = ranks[0][number].0 as f64;
            let off = 100.0 * (estimate / measured - 1.0);
            most = most.max(off.abs());
            let [estimate, measured] = [estimate, measured].map(|bytes| bytes / 1e6);
            writeln!(
                table,
                "| {mode} | {world} | {name} | {arithmetic:?} | {recompute:?} | {micro} x {rows} rows | {estimate:.1} MB | \
                 {measured:.1} MB | {off:+.1} % |"
            )
            .unwrap();
            for (rank, told) in ranks.iter().enumerate() {
                if told[number].1 != planned {
                    writeln!(wrong, "{mode}, {name}: rank {rank} of {world} sends {}, not {planned}", told[number].1)
                        .unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(most < 10.0, "{table}");
    if std::env::var_os("SHOW_MEMORY").is_some() {
        fs_err::write(std::env::temp_dir().join("memory-of-ranks.md"), &table).unwrap();
    }
}
