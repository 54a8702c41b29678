//! What there is to compute with.

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
    /// CPU cores.
    pub cores: usize,
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
        Self { cuda, cores, memory: memory.unwrap_or(0), ranks }
    }
}
