//! Processes that work together: each test starts this test binary once a rank, with the variables that a launcher would
//! set, and judges how they end.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use tempfile::TempDir;

mod checkpoint;
mod failures;
mod memory;
pub(crate) mod one_rank;
mod rank;
mod recovering;
mod resuming;
mod same;
mod training;
mod watched;

/// What ranks do, where the results go, and how many of them are started.
const DOES: &str = "HEPHAESTUS_TEST_RANK_DOES";
const FOLDER: &str = "HEPHAESTUS_TEST_FOLDER";
const STARTED: &str = "HEPHAESTUS_TEST_STARTED";

/// No test waits longer than this for its ranks. Processors without AVX-512 multiply bf16 ten times as slowly as others.
const LIMIT: Duration = Duration::from_secs(300);

/// How a rank ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    text: String,
}

/// The ranks of a test.
struct Job {
    folder: TempDir,
    does: &'static str,
    started: usize,
    children: Vec<(Child, String)>,
}

impl Drop for Job {
    fn drop(&mut self) {
        for (child, _) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Job {
    /// Of `started` processes in all.
    fn new(does: &'static str, started: usize) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), does, started, children: Vec::new() }
    }

    fn start(&mut self, mut command: Command, variables: &[(&str, String)]) {
        let log = self.folder.path().join(format!("log-{}", self.children.len()));
        let file = fs_err::File::create(&log).unwrap().into_parts().0;
        let known = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"];
        let set = env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        let of_a_launcher = |name: &String| {
            known.contains(&name.as_str()) || name.starts_with("SLURM_") || name.starts_with("TORCHELASTIC_")
        };
        set.filter(of_a_launcher).for_each(|name| {
            command.env_remove(name);
        });
        command.env(DOES, self.does).env(FOLDER, self.folder.path()).env(STARTED, self.started.to_string());
        command.env("OMP_NUM_THREADS", "1").env("GLOO_SOCKET_IFNAME", "lo");
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        self.children.push((command.spawn().unwrap(), log.display().to_string()));
    }

    /// Waits for every process, in the order in which they were started.
    fn end(mut self) -> (Vec<Ended>, TempDir) {
        let deadline = Instant::now() + LIMIT;
        let mut ended = Vec::new();
        for at in 0..self.children.len() {
            let status = loop {
                if let Some(status) = self.children[at].0.try_wait().unwrap() {
                    break status;
                }
                if Instant::now() > deadline {
                    let logs = self.children.iter().map(|(_, log)| fs_err::read_to_string(log).unwrap_or_default());
                    panic!(
                        "{} has not ended within {LIMIT:?}:\n{}",
                        self.does,
                        logs.collect::<Vec<_>>().join("\n---\n")
                    );
                }
                thread::sleep(Duration::from_millis(20));
            };
            let text = fs_err::read(&self.children[at].1).unwrap();
            ended.push(Ended { code: status.code(), text: String::from_utf8_lossy(&text).into_owned() });
        }
        self.children.clear();
        (ended, std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap()))
    }
}

/// This test binary as one rank. The test runner's main thread would take signals, which a program blocks before it starts
/// any other thread.
fn this() -> Vec<String> {
    let program = env::current_exe().unwrap().display().to_string();
    let blocked = ["env", "--block-signal=HUP,INT,TERM", &program].map(str::to_owned);
    let arguments = ["distributed::rank::a_rank", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    blocked.into_iter().chain(arguments.map(str::to_owned)).collect()
}

fn command(line: &[String]) -> Command {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    command
}

/// A port that nobody listens on, below those that systems give to whoever connects, and no other test's.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (process::id() % 100) as u16 * 200;
    let ports = std::iter::repeat_with(|| 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
    let mut free = ports.take(1000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}

/// The variables that torchrun would set for a rank, were it not for its store.
fn by_hand(rank: usize, world: usize, port: u16) -> Vec<(&'static str, String)> {
    let numbers = [("RANK", rank), ("WORLD_SIZE", world), ("LOCAL_RANK", rank), ("LOCAL_WORLD_SIZE", world)];
    let mut variables: Vec<_> = numbers.map(|(name, number)| (name, number.to_string())).into();
    variables.extend([("MASTER_ADDR", "127.0.0.1".to_owned()), ("MASTER_PORT", port.to_string())]);
    variables
}

/// Starts `ranks` of a world, and returns how they ended.
fn run(does: &'static str, world: usize, ranks: &[usize]) -> Vec<Ended> {
    run_in(does, world, ranks).0
}

/// The same, and the folder they had.
fn run_in(does: &'static str, world: usize, ranks: &[usize]) -> (Vec<Ended>, TempDir) {
    let port = free_port();
    let mut job = Job::new(does, ranks.len());
    for &rank in ranks {
        job.start(command(&this()), &by_hand(rank, world, port));
    }
    job.end()
}

fn all_succeed(ended: &[Ended]) {
    for (rank, ended) in ended.iter().enumerate() {
        assert_eq!(ended.code, Some(0), "rank {rank}:\n{}", ended.text);
    }
}

/// The line in which a rank says what went wrong.
fn failed(ended: &Ended) -> &str {
    assert_eq!(ended.code, Some(rank::FAILED), "{}", ended.text);
    ended.text.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or_else(|| panic!("{}", ended.text))
}

#[test]
fn every_collective_of_two_ranks_does_what_it_says() {
    all_succeed(&run("everything", 2, &[0, 1]));
}

#[test]
fn every_collective_of_three_ranks_does_what_it_says() {
    all_succeed(&run("everything", 3, &[0, 1, 2]));
}

#[test]
fn every_collective_of_four_ranks_and_of_the_mesh_among_them_does_what_it_says() {
    all_succeed(&run("everything", 4, &[0, 1, 2, 3]));
}

#[test]
fn a_rank_may_open_as_many_files_as_the_system_lets_it() {
    let limited = ["sh", "-c", r#"ulimit -Sn 256 && exec "$0" "$@""#].map(str::to_owned);
    let mut job = Job::new("open", 1);
    job.start(command(&[limited.to_vec(), this()].concat()), &by_hand(0, 1, free_port()));
    all_succeed(&job.end().0);
}

#[test]
fn where_a_rank_dies_the_others_fail_at_once_and_say_in_which_collective() {
    let ended = run("die", 3, &[0, 1, 2]);
    assert_eq!(ended[1].code, Some(9));
    for rank in [0, 2] {
        let error = failed(&ended[rank]);
        assert!(error.starts_with(&format!("all_reduce on rank {rank} of 3 (all ranks): ")), "{error}");
        assert!(!error.contains("no answer"), "{error}");
    }
}

#[test]
fn a_rank_that_leaves_with_work_under_way_waits_for_nobody_and_keeps_nobody_waiting() {
    let ended = run("leave", 3, &[0, 1, 2]);
    assert_eq!((ended[0].code, ended[2].code), (Some(0), Some(0)), "{ended:?}");
    let error = failed(&ended[1]);
    assert!(error.starts_with("all_reduce on rank 1 of 3 (all ranks): "), "{error}");
}

#[test]
fn where_a_rank_does_not_answer_the_others_say_in_which_collective_of_which_group_and_how_long_they_waited() {
    let ended = run("hang", 3, &[0, 1, 2]);
    let error = failed(&ended[2]);
    let expected = "all_gather on rank 2 of 3 (shard group of ranks 1, 2): no answer within 1.5 s: ";
    assert!(error.starts_with(expected) && error.len() > expected.len(), "{error}");
}

#[test]
fn where_a_rank_never_comes_all_others_say_how_many_did() {
    let port = free_port();
    let mut job = Job::new("meet", 2);
    job.start(command(&this()), &by_hand(0, 3, port));
    job.start(command(&this()), &by_hand(2, 3, port));
    let (ended, _) = job.end();
    for (ended, rank) in ended.iter().zip([0, 2]) {
        let expected = format!(
            "rank {rank} of 3: 2 of 3 ranks came within 2 s, not 1: see their logs, and whether their nodes reach \
             127.0.0.1:{port}"
        );
        assert_eq!(failed(ended), expected);
    }
}

#[test]
fn where_nobody_keeps_the_store_a_rank_says_where_it_looked() {
    let port = free_port();
    let mut job = Job::new("meet", 1);
    job.start(command(&this()), &by_hand(1, 2, port));
    let (ended, _) = job.end();
    let error = failed(&ended[0]);
    assert!(error.starts_with(&format!("rank 1 of 2: no store at 127.0.0.1:{port} within 2 s: ")), "{error}");
}

#[test]
fn ranks_started_by_srun_find_each_other() {
    let (world, job_id) = (2, free_port() % 10_000);
    let mut job = Job::new("tell", world);
    for rank in 0..world {
        let numbers = [("SLURM_PROCID", rank), ("SLURM_STEP_NUM_TASKS", world), ("SLURM_LOCALID", rank)];
        let mut variables: Vec<_> = numbers.map(|(name, number)| (name, number.to_string())).into();
        variables.push(("SLURM_STEP_NODELIST", "gpu[07]".to_owned()));
        variables.push(("SLURM_JOB_ID", job_id.to_string()));
        job.start(command(&this()), &variables);
    }
    let (ended, folder) = job.end();
    all_succeed(&ended);
    told(&folder, &["0 of 2, start 0: 3", "1 of 2, start 0: 3"]);
}

/// What ranks have told: the sum of their numbers from 1 on.
fn told(folder: &TempDir, expected: &[&str]) {
    for (rank, expected) in expected.iter().enumerate() {
        let path = folder.path().join(format!("told-{rank}"));
        assert_eq!(fs_err::read_to_string(path).unwrap(), *expected);
    }
}

/// torchrun, if it is installed.
fn torchrun(does: &'static str, ranks: usize, arguments: &[&str]) -> Option<(Ended, TempDir)> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/torchrun");
    if !Path::new(program).exists() {
        crate::skipped("torchrun", "make setup installs it");
        return None;
    }
    let ranks_text = ranks.to_string();
    let own = [program, "--standalone", "--no-python", "--nproc-per-node", &ranks_text];
    let mut line: Vec<_> = own.iter().chain(arguments).map(|&text| text.to_owned()).collect();
    line.extend(this());
    let mut job = Job::new(does, ranks);
    job.start(command(&line), &[]);
    let (mut ended, folder) = job.end();
    Some((ended.remove(0), folder))
}

#[test]
fn ranks_started_by_torchrun_find_each_other_in_its_store() {
    let Some((ended, folder)) = torchrun("tell", 4, &[]) else { return };
    all_succeed(&[ended]);
    told(&folder, &[0, 1, 2, 3].map(|rank| format!("{rank} of 4, start 0: 10")).each_ref().map(String::as_str));
}

#[test]
fn ranks_that_torchrun_starts_again_find_each_other_and_not_those_before() {
    let Some((ended, folder)) = torchrun("die once", 2, &["--max-restarts", "1", "--monitor-interval", "0.1"]) else {
        return;
    };
    all_succeed(&[ended]);
    told(&folder, &["0 of 2, start 1: 3", "1 of 2, start 1: 3"]);
}
