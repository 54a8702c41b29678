//! The whole trainer where something befalls it: one report, and the same command or the launcher goes on from the last
//! checkpoint to the same losses.

use std::path::PathBuf;

use super::failures::errors;
use super::training::{Told, end, folder, line, train, within};
use super::watched::NODE;
use super::*;

/// What is saved often, and on how many ranks it does not matter.
const OFTEN: [&str; 2] = ["checkpoint.every=4", "distributed.mode=zero1"];

/// torchrun with its own `arguments` before a command; `None` where it is not installed.
fn launched(arguments: &[&str], command: Vec<String>) -> Option<Vec<String>> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/torchrun");
    if !Path::new(program).exists() {
        crate::skipped("torchrun", "make setup installs it");
        return None;
    }
    let own = [program, "--no-python", "--nproc-per-node", "2", "--monitor-interval", "0.1"];
    Some(own.iter().chain(arguments).map(|&text| text.to_owned()).chain(command).collect())
}

const RESTARTED: [&str; 3] = ["--standalone", "--max-restarts", "1"];

/// The trainer by way of a shell, which does `before` on rank 1 of the first start.
fn by_shell(before: &str, line: Vec<String>) -> Vec<String> {
    let script = format!("[ $RANK$TORCHELASTIC_RESTART_COUNT != 10 ] || {{ {before}; }}; exec \"$@\"");
    ["sh", "-c", &script, "sh"].map(str::to_owned).into_iter().chain(line).collect()
}

/// Waits until a run has written a checkpoint.
fn wait_for(job: &mut Job, checkpoint: &Path) {
    let deadline = Instant::now() + LIMIT;
    while !checkpoint.join("manifest.json").is_file() && Instant::now() < deadline {
        if let Some(status) = job.children[0].0.try_wait().unwrap() {
            panic!("{status}: {}", fs_err::read_to_string(&job.children[0].1).unwrap());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of a job that have all these variables.
fn processes(job: &Job, variables: &[(&str, &str)]) -> Vec<String> {
    let own = job.folder.path().display().to_string();
    let folder = [(FOLDER, own.as_str())];
    let expected = variables.iter().chain(&folder);
    let expected: Vec<_> = expected.map(|(name, value)| format!("{name}={value}")).collect();
    let all = fs_err::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let found = all.filter(|process| {
        let Ok(environment) = fs_err::read(process.join("environ")) else { return false };
        let environment = String::from_utf8_lossy(&environment);
        expected.iter().all(|variable| environment.split('\0').any(|has| has == variable))
    });
    found.map(|process| process.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn kill(processes: &[String]) {
    assert!(!processes.is_empty());
    assert!(Command::new("kill").arg("-9").args(processes).status().unwrap().success());
}

/// That a job ended well after one report that begins so, and made all steps as one process does.
fn recovered(ended: &Ended, folder: &TempDir, report: &str) {
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let errors = errors(ended);
    assert!(matches!(errors[..], [error] if error.starts_with(report)), "no {report} alone in {}", ended.text);
    assert_eq!(ended.text.matches("going on from out/step-").count(), 1, "{}", ended.text);
    assert_eq!(ended.text.matches("finished: out/step-50").count(), 1, "{}", ended.text);
    Told::read(folder, "out").is_that_of_one_process(report);
}

#[test]
fn where_a_rank_is_killed_torchrun_starts_all_again_and_they_go_on() {
    for (rank, mode) in [("0", "distributed.mode=ddp"), ("1", "distributed.mode=fsdp")] {
        let folder = folder();
        let Some(line) = launched(&RESTARTED, line(&[&OFTEN[..], &[mode]].concat(), &[])) else { return };
        let mut job = Job::new("train", 2);
        job.start(within(&folder, &line), &[]);
        wait_for(&mut job, &folder.path().join("out/step-4"));
        kill(&processes(&job, &[("RANK", rank), ("TORCHELASTIC_RESTART_COUNT", "0")]));
        let (ended, _) = job.end();
        recovered(&ended[0], &folder, &format!("error: rank {rank} of 2 has stopped: no sign of life for "));
    }
}

#[test]
fn where_one_rank_fails_torchrun_starts_all_again_and_they_go_on() {
    let folder = folder();
    train(&folder, 2, &OFTEN, &["--stop-at", "4"]);
    // Rank 1 can write no more than a few bytes into any file: neither its part of a checkpoint nor its note for torchrun. What
    // it says goes through a pipe.
    let refuses = "mkfifo said; cat <said >&2 & exec 2>said; trap '' XFSZ; ulimit -f 1";
    let line = by_shell(refuses, line(&OFTEN, &[]));
    let Some(line) = launched(&RESTARTED, line) else { return };
    let mut job = Job::new("train", 2);
    job.start(within(&folder, &line), &[]);
    let (ended, _) = job.end();
    // Both starts go on from there.
    let (_, rest) = ended[0].text.split_once("going on from out/step-4").unwrap_or_else(|| panic!("{ended:#?}"));
    let ended = Ended { code: ended[0].code, text: rest.to_owned() };
    // All ranks learn it at the same time, and either is the first to say so.
    recovered(&ended, &folder, "error: rank ");
    let report = errors(&ended)[0];
    for part in [
        " of 2 failed at step 8 (saving): the checkpoint of step 8 could not be written; the last one is out/step-4: rank 1 of 2 (",
        ".writing/optimizer-00002-of-00002.safetensors`: File too large (os error 27)",
    ] {
        assert!(report.contains(part), "no {part} in {report}");
    }
}

#[test]
fn where_a_node_is_gone_the_others_go_on_as_fewer_ranks() {
    let folder = folder();
    let endpoint = format!("127.0.0.1:{}", free_port());
    let meeting = ["--rdzv-backend", "c10d", "--rdzv-id", "two", "--rdzv-endpoint", &endpoint];
    let elastic = ["--nnodes", "1:2", "--max-restarts", "1", "--local-addr", "127.0.0.1"];
    let last_call = ["--rdzv-conf", "last_call_timeout=15"];
    let fsdp = [OFTEN[0], "distributed.mode=fsdp"];
    let Some(line) = launched(&[&meeting[..], &elastic, &last_call].concat(), line(&fsdp, &[])) else { return };
    // Without it torchrun keeps the ranks' store, and a node that comes later never learns where.
    let own = ("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1".to_owned());
    let mut job = Job::new("train", 2);
    job.start(within(&folder, &line), std::slice::from_ref(&own));
    let deadline = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(&endpoint).is_err() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    job.start(within(&folder, &line), &[own, (NODE, "goes".to_owned())]);
    wait_for(&mut job, &folder.path().join("out/step-4"));
    let gone = processes(&job, &[(NODE, "goes")]);
    assert_eq!(gone.len(), 3, "torchrun and two ranks");
    kill(&gone);
    let (ended, _) = job.end();
    assert_eq!(ended[1].code, None);
    recovered(&ended[0], &folder, "error: ranks 2, 3 of 4 have stopped: no sign of life for ");
    let sizes = |step: u64| {
        let saved = folder.path().join(format!("out/step-{step}"));
        hephaestus::checkpoint::load::files(&saved).unwrap().len()
    };
    assert_eq!((sizes(4), sizes(50)), (4, 2));
}

#[test]
fn a_signal_to_torchrun_saves_and_the_same_command_goes_on() {
    let folder = folder();
    let codes = "trap : TERM; \"$@\"; code=$?; echo $code >code-$RANK; exit $code";
    let shell = ["sh", "-c", codes, "sh"].map(str::to_owned);
    let inner: Vec<_> = shell.into_iter().chain(line(&OFTEN, &[])).collect();
    let Some(line) = launched(&["--standalone"], inner) else { return };
    let mut job = Job::new("train", 2);
    job.start(within(&folder, &line), &[]);
    wait_for(&mut job, &folder.path().join("out/step-4"));
    let torchrun = job.children[0].0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &torchrun]).status().unwrap().success());
    let (ended, _) = job.end();
    for rank in 0..2 {
        let code = fs_err::read_to_string(folder.path().join(format!("code-{rank}"))).unwrap();
        assert_eq!(code, "130\n", "rank {rank}: {}", ended[0].text);
    }
    assert!(errors(&ended[0]).is_empty(), "{}", ended[0].text);
    let stopped = ended[0].text.lines().find_map(|line| line.strip_prefix("stopped: ")?.split_once(';'));
    let (stopped, _) = stopped.unwrap_or_else(|| panic!("{}", ended[0].text));
    assert!(folder.path().join(stopped).join("manifest.json").is_file(), "{stopped}");

    let mut job = Job::new("train", 2);
    job.start(within(&folder, &line), &[]);
    let (ended, _) = job.end();
    assert_eq!(ended[0].code, Some(0), "{}", ended[0].text);
    assert!(ended[0].text.contains(&format!("going on from {stopped}")), "{}", ended[0].text);
    Told::read(&folder, "out").is_that_of_one_process("stopped by torchrun");
}

/// The one report of ranks that all end with it.
fn reported(ended: &[Ended]) -> String {
    assert!(ended.iter().all(|ended| ended.code == Some(1)), "{ended:#?}");
    let reports: Vec<_> = ended.iter().flat_map(errors).collect();
    let [report] = reports[..] else { panic!("{} reports: {ended:#?}", reports.len()) };
    report.to_owned()
}

#[test]
fn what_is_wrong_for_all_ranks_is_told_once() {
    let folder = folder();
    let report = reported(&end(&folder, 3, &["batch.rows=3"], &[]));
    assert!(report.contains("unknown key") && report.contains("rows"), "{report}");
    let too_fast = ["stages.0.schedule.peak=1e30", "stages.1.schedule.peak=1e30", OFTEN[0]];
    let report = reported(&end(&folder, 2, &too_fast, &[]));
    assert!(report.contains("updates were skipped, because the loss or a gradient was not finite"), "{report}");
}

#[test]
fn an_output_that_ranks_do_not_share_is_noticed_at_the_start() {
    let (folder, elsewhere) = (folder(), self::folder());
    let (port, line) = (free_port(), line(&["distributed.timeout=8s"], &[]));
    let mut job = Job::new("train", 2);
    for (rank, folder) in [&folder, &elsewhere].into_iter().enumerate() {
        job.start(within(folder, &line), &by_hand(rank, 2, port));
    }
    let report = reported(&job.end().0);
    assert!(
        report.contains("rank 1 of 2 (") && report.contains("): out: not to be seen here: run.output, "),
        "{report}"
    );
    let left: Vec<_> =
        fs_err::read_dir(folder.path().join("out")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"], "something was begun");
}

#[test]
fn where_the_link_between_two_nodes_is_cut_the_same_command_goes_on() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/distributed/two-nodes.sh");
    let inside = ["--user", "--map-root-user", "--net", "--pid", "--fork", "ip", "link"];
    let namespaces = Command::new("unshare").args(inside).output().is_ok_and(|output| output.status.success());
    if !namespaces {
        return crate::skipped("two nodes that train", "needs user and network namespaces: unshare and ip");
    }
    let (folder, logs) = (folder(), tempfile::tempdir().unwrap());
    let run = |cut: &str| {
        let when = folder.path().join("out/step-4/manifest.json").display().to_string();
        let own = [script, &logs.path().display().to_string(), "1", &when].map(str::to_owned);
        let set = [OFTEN[0], "distributed.mode=fsdp", "distributed.timeout=8s"];
        let mut job = Job::new("train", 2);
        job.start(within(&folder, &[own.to_vec(), line(&set, &[])].concat()), &[("CUT", cut.to_owned())]);
        let (script, _) = job.end();
        assert_eq!(script[0].code, Some(0), "{}", script[0].text);
        let read = |path: PathBuf| fs_err::read_to_string(path).unwrap();
        [0, 1].map(|rank| Ended {
            code: read(logs.path().join(format!("code-{rank}"))).trim().parse().ok(),
            text: read(logs.path().join(format!("log-{rank}"))),
        })
    };
    let begun = Instant::now();
    let cut = run("ip link set dev veth-a down");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    for (ended, report) in cut.iter().zip(["error: rank 1 of 2 has stopped", "error: rank 1 of 2 (node-b) at step "]) {
        assert_eq!(ended.code, Some(1), "{}", ended.text);
        assert!(matches!(errors(ended)[..], [error] if error.starts_with(report)), "{}", ended.text);
    }
    let went_on = run("true");
    all_succeed(&went_on);
    assert!(went_on[0].text.contains("going on from out/step-"), "{}", went_on[0].text);
    Told::read(&folder, "out").is_that_of_one_process("a link that was cut");
}
