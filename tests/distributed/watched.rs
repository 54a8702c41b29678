//! One rank of a job that is watched: a few steps, in one of which something befalls it.

use std::io::Write as _;
use std::os::unix::process::parent_id;

use hephaestus::checkpoint::together::{Together, TogetherError};
use hephaestus::distributed::World;
use hephaestus::distributed::agree::{Agreement, Word};
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::distributed::watch::{Settings, Watch};
use hephaestus::ffi::{CollectiveError, Reduce};
use hephaestus::train::refusal;
use hephaestus::train::stop::Stop;
use tch::{Device, Kind};

use super::rank::{Outcome, folder, of};
use super::*;

/// Says that a node is the one that something befalls.
pub(super) const NODE: &str = "HEPHAESTUS_TEST_NODE";

/// A rank is killed for which the others wait in the store, and in no collective.
const WAITED_FOR: &str = "killed while waited for in the store";

/// The step in which it happens.
const AT: u64 = 3;

/// What befalls whom, such as `killed 1`, and whether not again after a restart.
struct Fault<'a> {
    what: &'a str,
    here: bool,
}

impl<'a> Fault<'a> {
    fn read(text: &'a str, launch: &Launch) -> Self {
        let (text, once) = text.strip_suffix(" once").map_or((text, false), |text| (text, true));
        let (what, who) = text.rsplit_once(' ').unwrap_or((text, ""));
        let named = match who {
            "all" => true,
            "node" => env::var_os(NODE).is_some(),
            rank => rank == launch.rank.to_string(),
        };
        Self { what, here: named && !(once && launch.restart > 0) }
    }

    fn befalls(&self, stop: &Stop) -> anyhow::Result<()> {
        match self.what {
            "killed" | WAITED_FOR => signal("-9", process::id()),
            "stopped" | "silent" => signal("-STOP", process::id()),
            "gone with its launcher" => {
                signal("-9", parent_id());
                signal("-9", process::id());
            }
            "error" => {
                let missing = fs_err::read("no/such/corpus.bin").map_err(anyhow::Error::from);
                missing.map_err(|error| error.context("reading a corpus"))?;
            }
            "panic" => panic!("an index out of bounds"),
            "panic of a thread" => {
                let _ = thread::spawn(|| panic!("a thread's index out of bounds")).join();
            }
            "refused by libtorch" => {
                let refused = std::panic::catch_unwind(|| of(&[1, 2], Kind::Float).view([3]));
                anyhow::ensure!(refused.is_err(), "libtorch refuses this");
            }
            "hang" | "stuck" => thread::sleep(LIMIT),
            "asked" => stop.ask(),
            other => anyhow::bail!("{other} is nothing that befalls"),
        }
        Ok(())
    }
}

fn signal(signal: &str, process: u32) {
    Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
}

pub(super) fn act(fault: &str, launch: Launch) -> Outcome {
    // The test runner has left its line open.
    let _ = writeln!(std::io::stderr());
    let stop = Stop::on_signals()?;
    let fault = Fault::read(fault, &launch);
    // How long a rank that hangs is waited for, too.
    let (timeout, silence) = match fault.what {
        "silent" => (60, 4),
        WAITED_FOR => (60, 60),
        _ => (12, 60),
    };
    let world = World::join(launch, Device::Cpu, Duration::from_secs(timeout))?;
    let settings = Settings { beat: Duration::from_millis(500), silence: Duration::from_secs(silence) };
    let asked = stop.clone();
    let mut watch = Watch::begin(&world, settings, move || asked.asked())?;
    watch.on_panic(refusal::is_thrown);
    let agreement = Agreement::open(&world)?;
    if fault.what == "stuck" && !fault.here {
        watch.over(a_collective_times_out(&world))?;
    }
    match steps(&world, &watch, &agreement, &stop, &fault) {
        Ok(told) => {
            let launch = world.launch();
            let told = format!("{} of {}, start {}: {told}", launch.rank, launch.world, launch.restart);
            fs_err::write(folder().join(format!("told-{}", launch.rank)), told)?;
        }
        Err(error) => watch.failed(error.as_ref()),
    }
    if let Err(error) = watch.leave(&world) {
        watch.failed(&error);
    }
    Ok(world.close(agreement.into_groups())?)
}

/// What NCCL's backend would say of a collective that began when this was asked first.
fn a_collective_times_out(world: &World) -> impl Fn() -> Option<CollectiveError> + use<> {
    let (begun, limit) = (Instant::now(), Duration::from_secs(1));
    let (rank, world, group) = (world.launch().rank, world.launch().world, "shard group".to_owned());
    let (collective, timed_out, detail) = ("reduce_scatter", Some(limit), String::new());
    let error = CollectiveError { collective, rank, world, group, timed_out, detail };
    move || (begun.elapsed() > limit).then(|| error.clone())
}

/// Five steps; many more where they are to be cut short.
fn steps(
    world: &World,
    watch: &Watch,
    agreement: &Agreement,
    stop: &Stop,
    fault: &Fault<'_>,
) -> anyhow::Result<String> {
    let rank = world.launch().rank;
    let last = if ["asked", "cut"].contains(&fault.what) { 10_000 } else { 5 };
    let mut saved = Vec::new();
    for step in 1..=last {
        watch.at(step, "step");
        // Rank 0 alone is asked whether a checkpoint is due.
        let word = agreement.agree(Word { stop: stop.asked(), save: (rank == 0) == (step == 2), weight: step })?;
        assert_eq!(word.weight, step * world.launch().world as u64);
        if step == AT && fault.what == "stuck" && !fault.here {
            thread::sleep(LIMIT);
        }
        if step == AT && fault.what == WAITED_FOR && !fault.here && world.launch().restart == 0 {
            Together::of(world).first::<(), TogetherError>("be told", || Ok(()))?;
        }
        if step == AT && fault.here {
            watch.at(step, "befalling");
            fault.befalls(stop)?;
        }
        let one = of(&[1], Kind::Float);
        world.all().all_reduce(&one, Reduce::Sum)?.wait()?;
        if word.save {
            saved.push(step);
        }
        if word.stop {
            return Ok(format!("stopped at step {step}, saved at {saved:?}"));
        }
        if step == AT + 2 {
            fs_err::write(folder().join("under-way"), "")?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(format!("made all steps, saved at {saved:?}"))
}
