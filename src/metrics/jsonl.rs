//! `metrics.jsonl`: one JSON object a line, for programs.
//!
//! The file grows by whole lines and is never rewritten. A run that resumes at step s writes a `resume` line; what earlier
//! lines tell of later steps was trained again, and readers drop it, as [`validations`] does. A run that starts anew in a
//! folder that was used before writes a `start` line, and nothing before it counts. A number that is not finite is `null`.

use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fs_err::OpenOptions;
use serde_json::{Map, Value, json};

use super::append::Appended;
use super::kept::Log;
use super::{Progress, SourceLoss, Validation};
use crate::own;

/// Name of the file in a run's output folder.
pub const FILE: &str = "metrics.jsonl";

/// Version of the records; it grows when a field changes its meaning or goes, not when one is added.
pub const VERSION: u32 = 1;

/// The open file.
#[derive(Debug)]
pub struct Jsonl {
    file: Appended,
}

impl Jsonl {
    /// Opens or makes `metrics.jsonl` in `output`, drops a half-written last line, and adds a `start` line, or a `resume`
    /// line where `from_step` is not 0.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn open(output: &Path, name: &str, steps: u64, from_step: u64) -> io::Result<Self> {
        let mut jsonl = Self { file: Appended::lines(&output.join(FILE))? };
        let event = if from_step == 0 { "start" } else { "resume" };
        jsonl.write(event, json!({ "run": name, "step": from_step, "steps": steps }))?;
        Ok(jsonl)
    }

    /// One line: what happened, the version, seconds since 1970, then the fields of the event.
    fn write(&mut self, event: &str, fields: Value) -> io::Result<()> {
        let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
        let mut record = json!({ "event": event, "version": VERSION, "time": milliseconds as f64 / 1e3 });
        if let (Value::Object(record), Value::Object(fields)) = (&mut record, fields) {
            record.extend(fields);
        }
        self.file.append(format!("{record}\n").as_bytes())
    }
}

impl Log for Jsonl {
    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        let sources = progress.sources.iter().map(|(name, loss)| (name.clone(), json!({ "loss": loss })));
        let fields = json!({
            "step": progress.step,
            "stage": progress.stage,
            "tokens": progress.tokens,
            "loss": progress.loss,
            "grad_norm": progress.grad_norm,
            "lr": progress.lr,
            "tokens_per_second": progress.tokens_per_second,
            "mfu": progress.mfu,
            "memory_bytes": progress.memory,
            "data_wait": progress.waited,
            "skipped": progress.skipped,
            "communicated_bytes": progress.communicated,
            "eta_seconds": progress.eta.as_secs(),
            "sources": sources.collect::<Map<_, _>>(),
        });
        self.write("train", fields)
    }

    fn validation(&mut self, validation: &Validation) -> io::Result<()> {
        let sources = validation.sources.iter().map(|source| {
            let SourceLoss { name, loss, tokens } = source;
            (name.clone(), json!({ "loss": loss, "perplexity": source.perplexity(), "tokens": tokens }))
        });
        let fields = json!({
            "step": validation.step,
            "tokens": validation.tokens,
            "sources": sources.collect::<Map<_, _>>(),
        });
        self.write("validation", fields)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Every validation that a `metrics.jsonl` tells of and that still counts, in order of steps. Lines that are no JSON, of
/// other events or without the fields of a validation are passed over.
///
/// # Errors
/// A file that cannot be read, or is none.
pub fn validations(path: &Path) -> io::Result<Vec<Validation>> {
    let mut found: Vec<Validation> = Vec::new();
    let mut file = BufReader::new(own::open(path, OpenOptions::new().read(true))?);
    let mut line = Vec::new();
    while next_line(&mut file, &mut line)? {
        let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
        match record["event"].as_str() {
            Some("start") => found.clear(),
            Some("resume") => {
                if let Some(step) = record["step"].as_u64() {
                    found.retain(|validation| validation.step <= step);
                }
            }
            Some("validation") => {
                if let Some(validation) = parse(&record) {
                    // Measured again after a resume: the newer one stands for the step.
                    found.retain(|earlier| earlier.step != validation.step);
                    found.push(validation);
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Most bytes of a line that is looked at.
const LONGEST: u64 = 1 << 20;

/// Reads the next line, of whatever bytes; one that is longer than any record is read past, and comes as an empty one.
fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    if file.by_ref().take(LONGEST).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
        line.clear();
        file.skip_until(b'\n')?;
    }
    Ok(true)
}

fn parse(record: &Value) -> Option<Validation> {
    let source = |(name, source): (&String, &Value)| {
        let loss = if source["loss"].is_null() { f64::NAN } else { source["loss"].as_f64()? };
        Some(SourceLoss { name: name.clone(), loss, tokens: source["tokens"].as_u64()? })
    };
    Some(Validation {
        step: record["step"].as_u64()?,
        tokens: record["tokens"].as_u64()?,
        sources: record["sources"].as_object()?.iter().map(source).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn progress(step: u64) -> Progress {
        Progress {
            step,
            steps: 400,
            stage: "main".to_owned(),
            tokens: step * 16_384,
            loss: 3.25,
            grad_norm: 0.5,
            lr: 3e-4,
            tokens_per_second: 12_345.5,
            mfu: None,
            communicated: None,
            memory: 3_100_000_000,
            waited: 0.125,
            skipped: 0,
            sources: vec![("tool_docs".to_owned(), 3.5), ("code".to_owned(), 3.0)],
            eta: Duration::from_secs(130),
        }
    }

    fn validation(step: u64, loss: f64) -> Validation {
        let source = |name: &str, loss| SourceLoss { name: name.to_owned(), loss, tokens: 512 };
        Validation { step, tokens: step * 16_384, sources: vec![source("text", loss), source("code", 2.0 * loss)] }
    }

    /// The lines without the time, which differs from run to run.
    fn lines(folder: &Path) -> String {
        let text = fs_err::read_to_string(folder.join(FILE)).unwrap();
        let timeless = text.lines().map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            assert!(record.as_object_mut().unwrap().shift_remove("time").unwrap().as_f64().unwrap() > 1.7e9);
            format!("{record}\n")
        });
        timeless.collect()
    }

    #[test]
    fn every_event_is_a_line_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let mut jsonl = Jsonl::open(folder.path(), "quick", 400, 0).unwrap();
        jsonl.validation(&validation(0, 0.0)).unwrap();
        jsonl.progress(&progress(10)).unwrap();
        jsonl.progress(&Progress { loss: f64::NAN, mfu: Some(0.5), sources: vec![], ..progress(20) }).unwrap();
        drop(jsonl);
        drop(Jsonl::open(folder.path(), "quick", 400, 10).unwrap());
        insta::assert_snapshot!(lines(folder.path()), @r#"
        {"event":"start","version":1,"run":"quick","step":0,"steps":400}
        {"event":"validation","version":1,"step":0,"tokens":0,"sources":{"text":{"loss":0.0,"perplexity":1.0,"tokens":512},"code":{"loss":0.0,"perplexity":1.0,"tokens":512}}}
        {"event":"train","version":1,"step":10,"stage":"main","tokens":163840,"loss":3.25,"grad_norm":0.5,"lr":0.0003,"tokens_per_second":12345.5,"mfu":null,"memory_bytes":3100000000,"data_wait":0.125,"skipped":0,"communicated_bytes":null,"eta_seconds":130,"sources":{"tool_docs":{"loss":3.5},"code":{"loss":3.0}}}
        {"event":"train","version":1,"step":20,"stage":"main","tokens":327680,"loss":null,"grad_norm":0.5,"lr":0.0003,"tokens_per_second":12345.5,"mfu":0.5,"memory_bytes":3100000000,"data_wait":0.125,"skipped":0,"communicated_bytes":null,"eta_seconds":130,"sources":{}}
        {"event":"resume","version":1,"run":"quick","step":10,"steps":400}
        "#);
    }

    #[test]
    fn a_line_that_a_killed_run_left_half_is_dropped_and_the_file_stays_valid() {
        let folder = tempfile::tempdir().unwrap();
        drop(Jsonl::open(folder.path(), "quick", 400, 0).unwrap());
        let path = folder.path().join(FILE);
        let whole = fs_err::read_to_string(&path).unwrap();
        fs_err::write(&path, format!("{whole}{{\"event\":\"tra")).unwrap();
        drop(Jsonl::open(folder.path(), "quick", 400, 100).unwrap());
        assert_eq!(lines(folder.path()).lines().count(), 2);
    }

    #[test]
    fn validations_after_the_step_of_a_resume_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Jsonl::open(folder.path(), "quick", 400, 0).unwrap();
        for (step, loss) in [(0, 9.0), (100, 5.0), (200, 4.0), (300, 3.5)] {
            first.validation(&validation(step, loss)).unwrap();
        }
        let mut second = Jsonl::open(folder.path(), "quick", 400, 200).unwrap();
        second.validation(&validation(200, 4.0)).unwrap();
        second.progress(&progress(210)).unwrap();
        second.validation(&validation(300, 3.25)).unwrap();
        let expected = [(0, 9.0), (100, 5.0), (200, 4.0), (300, 3.25)].map(|(step, loss)| validation(step, loss));
        assert_eq!(validations(&folder.path().join(FILE)).unwrap(), expected);
    }

    #[test]
    fn nothing_before_a_new_start_counts() {
        let folder = tempfile::tempdir().unwrap();
        Jsonl::open(folder.path(), "old", 400, 0).unwrap().validation(&validation(100, 5.0)).unwrap();
        Jsonl::open(folder.path(), "new", 400, 0).unwrap().validation(&validation(0, 9.0)).unwrap();
        assert_eq!(validations(&folder.path().join(FILE)).unwrap(), [validation(0, 9.0)]);
    }
}
