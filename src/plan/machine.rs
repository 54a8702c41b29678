//! What there is to compute with.

use std::path::Path;

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
    /// Bytes of memory that this process and others may take: the machine's, or the limit of a container (cgroup) where that
    /// is less; 0 where it is not known.
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
        let read = |path: &Path| fs_err::read_to_string(path).ok();
        let limit = read(Path::new("/proc/self/cgroup")).and_then(|text| memory_limit(&text, read));
        let memory = memory.into_iter().chain(limit).min();
        let shared = are_shared(is_bound(), |name| std::env::var(name).ok());
        Self { cuda, cores, shared, memory: memory.unwrap_or(0), ranks }
    }
}

/// The least limit of memory of the cgroups that a process is in, in bytes. `groups` is what its `/proc/PID/cgroup` says, `read`
/// gives the text of a file. In a container the path of a group may be that on the host, and what is mounted the group itself:
/// so each group above counts too, up to the root of the mount.
fn memory_limit(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        // Version 2 has one hierarchy, whose controllers are not named; version 1 has one for memory.
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            // `max`, where there is none, is not a number.
            let limit = read(&Path::new(mount).join(group).join(file)).and_then(|text| text.trim().parse::<u64>().ok());
            least = least.into_iter().chain(limit).min();
        }
    }
    least
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
    fn the_least_memory_of_the_cgroups_around_a_process_is_its_limit() {
        let limit = |groups: &str, files: &[(&str, &str)]| {
            memory_limit(groups, |path| {
                let file = files.iter().find(|(name, _)| Path::new("/sys/fs/cgroup").join(name) == path);
                file.map(|(_, text)| format!("{text}\n"))
            })
        };
        // Version 2: the limit may be that of a group above, and a group without one says `max`.
        let nested =
            [("a/memory.max", "3000"), ("a/b/memory.max", "max"), ("a/b/c/memory.max", "5000"), ("memory.max", "max")];
        assert_eq!(limit("0::/a/b/c\n", &nested), Some(3000));
        assert_eq!(limit("0::/a/b/c\n", &nested[1..]), Some(5000));
        assert_eq!(limit("0::/\n", &nested), None);
        // In a container the root of the mount is the group itself.
        assert_eq!(limit("0::/docker/7\n", &[("memory.max", "1500")]), Some(1500));
        // Version 1, where no limit is a number that no machine has.
        let groups = "5:cpu,cpuacct:/x\n4:memory:/job/task\n1:name=systemd:/y\n0::/z\n";
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/job/memory.limit_in_bytes", "1500000000"),
            ("memory/job/task/memory.limit_in_bytes", "9223372036854771712"),
        ];
        assert_eq!(limit(groups, &files), Some(1_500_000_000));
        assert_eq!(limit("no cgroups", &files), None);
    }

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
