//! What a launcher says about the processes it has started: torchrun's variables, or srun's.

use std::str::FromStr;

use super::slurm;
use crate::plan::Ranks;

/// This process among those started together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its rank among all.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// Its rank among those of its node: which GPU it takes.
    pub local_rank: usize,
    /// How many its node has.
    pub local_world: usize,
    /// Where the store is.
    pub host: String,
    /// The store's port.
    pub port: u16,
    /// Whether this process is to keep the store; no one is where torchrun does.
    pub serves: bool,
    /// How often torchrun has started the job again; on a node that came later, less often than on the others.
    pub restart: u64,
    /// The job's name: torchrun's run id, or Slurm's job id; none where the variables were set by hand.
    pub job: Option<String>,
}

/// A variable that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {found}, expected {expected}")]
pub struct LaunchError {
    /// The variable.
    pub variable: String,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub expected: String,
}

impl Launch {
    /// This process as its launcher describes it; `None` where none did, so that it is alone.
    ///
    /// # Errors
    /// Variables that are missing beside others, are no numbers, or contradict each other.
    pub fn from_environment() -> Result<Option<Self>, LaunchError> {
        Self::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// What a plan has to know of it.
    #[must_use]
    pub fn ranks(&self) -> Ranks {
        Ranks { world: self.world, local_world: self.local_world, local_rank: self.local_rank }
    }

    /// The same from variables given. `RANK` is torchrun's mark, also inside of Slurm; `SLURM_STEP_NODELIST` that of srun, as
    /// Slurm gives a batch script a `SLURM_PROCID`, too. Tasks are counted by the step's own variables: a shell of salloc is a
    /// step of one task, and `SLURM_NTASKS` is there that of the job.
    ///
    /// # Errors
    /// As [`from_environment`](Self::from_environment).
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, LaunchError> {
        let variables = Variables(|name: &str| variable(name).filter(|value| !value.trim().is_empty()));
        let launch = if variables.has("RANK") {
            torchrun(&variables)?
        } else if variables.has("SLURM_STEP_NODELIST") {
            srun(&variables)?
        } else if let Some(name) = ["WORLD_SIZE", "LOCAL_RANK"].into_iter().find(|name| variables.has(name)) {
            let expected = format!("this process's number, as {name} is set");
            return Err(LaunchError { variable: "RANK".to_owned(), found: "is not set".to_owned(), expected });
        } else {
            return Ok(None);
        };
        Ok(Some(launch))
    }
}

fn torchrun(variables: &Variables<impl Fn(&str) -> Option<String>>) -> Result<Launch, LaunchError> {
    let beside = "as RANK is set: start with torchrun, or set what it sets";
    let (rank, world) = variables.place("RANK", "WORLD_SIZE", beside)?;
    let (local_rank, local_world) = variables.place("LOCAL_RANK", "LOCAL_WORLD_SIZE", beside)?;
    variables.at_most("LOCAL_WORLD_SIZE", local_world, "WORLD_SIZE", world)?;
    // torchrun writes Python's True: then it keeps the store itself.
    let kept = variables.get("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
    Ok(Launch {
        rank,
        world,
        local_rank,
        local_world,
        host: variables.required("MASTER_ADDR", "an address", beside)?,
        port: variables.port()?.ok_or_else(|| variables.missing("MASTER_PORT", "a port", beside))?,
        serves: rank == 0 && !kept,
        restart: variables.number("TORCHELASTIC_RESTART_COUNT", "a number of restarts")?.unwrap_or(0),
        job: variables.get("TORCHELASTIC_RUN_ID"),
    })
}

fn srun(variables: &Variables<impl Fn(&str) -> Option<String>>) -> Result<Launch, LaunchError> {
    let name = "SLURM_STEP_NODELIST";
    let beside = "as SLURM_STEP_NODELIST is set: start with srun, or unset it";
    let (rank, world) = variables.place("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", beside)?;
    if let Some(other) = variables.number::<usize>("WORLD_SIZE", "a number")?
        && other != world
    {
        return Err(variables.bad("WORLD_SIZE", format!("{world}, as SLURM_STEP_NUM_TASKS says, or nothing")));
    }
    let list = variables.required(name, "a list of nodes", beside)?;
    let nodes = slurm::nodes(&list).map_err(|why| variables.bad(name, format!("a list of nodes (it has {why})")))?;
    let local_rank = variables.number_beside("SLURM_LOCALID", beside)?;
    let local_world = tasks_here(variables, world, &nodes)?;
    if local_rank >= local_world {
        return Err(variables.bad("SLURM_LOCALID", format!("less than {local_world}, the tasks of this node")));
    }
    let job = variables.get("SLURM_JOB_ID");
    let port = match (variables.port()?, &job) {
        (Some(port), _) => port,
        (None, Some(id)) => port_of(id).ok_or_else(|| variables.bad("SLURM_JOB_ID", "a number".to_owned()))?,
        (None, None) => return Err(variables.missing("SLURM_JOB_ID", "a number", "as MASTER_PORT is not set either")),
    };
    let host = match (variables.get("MASTER_ADDR"), nodes.as_slice()) {
        (Some(host), _) => host,
        // Node names need not resolve where nobody else has to.
        (None, [_]) => "127.0.0.1".to_owned(),
        (None, nodes) => nodes.first().cloned().unwrap_or_default(),
    };
    let restart = variables.number("SLURM_RESTART_COUNT", "a number of restarts")?.unwrap_or(0);
    Ok(Launch { rank, world, local_rank, local_world, host, port, serves: rank == 0, restart, job })
}

/// How many tasks this node has, as Slurm lists them, or its share where it does not.
fn tasks_here(
    variables: &Variables<impl Fn(&str) -> Option<String>>,
    world: usize,
    nodes: &[String],
) -> Result<usize, LaunchError> {
    let node: Option<usize> = variables.number("SLURM_NODEID", "the number of this node")?;
    let name = "SLURM_STEP_TASKS_PER_NODE";
    if let (Some(node), Some(list)) = (node, variables.get(name)) {
        let tasks = slurm::tasks_on(&list, node).filter(|tasks| (1..=world).contains(tasks));
        return tasks.ok_or_else(|| {
            variables.bad(name, format!("tasks by node such as 4(x2),3, with node {node}, at most {world} each"))
        });
    }
    if world.is_multiple_of(nodes.len()) {
        return Ok(world / nodes.len());
    }
    let beside = format!("as SLURM_STEP_NUM_TASKS, {world}, is no multiple of the nodes, {}", nodes.len());
    let absent = if node.is_none() { "SLURM_NODEID" } else { name };
    Err(variables.missing(absent, "this node's tasks", &beside))
}

/// A port for a job, below those that systems hand out by themselves; jobs that share a node have different numbers.
fn port_of(job: &str) -> Option<u16> {
    let job: u64 = job.parse().ok()?;
    u16::try_from(20_000 + job % 10_000).ok()
}

/// Where variables come from; an empty one is none.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn missing(&self, name: &str, expected: &str, beside: &str) -> LaunchError {
        let found = "is not set".to_owned();
        LaunchError { variable: name.to_owned(), found, expected: format!("{expected} {beside}") }
    }

    fn bad(&self, name: &str, expected: impl Into<String>) -> LaunchError {
        let found = self.get(name).map_or("is not set".to_owned(), |value| format!("is {value:?}"));
        LaunchError { variable: name.to_owned(), found, expected: expected.into() }
    }

    fn required(&self, name: &str, expected: &str, beside: &str) -> Result<String, LaunchError> {
        self.get(name).ok_or_else(|| self.missing(name, expected, beside))
    }

    fn number<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, LaunchError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| self.bad(name, expected))
    }

    fn number_beside(&self, name: &str, beside: &str) -> Result<usize, LaunchError> {
        self.number(name, "a number")?.ok_or_else(|| self.missing(name, "a number", beside))
    }

    /// A rank, and the number of ranks that it has to be below.
    fn place(&self, rank: &str, size: &str, beside: &str) -> Result<(usize, usize), LaunchError> {
        let (found, all) = (self.number_beside(rank, beside)?, self.number_beside(size, beside)?);
        if all == 0 {
            return Err(self.bad(size, "at least 1"));
        }
        if found >= all {
            return Err(self.bad(rank, format!("less than {size}, which is {all}")));
        }
        Ok((found, all))
    }

    fn at_most(&self, name: &str, value: usize, limit_name: &str, limit: usize) -> Result<(), LaunchError> {
        if value <= limit {
            return Ok(());
        }
        Err(self.bad(name, format!("at most {limit_name}, which is {limit}")))
    }

    fn port(&self) -> Result<Option<u16>, LaunchError> {
        let port = self.number("MASTER_PORT", "a port from 1 to 65535")?;
        if port == Some(0) {
            return Err(self.bad("MASTER_PORT", "a port from 1 to 65535"));
        }
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORCHRUN: [(&str, &str); 9] = [
        ("RANK", "5"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "4"),
        ("MASTER_ADDR", "10.0.0.7"),
        ("MASTER_PORT", "29500"),
        ("TORCHELASTIC_RESTART_COUNT", "2"),
        ("TORCHELASTIC_RUN_ID", "night"),
        ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ];

    const SRUN: [(&str, &str); 7] = [
        ("SLURM_PROCID", "4"),
        ("SLURM_STEP_NUM_TASKS", "7"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_NODEID", "1"),
        ("SLURM_STEP_NODELIST", "gpu[07-08]"),
        ("SLURM_STEP_TASKS_PER_NODE", "4,3"),
        ("SLURM_JOB_ID", "123456"),
    ];

    /// The variables, with some of them changed, or taken out where there is no value.
    fn read(base: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Result<Option<Launch>, String> {
        let read = Launch::read(|name| {
            let changed = changes.iter().find(|(changed, _)| *changed == name);
            let base = || base.iter().find(|(set, _)| *set == name).map(|(_, value)| *value);
            changed.map_or_else(base, |(_, value)| *value).map(str::to_owned)
        });
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn a_process_without_a_launcher_is_alone_whatever_a_batch_script_has_set() {
        let script = [
            ("MASTER_ADDR", "here"),
            ("MASTER_PORT", "1"),
            ("SLURM_JOB_ID", "7"),
            ("SLURM_JOB_NODELIST", "gpu[07-08]"),
            ("SLURM_NODELIST", "gpu[07-08]"),
            ("SLURM_NTASKS", "8"),
            ("SLURM_PROCID", "0"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_NODEID", "0"),
        ];
        assert_eq!(read(&script, &[]), Ok(None));
        assert_eq!(read(&[("RANK", "")], &[]), Ok(None));
    }

    #[test]
    fn torchruns_variables_are_read_and_its_store_is_kept_by_itself() {
        let launch = Launch {
            rank: 5,
            world: 8,
            local_rank: 1,
            local_world: 4,
            host: "10.0.0.7".to_owned(),
            port: 29500,
            serves: false,
            restart: 2,
            job: Some("night".to_owned()),
        };
        assert_eq!(read(&TORCHRUN, &[]), Ok(Some(launch)));
        let serves = |changes: &[_]| read(&TORCHRUN, changes).map(|launch| launch.unwrap().serves);
        assert_eq!(serves(&[("RANK", Some("0"))]), Ok(false));
        assert_eq!(serves(&[("RANK", Some("0")), ("TORCHELASTIC_USE_AGENT_STORE", Some("False"))]), Ok(true));
        assert_eq!(serves(&[("TORCHELASTIC_USE_AGENT_STORE", None)]), Ok(false));
    }

    #[test]
    fn torchrun_inside_of_slurm_is_torchrun() {
        let both: Vec<_> = TORCHRUN.into_iter().chain(SRUN).collect();
        assert_eq!(read(&both, &[]), read(&TORCHRUN, &[]));
    }

    #[test]
    fn torchruns_variables_that_are_missing_or_contradict_each_other_are_named() {
        for (change, expected) in [
            (
                ("WORLD_SIZE", None),
                "WORLD_SIZE is not set, expected a number as RANK is set: start with torchrun, or set what it sets",
            ),
            (
                ("LOCAL_RANK", None),
                "LOCAL_RANK is not set, expected a number as RANK is set: start with torchrun, or set what it sets",
            ),
            (
                ("MASTER_ADDR", Some(" ")),
                "MASTER_ADDR is not set, expected an address as RANK is set: start with torchrun, or set what it sets",
            ),
            (
                ("MASTER_PORT", None),
                "MASTER_PORT is not set, expected a port as RANK is set: start with torchrun, or set what it sets",
            ),
            (("MASTER_PORT", Some("65536")), "MASTER_PORT is \"65536\", expected a port from 1 to 65535"),
            (("MASTER_PORT", Some("0")), "MASTER_PORT is \"0\", expected a port from 1 to 65535"),
            (("RANK", Some("8")), "RANK is \"8\", expected less than WORLD_SIZE, which is 8"),
            (("RANK", Some("-1")), "RANK is \"-1\", expected a number"),
            (("WORLD_SIZE", Some("0")), "WORLD_SIZE is \"0\", expected at least 1"),
            (("LOCAL_RANK", Some("4")), "LOCAL_RANK is \"4\", expected less than LOCAL_WORLD_SIZE, which is 4"),
            (("LOCAL_WORLD_SIZE", Some("9")), "LOCAL_WORLD_SIZE is \"9\", expected at most WORLD_SIZE, which is 8"),
            (("RANK", None), "RANK is not set, expected this process's number, as WORLD_SIZE is set"),
        ] {
            assert_eq!(read(&TORCHRUN, &[change]), Err(expected.to_owned()));
        }
    }

    #[test]
    fn sruns_variables_are_read_and_the_first_node_keeps_the_store() {
        let launch = Launch {
            rank: 4,
            world: 7,
            local_rank: 0,
            local_world: 3,
            host: "gpu07".to_owned(),
            port: 23_456,
            serves: false,
            restart: 0,
            job: Some("123456".to_owned()),
        };
        assert_eq!(read(&SRUN, &[]), Ok(Some(launch.clone())));
        let named = [("MASTER_ADDR", Some("10.0.0.1")), ("MASTER_PORT", Some("4000"))];
        assert_eq!(read(&SRUN, &named), Ok(Some(Launch { host: "10.0.0.1".to_owned(), port: 4000, ..launch.clone() })));
        let first = [("SLURM_PROCID", Some("0")), ("SLURM_NODEID", Some("0"))];
        assert_eq!(read(&SRUN, &first), Ok(Some(Launch { rank: 0, local_world: 4, serves: true, ..launch })));
    }

    #[test]
    fn a_step_of_one_task_is_that_whatever_its_job_has() {
        let job = [("SLURM_NTASKS", "8"), ("SLURM_TASKS_PER_NODE", "4(x2)"), ("SLURM_NODELIST", "gpu[07-08]")];
        let all: Vec<_> = SRUN.into_iter().chain(job).collect();
        let shell = [
            ("SLURM_PROCID", Some("0")),
            ("SLURM_NODEID", Some("0")),
            ("SLURM_STEP_NUM_TASKS", Some("1")),
            ("SLURM_STEP_NODELIST", Some("gpu07")),
            ("SLURM_STEP_TASKS_PER_NODE", Some("1")),
        ];
        let launch = read(&all, &shell).unwrap().unwrap();
        assert_eq!((launch.world, launch.local_world, launch.host.as_str()), (1, 1, "127.0.0.1"));
    }

    #[test]
    fn one_node_needs_no_name_and_even_shares_no_list_of_tasks() {
        let here =
            [("SLURM_STEP_NODELIST", Some("anywhere")), ("SLURM_STEP_TASKS_PER_NODE", None), ("SLURM_NODEID", None)];
        let launch = read(&SRUN, &here).unwrap().unwrap();
        assert_eq!((launch.host.as_str(), launch.local_world), ("127.0.0.1", 7));
    }

    #[test]
    fn sruns_variables_that_are_missing_or_contradict_each_other_are_named() {
        for (change, expected) in [
            (
                ("SLURM_STEP_NUM_TASKS", None),
                "SLURM_STEP_NUM_TASKS is not set, expected a number as SLURM_STEP_NODELIST is set: start with srun, or unset it",
            ),
            (("SLURM_PROCID", Some("7")), "SLURM_PROCID is \"7\", expected less than SLURM_STEP_NUM_TASKS, which is 7"),
            (
                ("SLURM_LOCALID", None),
                "SLURM_LOCALID is not set, expected a number as SLURM_STEP_NODELIST is set: start with srun, or unset it",
            ),
            (("SLURM_LOCALID", Some("3")), "SLURM_LOCALID is \"3\", expected less than 3, the tasks of this node"),
            (
                ("SLURM_STEP_NODELIST", Some("gpu[7")),
                "SLURM_STEP_NODELIST is \"gpu[7\", expected a list of nodes (it has a [ without its ])",
            ),
            (
                ("SLURM_STEP_TASKS_PER_NODE", Some("4")),
                "SLURM_STEP_TASKS_PER_NODE is \"4\", expected tasks by node such as 4(x2),3, with node 1, at most 7 each",
            ),
            (
                ("SLURM_STEP_TASKS_PER_NODE", None),
                "SLURM_STEP_TASKS_PER_NODE is not set, expected this node's tasks as SLURM_STEP_NUM_TASKS, 7, is no multiple of the nodes, 2",
            ),
            (("SLURM_JOB_ID", None), "SLURM_JOB_ID is not set, expected a number as MASTER_PORT is not set either"),
            (("SLURM_JOB_ID", Some("x")), "SLURM_JOB_ID is \"x\", expected a number"),
            (("WORLD_SIZE", Some("8")), "WORLD_SIZE is \"8\", expected 7, as SLURM_STEP_NUM_TASKS says, or nothing"),
        ] {
            assert_eq!(read(&SRUN, &[change]), Err(expected.to_owned()));
        }
    }
}
