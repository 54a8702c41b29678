//! One rank of the tests of this folder.

use std::path::PathBuf;
use std::{io::Write as _, iter};

use hephaestus::distributed::World;
use hephaestus::distributed::flat::{Arrangement, Flat};
use hephaestus::distributed::mesh::Mesh;
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::ffi::{Group, Membership, Reduce};
use tch::{Device, Kind, Tensor};

use super::*;

/// The exit code of a rank that has said what went wrong.
pub(super) const FAILED: i32 = 3;

pub(super) type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
#[ignore = "one rank of the tests of this folder, which start it"]
fn a_rank() {
    let Ok(does) = env::var(DOES) else { return };
    let launch = Launch::from_environment().unwrap().expect("a launcher's variables");
    if let Err(error) = act(&does, launch) {
        let _ = writeln!(std::io::stderr(), "\nerror: {error}");
        process::exit(FAILED);
    }
}

fn act(does: &str, launch: Launch) -> Outcome {
    // Long enough for a machine that is busy, where nobody is to be missed.
    let long = Duration::from_secs(60);
    let (rank, restart) = (launch.rank, launch.restart);
    all_are_up(rank, restart);
    if does == "die once" && restart > 0 && rank == 1 {
        // Until then rank 0 finds only what the rank 1 before has left.
        thread::sleep(Duration::from_millis(500));
    }
    if let Some(fault) = does.strip_prefix("watched ") {
        return watched::act(fault, launch);
    }
    if does == "meet" {
        World::join(launch, Device::Cpu, Duration::from_secs(2))?;
        return Err("found everybody".into());
    }
    if let Some(what) = does.strip_prefix("save ") {
        return checkpoint::save(what, launch);
    }
    let world = World::join(launch, Device::Cpu, long)?;
    if let Some(what) = does.strip_prefix("count ") {
        return memory::count(what, world);
    }
    match does {
        "everything" => everything(&world)?,
        "tell" => tell(&world)?,
        "open" => open()?,
        "die" => die(&world)?,
        "die once" if restart == 0 => die(&world)?,
        "die once" => tell(&world)?,
        "leave" => return leave(world),
        "hang" => return hang(world),
        other => return Err(format!("{other} is nothing to do").into()),
    }
    if does == "everything" && world.launch().world == 4 {
        let mesh = mesh(&world)?;
        world.close(mesh)?;
    } else {
        world.close(Vec::new())?;
    }
    Ok(())
}

pub(super) fn folder() -> PathBuf {
    env::var_os(FOLDER).unwrap().into()
}

/// Waits until every rank of this start is as far as this one, so that no test's clock runs while a process starts.
fn all_are_up(rank: usize, restart: u64) {
    let (folder, started) = (folder(), env::var(STARTED).unwrap().parse::<usize>().unwrap());
    fs_err::write(folder.join(format!("up-{restart}-{rank}")), "").unwrap();
    let up = || {
        let names = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(&format!("up-{restart}-"))).count()
    };
    let deadline = Instant::now() + LIMIT;
    while up() < started && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn of(values: &[i64], kind: Kind) -> Tensor {
    Tensor::from_slice(values).to_kind(kind)
}

fn values(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor.to_kind(Kind::Int64).reshape([-1])).unwrap()
}

fn tell(world: &World) -> Outcome {
    let launch = world.launch();
    let sum = of(&[launch.rank as i64 + 1], Kind::Int64);
    world.all().all_reduce(&sum, Reduce::Sum)?.wait()?;
    let text = format!("{} of {}, start {}: {}", launch.rank, launch.world, launch.restart, values(&sum)[0]);
    fs_err::write(folder().join(format!("told-{}", launch.rank)), text)?;
    Ok(())
}

fn open() -> Outcome {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if limit.current == limit.maximum { Ok(()) } else { Err(format!("{limit:?}").into()) }
}

fn die(world: &World) -> Outcome {
    if world.launch().rank == 1 {
        process::exit(9);
    }
    let x = of(&[1], Kind::Float);
    world.all().all_reduce(&x, Reduce::Sum)?.wait()?;
    Err("reduced with the dead".into())
}

fn leave(world: World) -> Outcome {
    let x = of(&[1], Kind::Float);
    match world.launch().rank {
        0 => drop(world.all().all_reduce(&x, Reduce::Sum)?),
        1 => world.all().all_reduce(&x, Reduce::Sum)?.wait()?,
        // Has nothing to reduce, and is there for longer than it takes to notice who is not.
        _ => thread::sleep(Duration::from_secs(3)),
    }
    Ok(())
}

fn hang(world: World) -> Outcome {
    let rank = world.launch().rank;
    if rank == 0 {
        return Ok(());
    }
    let timeout = Duration::from_millis(1500);
    let members = vec![1, 2];
    let membership =
        Membership { name: "shard group".to_owned(), rank, world: 3, members, device: Device::Cpu, timeout };
    let group = Group::open(world.store(), &world.key("of a short timeout"), membership)?;
    if rank == 1 {
        thread::sleep(timeout * 2);
        return Ok(());
    }
    let (all, own) = (of(&[0, 0], Kind::Float), of(&[1], Kind::Float));
    group.all_gather(&all, &own)?.wait()?;
    Ok(())
}

fn everything(world: &World) -> Outcome {
    let all = world.all();
    let (rank, size) = (all.rank() as i64, all.size() as i64);
    assert_eq!((rank, size), (world.launch().rank as i64, world.launch().world as i64));
    let ranks = || 0..size;
    for kind in [Kind::Float, Kind::BFloat16, Kind::Int64] {
        let own = || of(&[rank, 2 * rank, -rank], kind);
        for (op, expected) in [
            (Reduce::Sum, [ranks().sum(), ranks().sum::<i64>() * 2, -ranks().sum::<i64>()]),
            (Reduce::Min, [0, 0, 1 - size]),
            (Reduce::Max, [size - 1, 2 * (size - 1), 0]),
        ] {
            let x = own();
            all.all_reduce(&x, op)?.wait()?;
            assert_eq!((values(&x), x.kind()), (expected.to_vec(), kind), "{op:?} of {kind:?}");
        }
        // Tensors of several shapes at once, one of them part of another.
        let part = Tensor::zeros([3, 2], (kind, Device::Cpu));
        let list = [own(), of(&[rank + 1], kind), part.narrow(0, 1, 1).fill_(rank).view([2])];
        all.all_reduce_all(&list, Reduce::Sum)?.wait()?;
        let sum: i64 = ranks().sum();
        assert_eq!(list.each_ref().map(values), [vec![sum, 2 * sum, -sum], vec![sum + size], vec![sum, sum]]);
        assert_eq!(values(&part), [0, 0, sum, sum, 0, 0]);

        // Rank r gives [r, r + 1, ...]; element i of the sum is that of all ranks plus i for each.
        let input = |from: i64| of(&(0..2 * size).map(|i| i + from).collect::<Vec<_>>(), kind);
        let scattered = |from: i64| (2 * rank..2 * rank + 2).map(|i| sum + size * (i + from)).collect::<Vec<_>>();
        let output = || Tensor::zeros([2], (kind, Device::Cpu));
        let (x, y) = (output(), output());
        all.reduce_scatter(&x, &input(rank), Reduce::Sum)?.wait()?;
        assert_eq!(values(&x), scattered(0));
        let given = [input(rank), input(rank + 7)];
        all.reduce_scatter_all(&[x.shallow_clone(), y.shallow_clone()], &given, Reduce::Sum)?.wait()?;
        assert_eq!((values(&x), values(&y)), (scattered(0), scattered(7)));
        assert_eq!(values(&given[0]), values(&input(rank)), "what is scattered stays");

        // Each into its place of one buffer, where it lies already.
        let whole = Tensor::zeros([2 * size], (kind, Device::Cpu));
        let mut mine = whole.narrow(0, 2 * rank, 2);
        mine.copy_(&of(&[rank, 10 + rank], kind));
        all.all_gather(&whole, &mine)?.wait()?;
        let expected: Vec<_> = ranks().flat_map(|rank| [rank, 10 + rank]).collect();
        assert_eq!(values(&whole), expected);
        let outputs = [Tensor::zeros([size], (kind, Device::Cpu)), Tensor::zeros([size, 2], (kind, Device::Cpu))];
        all.all_gather_all(&outputs, &[of(&[rank + 1], kind), of(&[rank, 10 + rank], kind)])?.wait()?;
        assert_eq!(outputs.each_ref().map(values), [(1..=size).collect(), expected]);

        let list = [of(&[rank, 5], kind), of(&[rank + 40], kind)];
        for root in ranks() {
            let x = of(&[rank, 100], kind);
            all.broadcast(&x, root as usize)?.wait()?;
            assert_eq!(values(&x), [root, 100]);
        }
        all.broadcast_all(&list, all.size() - 1)?.wait()?;
        assert_eq!(list.each_ref().map(values), [vec![size - 1, 5], vec![size + 39]]);
    }
    under_way(all)?;
    refused(all);
    flat(all)?;
    some(world)?;
    if !tch::Cuda::is_available() {
        let error = world.group("all GPUs", vec![world.launch().rank], Device::Cuda(0)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("open on rank {rank} of {size} (all GPUs of rank {rank}): ")), "{error}");
        let _ = writeln!(std::io::stderr(), "{error}");
    }
    all.barrier()?.wait()?;
    Ok(())
}

/// Many at a time, waited for in another order, by another thread, or not at all.
fn under_way(all: &Group) -> Outcome {
    let size = all.size() as i64;
    let begun: Result<Vec<_>, _> = (0..20)
        .map(|number| {
            let x = of(&vec![number; 1000], Kind::Float);
            all.all_reduce(&x, Reduce::Sum).map(|work| (number, x, work))
        })
        .collect();
    drop(all.all_reduce(&of(&[1; 100_000], Kind::Float), Reduce::Sum)?);
    let last = all.barrier()?;
    thread::spawn(move || -> Result<(), String> {
        for (number, x, work) in begun.map_err(|error| error.to_string())?.into_iter().rev() {
            work.wait().map_err(|error| error.to_string())?;
            assert_eq!(values(&x), vec![number * size; 1000]);
        }
        Ok(())
    })
    .join()
    .unwrap()?;
    Ok(last.wait()?)
}

/// What no backend would notice, or only one of them, and what Gloo cannot do.
fn refused(all: &Group) {
    let x = of(&[1, 2, 3, 4, 5, 6], Kind::Float);
    let head = format!("on rank {} of {} (all ranks): ", all.rank(), all.size());
    for (begun, expected) in [
        (all.all_reduce(&x.view([2, 3]).tr(), Reduce::Sum), "all_reduce {}a tensor of strides [1, 3], expected"),
        (all.all_reduce_all(&[x.copy(), of(&[1], Kind::Int64)], Reduce::Sum), "all_reduce {}tensors of Float and Long"),
        (all.all_reduce_all(&[], Reduce::Sum), "all_reduce {}no tensors"),
        (all.all_reduce(&x, Reduce::Mean), "all_reduce {}Gloo has no mean: divide the sum"),
        (all.all_gather(&x, &x), "all_gather {}tensors of 6 and 6 elements, expected"),
        (all.reduce_scatter(&x, &x, Reduce::Sum), "reduce_scatter {}tensors of 6 and 6 elements, expected"),
        (all.broadcast(&x, 9), "broadcast {}rank 9 of"),
    ] {
        let error = begun.unwrap_err().to_string();
        assert!(error.starts_with(&expected.replace("{}", &head)), "{error}\n{expected}");
    }
}

/// Gradients in one buffer: reduced and shared out, then gathered again, without a copy.
fn flat(all: &Group) -> Outcome {
    let (rank, size) = (all.rank(), all.size());
    let arrangement = Arrangement::new(&[vec![3, 5], vec![2], vec![7]], size);
    let flat = Flat::zeros(&arrangement, Kind::Float, Device::Cpu)?;
    for (number, view) in flat.views.iter().enumerate() {
        let _ = view.shallow_clone().fill_((number + 1) as i64 * (rank as i64 + 1));
    }
    let part = flat.part(rank)?;
    let reduced = part.zeros_like();
    all.reduce_scatter(&reduced, &flat.buffer, Reduce::Sum)?.wait()?;
    part.shallow_clone().copy_(&reduced);
    all.all_gather(&flat.buffer, &part)?.wait()?;
    let sum: i64 = (1..=size as i64).sum();
    for (number, view) in flat.views.iter().enumerate() {
        assert_eq!(values(view), vec![(number + 1) as i64 * sum; view.numel()]);
    }
    Ok(())
}

/// A group of the first and the last rank, opened by these alone, and again under the same name by mistake.
fn some(world: &World) -> Outcome {
    let (rank, last) = (world.launch().rank, world.launch().world - 1);
    let members = || vec![last, 0];
    if !members().contains(&rank) {
        let error = world.group("ends", members(), Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("this process is no member"), "{error}");
        return Ok(());
    }
    let group = world.group("ends", members(), Device::Cpu)?;
    assert_eq!((group.size(), group.rank()), (2, usize::from(rank == 0)));
    let x = of(&[rank as i64 + 1], Kind::Float);
    group.broadcast(&x, 0)?.wait()?;
    assert_eq!(values(&x), [last as i64 + 1]);
    let error = world.group("ends", members(), Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("opened a second time"), "{error}");
    Ok(group.close()?)
}

/// Two copies in two shards each: the sum over shards, then over copies, is that over all.
fn mesh(world: &World) -> Result<Vec<Group>, Box<dyn std::error::Error>> {
    let rank = world.launch().rank;
    let groups = Mesh::new(4, 2).unwrap().open(world, Device::Cpu)?;
    let x = of(&[1 << rank], Kind::Int64);
    let (shard, replicate) = (groups.shard.as_ref().unwrap(), groups.replicate.as_ref().unwrap());
    shard.all_reduce(&x, Reduce::Sum)?.wait()?;
    assert_eq!(values(&x), [if rank < 2 { 0b0011 } else { 0b1100 }]);
    replicate.all_reduce(&x, Reduce::Sum)?.wait()?;
    assert_eq!(values(&x), [0b1111]);
    assert_eq!((shard.rank(), replicate.rank()), (rank % 2, rank / 2));
    let alone = world.group("alone", iter::once(rank).collect(), Device::Cpu)?;
    alone.all_reduce(&x, Reduce::Sum)?.wait()?;
    assert_eq!(values(&x), [0b1111]);
    Ok(groups.into_groups().into_iter().chain(iter::once(alone)).collect())
}
