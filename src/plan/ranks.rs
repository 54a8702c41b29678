//! What several ranks do together, and whether they can.

use super::findings::Findings;
use super::{BatchPlan, Compute, DevicePlan, DistributedPlan, Machine};
use crate::distributed::mesh::Mesh;
use crate::recipe::Recipe;
use crate::recipe::quantity::Rows;
use crate::recipe::sections::{Distributed, Mode};

/// Who holds what. Mode auto is zero1 until it is known whether that fits.
pub(super) fn distributed(
    recipe: &Recipe,
    machine: &Machine,
    device: DevicePlan,
    batch: BatchPlan,
    findings: &mut Findings,
) -> DistributedPlan {
    places(machine, device.compute, findings);
    let world = machine.ranks.world;
    if world <= 1 {
        return DistributedPlan::ALONE;
    }
    let Distributed { mode, shard_ranks, reduce, timeout } = recipe.distributed;
    let shard = if mode == Mode::Ddp { 1 } else { shard_ranks.map_or(world, |ranks| ranks as usize) };
    if Mesh::new(world, shard).is_none() {
        let near = or(nearest(shard as u64, divisors_of(world as u64)));
        let message = format!("is {shard}, and {world} ranks do not come out even in groups of so many: give {near}");
        findings.complain("distributed.shard_ranks", message);
    }
    // A group of one has nobody to share with.
    let fully = mode == Mode::Fsdp && shard > 1;
    if fully && device.graphs {
        let message = "is true with distributed.mode fsdp, whose weights come and go while a recording expects them in one \
                       place: use zero1 or ddp, or leave it out";
        findings.complain("device.cuda_graphs", message);
    }
    rows(recipe, batch, world as u64, findings);
    DistributedPlan { world, shard, fully, reduce, timeout: timeout.0 }
}

/// Each rank of a machine has a GPU of its own.
fn places(machine: &Machine, compute: Compute, findings: &mut Findings) {
    let (ranks, gpus) = (machine.ranks.local_world.max(machine.ranks.local_rank + 1), machine.cuda.len());
    // That there is none at all has been complained of.
    if compute == Compute::Cpu || gpus == 0 || ranks <= gpus {
        return;
    }
    let message = format!(
        "takes a GPU for each rank, and this machine has {gpus} for {ranks}: start {gpus} a machine (torchrun \
         --nproc-per-node {gpus}, srun --ntasks-per-node {gpus}), let each see all GPUs (no CUDA_VISIBLE_DEVICES, no \
         --gpus-per-task), or set device.kind=cpu"
    );
    findings.complain("device.kind", message);
}

/// Every rank computes as many rows of a step, in whole micro-batches.
fn rows(recipe: &Recipe, batch: BatchPlan, world: u64, findings: &mut Findings) {
    let (length, all) = (recipe.data.sequence_length.0, batch.rows);
    let micro = match recipe.batch.micro_sequences {
        Rows::Auto => 1,
        Rows::Count(rows) => rows.0.max(1),
    };
    let at_once = world.saturating_mul(micro);
    if all.is_multiple_of(at_once) {
        return;
    }
    let (key, unit) = if recipe.batch.tokens.is_some() { ("batch.tokens", length) } else { ("batch.sequences", 1) };
    let multiples = [all / at_once * at_once, (all / at_once + 1).saturating_mul(at_once)];
    let batches = or(multiples.into_iter().filter(|rows| *rows > 0).map(|rows| rows.saturating_mul(unit)).collect());
    let worlds = or(nearest(world, divisors_of(all / micro)));
    let ranks = if worlds == "1" { "rank" } else { "ranks" };
    if all.is_multiple_of(world) {
        let each = all / world;
        let fits = divisors_of(each).into_iter().rfind(|rows| *rows <= micro).unwrap_or(1);
        let message = format!(
            "is {micro}, which does not divide the {each} of a step's {all} sequences that each of {world} ranks computes: \
             give {fits}, {key} {batches}, or start {worlds} {ranks}"
        );
        return findings.complain("batch.micro_sequences", message);
    }
    let given = if unit == 1 { format!("is {all}") } else { format!("is {all} sequences of {length}") };
    let whole = if micro == 1 { String::new() } else { format!(" in micro-batches of {micro}") };
    let message =
        format!("{given}, which {world} ranks cannot share evenly{whole}: give {batches}, or start {worlds} {ranks}");
    findings.complain(key, message);
}

/// Of ascending `numbers` the nearest below and above one.
fn nearest(number: u64, numbers: Vec<u64>) -> Vec<u64> {
    let (below, above): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(|one| *one < number);
    below.into_iter().next_back().into_iter().chain(above.into_iter().next()).collect()
}

/// The divisors of a number, ascending.
pub(super) fn divisors_of(number: u64) -> Vec<u64> {
    let small: Vec<u64> = (1..=number.isqrt()).filter(|divisor| number.is_multiple_of(*divisor)).collect();
    let mut all = small.clone();
    all.extend(small.into_iter().rev().map(|divisor| number / divisor));
    all.dedup();
    all
}

fn or(numbers: Vec<u64>) -> String {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    words.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_proposed_lies_on_both_sides() {
        assert_eq!(divisors_of(36), [1, 2, 3, 4, 6, 9, 12, 18, 36]);
        assert_eq!(nearest(5, divisors_of(36)), [4, 6]);
        assert_eq!((nearest(64, divisors_of(36)), nearest(1, divisors_of(36))), (vec![36], vec![1]));
    }
}
