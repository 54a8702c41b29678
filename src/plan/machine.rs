//! What there is to compute with.

use rustix::thread::{Pid, sched_getaffinity};

/// The compute capability from which on tensor cores multiply in FP8: Ada's.
pub const FP8: (u32, u32) = (8, 9);

/// A CUDA device, as its driver reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
}

/// The devices and the memory of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// CUDA devices.
    pub cuda: Vec<Gpu>,
    /// CPU cores that this process may run on.
    pub cores: usize,
    /// Whether these are to be shared out among the ranks of this machine, which nothing else has given threads.
    pub shared: bool,
    /// Bytes of memory; 0 where it is not known.
    pub memory: u64,
    /// The ranks that share the work.
    pub ranks: Ranks,
}

/// How many processes share the work, and where this one is among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// How many there are.
    pub world: usize,
    /// How many of them are on this machine.
    pub local_world: usize,
    /// Which of those this one is, and so which GPU it takes.
    pub local_rank: usize,
}

impl Default for Ranks {
    /// One process alone.
    fn default() -> Self {
        Self { world: 1, local_world: 1, local_rank: 0 }
    }
}

impl Ranks {
    /// `world` ranks in nodes of so many, seen by the first.
    #[must_use]
    pub fn of(world: usize, node: usize) -> Self {
        Self { world, local_world: world.min(node.max(1)), local_rank: 0 }
    }
}

impl Machine {
    /// Ranks that a machine like this one runs: one a GPU, or as many as there are.
    #[must_use]
    pub fn node(&self) -> usize {
        if self.cuda.is_empty() { self.ranks.local_world } else { self.cuda.len() }
    }

    /// This machine, with the CUDA devices that the caller knows of: asking for them takes libtorch.
    #[must_use]
    pub fn here(cuda: Vec<Gpu>, ranks: Ranks) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Linux says it in a file; elsewhere it stays unknown.
        let memory = fs_err::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kilobytes.checked_mul(1024)
        });
        let shared = are_shared(is_bound(), |name| std::env::var(name).ok());
        Self { cuda, cores, shared, memory: memory.unwrap_or(0), ranks }
    }
}

/// Whether this process may run on fewer cores than the first process of the machine or container, as under srun, which gives
/// each task cores of its own.
fn is_bound() -> bool {
    let cores = |process| sched_getaffinity(process).map(|cores| cores.count());
    matches!((cores(None), cores(Some(Pid::INIT))), (Ok(own), Ok(all)) if own < all)
}

/// Whether the ranks of a machine are to share out its cores. Ranks of torchrun may all run on the same cores, bound or not;
/// and the one thread that it gives to each, where `OMP_NUM_THREADS` does not say how many, is torchrun's way of leaving that
/// open, not the user's word: on a CPU it would leave most cores idle.
fn are_shared(bound: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let torchrun = variable("TORCHELASTIC_RUN_ID").is_some();
    let told = variable("OMP_NUM_THREADS").is_some_and(|threads| !(torchrun && threads == "1"));
    !told && (torchrun || !bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_out_where_neither_srun_nor_the_user_has_done_so() {
        for (bound, run, threads, expected) in [
            (false, None, None, true),
            (true, None, None, false),
            (false, None, Some("1"), false),
            (false, Some("night"), None, true),
            // torchrun in a job that has a part of a node.
            (true, Some("night"), Some("1"), true),
            (false, Some("night"), Some("6"), false),
        ] {
            let set = |name: &str| {
                if name == "OMP_NUM_THREADS" { threads } else { run.filter(|_| name == "TORCHELASTIC_RUN_ID") }
            };
            let shared = are_shared(bound, |name| set(name).map(str::to_owned));
            assert_eq!(shared, expected, "{bound} {run:?} {threads:?}");
        }
    }
}
