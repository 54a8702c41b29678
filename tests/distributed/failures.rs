//! Where something befalls a rank: every process ends, and one report says which rank it was.

use super::watched::NODE;
use super::*;

/// What a rank has said, without the test runner around it.
fn said(ended: &Ended) -> Vec<&str> {
    let runner = |line: &&str| line.starts_with("running ") || line.starts_with("test ") || *line == "ok";
    ended.text.lines().filter(|line| !line.trim().is_empty() && !runner(line)).collect()
}

/// The one report of a job, and that of the ranks only `reporter` has said more than a line, and only rank 0 anything.
fn reported(ended: &[Ended], dead: &[usize]) -> (usize, String) {
    let all = || ended.iter().enumerate().filter(|(rank, _)| !dead.contains(rank));
    for (rank, ended) in all() {
        assert_eq!(ended.code, Some(1), "rank {rank}: {}", ended.text);
    }
    let reports: Vec<_> =
        all().filter(|(_, ended)| ended.text.lines().any(|line| line.starts_with("error: "))).collect();
    let [(reporter, report)] = reports[..] else { panic!("{} reports: {ended:#?}", reports.len()) };
    let report = said(report);
    assert_eq!(report.iter().filter(|line| line.starts_with("error: ")).count(), 1, "{report:#?}");
    let headline = report[0].strip_prefix("error: ").unwrap();
    for (rank, ended) in all().filter(|(rank, _)| *rank != reporter) {
        let expected = if rank == 0 { vec![format!("ended: {headline}")] } else { vec![] };
        assert_eq!(said(ended), expected, "rank {rank}");
    }
    (reporter, report.join("\n"))
}

/// Three ranks, started by hand.
fn three(does: &'static str) -> Job {
    let port = free_port();
    let mut job = Job::new(does, 3);
    for rank in 0..3 {
        job.start(command(&this()), &by_hand(rank, 3, port));
    }
    job
}

#[test]
fn a_job_that_nothing_befalls_ends_and_saves_where_rank_0_says() {
    let (ended, folder) = three("watched none").end();
    all_succeed(&ended);
    told(
        &folder,
        &[0, 1, 2]
            .map(|rank| format!("{rank} of 3, start 0: made all steps, saved at [2]"))
            .each_ref()
            .map(String::as_str),
    );
    assert!(ended.iter().all(|ended| said(ended).is_empty()), "{ended:#?}");
}

#[test]
fn where_a_rank_is_killed_another_reports_which() {
    let ended = run("watched killed 2", 4, &[0, 1, 2, 3]);
    let (_, report) = reported(&ended, &[2]);
    assert!(report.starts_with("error: rank 2 of 4 has stopped: no sign of life for "), "{report}");
    // Where it was at its last beat, which need not be where it was killed.
    assert!(report.contains("\n  rank 2: ") && report.contains(", last seen at step "), "{report}");
}

#[test]
fn where_a_rank_hangs_as_a_process_another_reports_which_and_it_ends_when_it_goes_on() {
    let mut job = three("watched stopped 2");
    let hung = job.children[2].0.id().to_string();
    let deadline = Instant::now() + LIMIT;
    while job.children[..2].iter_mut().any(|(child, _)| child.try_wait().unwrap().is_none())
        && Instant::now() < deadline
    {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(job.children[2].0.try_wait().unwrap().is_none(), "it was stopped");
    assert!(Command::new("kill").args(["-CONT", &hung]).status().unwrap().success());
    let (_, report) = reported(&job.end().0, &[]);
    assert!(report.starts_with("error: rank 2 of 3 has stopped: no sign of life for "), "{report}");
    assert!(report.contains("no answer within"), "{report}");
}

#[test]
fn where_a_rank_hangs_outside_of_collectives_another_reports_which_and_what_it_did() {
    let (reporter, report) = reported(&run("watched hang 1", 3, &[0, 1, 2]), &[]);
    assert_ne!(reporter, 1);
    assert!(report.starts_with("error: rank 1 of 3 keeps the others waiting, and is alive\n  rank 1: "), "{report}");
    assert!(report.contains(", at step 3 (befalling) for "), "{report}");
}

#[test]
fn where_a_rank_hangs_and_no_main_thread_comes_to_tell_what_looks_after_collectives_does() {
    let (reporter, report) = reported(&run("watched stuck 1", 3, &[0, 1, 2]), &[]);
    assert_ne!(reporter, 1);
    assert!(report.starts_with("error: rank 1 of 3 keeps the others waiting, and is alive\n  rank 1: "), "{report}");
    assert!(report.contains(": reduce_scatter on rank ") && report.contains("no answer within 1 s"), "{report}");
}

#[test]
fn an_error_of_a_rank_is_reported_by_itself() {
    let (reporter, report) = reported(&run("watched error 1", 3, &[0, 1, 2]), &[]);
    assert_eq!(reporter, 1);
    let expected = "error: rank 1 of 3 failed at step 3 (befalling): reading a corpus: failed to open file \
                    `no/such/corpus.bin`: No such file or directory (os error 2)\n  rank 1 is process ";
    assert!(report.starts_with(expected), "{report}");
}

#[test]
fn an_error_of_rank_0_that_keeps_the_store_is_told_to_the_others_first() {
    let (reporter, _) = reported(&run("watched error 0", 3, &[0, 1, 2]), &[]);
    assert_eq!(reporter, 0);
}

#[test]
fn an_error_that_all_ranks_find_is_reported_once() {
    let (_, report) = reported(&run("watched error all", 4, &[0, 1, 2, 3]), &[]);
    assert!(report.contains(" of 4 failed at step 3 (befalling): reading a corpus: "), "{report}");
}

#[test]
fn a_panic_of_a_rank_is_reported_by_itself_in_whatever_thread() {
    for (does, said) in [
        ("watched panic 1", "an index out of bounds"),
        ("watched panic of a thread 1", "a thread's index out of bounds"),
    ] {
        let (reporter, report) = reported(&run(does, 2, &[0, 1]), &[]);
        assert_eq!(reporter, 1);
        let begins = "error: rank 1 of 2 failed at step 3 (befalling): panicked at tests/distributed/watched.rs:";
        assert!(report.starts_with(begins) && report.contains(said), "{report}");
    }
}

#[test]
fn what_libtorch_throws_and_the_trainer_catches_ends_nothing() {
    all_succeed(&run("watched refused by libtorch all", 2, &[0, 1]));
}

#[test]
fn where_rank_0_is_killed_and_the_store_with_it_one_rank_of_the_node_says_so() {
    let (reporter, report) = reported(&run("watched killed 0", 3, &[0, 1, 2]), &[0]);
    assert_eq!((reporter, report.lines().count()), (1, 1), "{report}");
    assert!(report.starts_with("error: rank 1 of 3 (") && report.contains("lost the store that rank 0 ("), "{report}");
}

#[test]
fn where_rank_0_hangs_and_the_store_with_it_one_rank_of_the_node_says_so() {
    let (reporter, report) = reported(&run_stopped("watched stopped 0", 0), &[0]);
    assert_eq!((reporter, report.lines().count()), (1, 1), "{report}");
    assert!(report.contains("lost the store that rank 0 (") && report.contains("no answer for "), "{report}");
}

#[test]
fn a_rank_that_is_silent_is_reported_by_rank_0_before_a_collective_fails() {
    let (reporter, report) = reported(&run_stopped("watched silent 2", 2), &[2]);
    assert_eq!(reporter, 0);
    assert!(report.starts_with("error: rank 2 of 3 has stopped: no sign of life for 4.0 s"), "{report}");
    assert!(report.contains("noticed by rank 0: no collective has failed yet"), "{report}");
}

#[test]
fn a_rank_0_that_is_silent_is_reported_by_another_where_the_store_lives_on() {
    let port = free_port();
    let _store = hephaestus::ffi::Store::open("127.0.0.1", port, true, LIMIT).unwrap();
    let mut job = Job::new("watched silent 0", 3);
    for rank in 0..3 {
        let kept = [("TORCHELASTIC_USE_AGENT_STORE", "True".to_owned())];
        job.start(command(&this()), &[&by_hand(rank, 3, port)[..], &kept].concat());
    }
    let (reporter, report) = reported(&without(job, 0), &[0]);
    assert_ne!(reporter, 0);
    assert!(report.starts_with("error: rank 0 of 3 has stopped: no sign of life for 4.0 s"), "{report}");
    assert!(report.contains("no collective has failed yet"), "{report}");
}

#[test]
fn where_a_rank_dies_for_which_others_wait_in_the_store_they_report_it_before_torchrun_kills_them() {
    let restarted = ["--max-restarts", "1", "--monitor-interval", "0.1"];
    let does = "watched killed while waited for in the store 0 once";
    let Some((ended, folder)) = torchrun(does, 2, &restarted) else { return };
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let errors = errors(&ended);
    let reported = "error: rank 0 of 2 has stopped: no sign of life for 5.0 s";
    assert!(matches!(errors[..], [error] if error.starts_with(reported)), "{}", ended.text);
    let again = [0, 1].map(|rank| format!("{rank} of 2, start 1: made all steps, saved at [2]"));
    told(&folder, &again.each_ref().map(String::as_str));
}

/// Starts three ranks of which one stops itself for ever, and returns how the others ended.
fn run_stopped(does: &'static str, stopped: usize) -> Vec<Ended> {
    without(three(does), stopped)
}

/// How all ranks but the one that is stopped for ever ended.
fn without(mut job: Job, stopped: usize) -> Vec<Ended> {
    let does = job.does;
    let mut killed_at_the_end = Job::new(does, 1);
    killed_at_the_end.children.push(job.children.remove(stopped));
    let (mut ended, _) = job.end();
    ended.insert(stopped, Ended { code: None, text: String::new() });
    ended
}

#[test]
fn where_one_rank_is_asked_to_stop_all_stop_at_the_same_step() {
    let (ended, folder) = three("watched asked 1").end();
    all_succeed(&ended);
    // Asked within step 3: they agree where the next one begins.
    told(
        &folder,
        &[0, 1, 2]
            .map(|rank| format!("{rank} of 3, start 0: stopped at step 4, saved at [2]"))
            .each_ref()
            .map(String::as_str),
    );
}

/// The lines that torchrun's workers and torchrun itself have left.
pub(super) fn errors(ended: &Ended) -> Vec<&str> {
    ended.text.lines().filter(|line| line.starts_with("error: ")).collect()
}

#[test]
fn torchrun_starts_a_job_again_that_has_failed_and_it_goes_on() {
    for (does, reported) in [
        ("watched error 1 once", "error: rank 1 of 3 failed at step 3 (befalling): reading a corpus: "),
        ("watched killed 1 once", "error: rank 1 of 3 has stopped: no sign of life for "),
    ] {
        let Some((ended, folder)) = torchrun(does, 3, &["--max-restarts", "1", "--monitor-interval", "0.1"]) else {
            return;
        };
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        let errors = errors(&ended);
        assert!(matches!(errors[..], [error] if error.starts_with(reported)), "{}", ended.text);
        told(
            &folder,
            &[0, 1, 2]
                .map(|rank| format!("{rank} of 3, start 1: made all steps, saved at [2]"))
                .each_ref()
                .map(String::as_str),
        );
    }
}

#[test]
fn torchruns_own_summary_has_the_report() {
    let Some((ended, _)) = torchrun("watched error 1", 2, &["--monitor-interval", "0.1"]) else { return };
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    let (_, root) =
        ended.text.split_once("Root Cause (first observed failure):").unwrap_or_else(|| panic!("{}", ended.text));
    assert!(root.contains("traceback : rank 1 of 2 failed at step 3 (befalling): reading a corpus: "), "{root}");
}

#[test]
fn a_signal_to_torchrun_stops_all_ranks_at_the_same_step() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/torchrun");
    if !Path::new(program).exists() {
        return crate::skipped("torchrun", "make setup installs it");
    }
    for signal in ["-TERM", "-HUP"] {
        let mut job = Job::new("watched cut", 2);
        let own = [program, "--standalone", "--no-python", "--nproc-per-node", "2"].map(str::to_owned);
        job.start(command(&[own.to_vec(), this()].concat()), &[]);
        wait_until_under_way(&job);
        let torchrun = job.children[0].0.id().to_string();
        assert!(Command::new("kill").args([signal, &torchrun]).status().unwrap().success());
        let (ended, folder) = job.end();
        assert!(errors(&ended[0]).is_empty(), "{signal}: {}", ended[0].text);
        let stopped = [0, 1].map(|rank| fs_err::read_to_string(folder.path().join(format!("told-{rank}"))).unwrap());
        let [first, second] = stopped.each_ref().map(|told| told.split_once(": ").unwrap().1);
        assert!(first.starts_with("stopped at step ") && first == second, "{signal}: {stopped:?}");
    }
}

fn wait_until_under_way(job: &Job) {
    let (deadline, file) = (Instant::now() + LIMIT, job.folder.path().join("under-way"));
    while !file.exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(file.exists(), "nothing is under way");
}

#[test]
fn a_node_that_is_gone_leaves_a_smaller_world_that_torchrun_starts_again() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/torchrun");
    if !Path::new(program).exists() {
        return crate::skipped("torchrun", "make setup installs it");
    }
    let endpoint = format!("127.0.0.1:{}", free_port());
    let own = [program, "--no-python", "--nproc-per-node", "2", "--nnodes", "1:2", "--max-restarts", "2"];
    let meeting =
        ["--rdzv-backend", "c10d", "--rdzv-id", "two", "--rdzv-endpoint", &endpoint, "--local-addr", "127.0.0.1"];
    // How long others may still come once there are enough nodes.
    let last_call = ["--rdzv-conf", "last_call_timeout=15", "--monitor-interval", "0.1"];
    let line: Vec<_> =
        own.iter().chain(&meeting).chain(&last_call).map(|&text| text.to_owned()).chain(this()).collect();
    // Whoever is there first is not to wait: after the restart there are fewer.
    let mut job = Job::new("watched gone with its launcher node once", 1);
    job.start(command(&line), &[]);
    let port = endpoint.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let deadline = Instant::now() + LIMIT;
    // The first of them keeps torchrun's store; the second is the one to go.
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    job.start(command(&line), &[(NODE, "goes".to_owned())]);
    let (ended, folder) = job.end();
    assert_eq!((ended[0].code, ended[1].code), (Some(0), None), "{ended:#?}");
    let errors = errors(&ended[0]);
    let [report] = errors[..] else { panic!("{}", ended[0].text) };
    assert!(report.contains(" of 4 have stopped: no sign of life for "), "{report}");
    let restarted = |rank| format!("{rank} of 2, start 1: made all steps, saved at [2]");
    told(&folder, &[restarted(0), restarted(1)].each_ref().map(String::as_str));
}

#[test]
fn where_the_link_between_two_nodes_is_cut_each_says_so_and_all_end() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/distributed/two-nodes.sh");
    let inside = ["--user", "--map-root-user", "--net", "--pid", "--fork", "ip", "link"];
    let namespaces = Command::new("unshare").args(inside).output().is_ok_and(|output| output.status.success());
    if !namespaces {
        return crate::skipped("two nodes", "needs user and network namespaces: unshare and ip");
    }
    let logs = tempfile::tempdir().unwrap();
    let mut job = Job::new("watched cut", 4);
    let under_way = job.folder.path().join("under-way").display().to_string();
    let own = [script, &logs.path().display().to_string(), "2", &under_way].map(str::to_owned);
    job.start(command(&[own.to_vec(), this()].concat()), &[]);
    let (script, _folder) = job.end();
    assert_eq!(script[0].code, Some(0), "{}", script[0].text);
    let ended: Vec<_> = (0..4)
        .map(|rank| {
            let read = |what: &str| fs_err::read_to_string(logs.path().join(format!("{what}-{rank}"))).unwrap();
            Ended { code: read("code").trim().parse().ok(), text: read("log") }
        })
        .collect();
    let (_, report) = reported(&ended, &[2, 3]);
    assert!(report.starts_with("error: ranks 2, 3 of 4 have stopped: no sign of life for "), "{report}");
    assert!(report.contains("ranks 2, 3: node-b, last seen at step "), "{report}");
    assert_eq!((ended[2].code, ended[3].code), (Some(1), Some(1)), "{ended:#?}");
    let cut_off = said(&ended[2]).join("\n");
    assert!(
        cut_off.starts_with("error: rank 2 of 4 (node-b) at step ") && cut_off.contains("kept at 10.77.0.1:"),
        "{cut_off}"
    );
    assert_eq!(said(&ended[3]), [""; 0]);
}
