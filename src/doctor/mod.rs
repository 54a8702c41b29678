//! What a machine has and what it can do, checked and measured: the first thing to run on a new node, and the test suite of
//! machines without a compiler.
//!
//! `machine` looks at libraries, devices and the disk; `ceilings` measures what nothing can exceed; `functions` holds
//! every fused function against its twin and against those ceilings; `steps` trains a few.

mod ceilings;
mod functions;
mod machine;
mod steps;

use std::io::Write;
use std::time::Instant;

use tch::{Cuda, Device, TchError};

/// What was looked at, and what was seen.
#[derive(Debug)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// What to make of it.
    pub verdict: Verdict,
}

/// What to make of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is wrong.
    Note(String),
    /// Training here would fail or compute something else.
    Bad(String),
}

/// Looks at everything on `device`, prints each finding as it is made, and returns how many are bad.
///
/// # Errors
/// What cannot be printed.
pub fn examine(device: Device, out: &mut dyn Write) -> std::io::Result<usize> {
    let mut bad = 0;
    let mut tell = |finding: Finding| -> std::io::Result<()> {
        let (mark, words) = match &finding.verdict {
            Verdict::Good => ("ok", ""),
            Verdict::Note(words) => ("note", words.as_str()),
            Verdict::Bad(words) => {
                bad += 1;
                ("BAD", words.as_str())
            }
        };
        let line = format!("{mark:<5} {:<32} {}  {words}", finding.what, finding.seen);
        writeln!(out, "{}", line.trim_end())
    };
    for finding in machine::findings(device) {
        tell(finding)?;
    }
    let (ceilings, findings) = ceilings::measure(device);
    for finding in findings {
        tell(finding)?;
    }
    for finding in functions::findings(device, ceilings.as_ref()) {
        tell(finding)?;
    }
    for finding in steps::findings(device, ceilings.as_ref()) {
        tell(finding)?;
    }
    Ok(bad)
}

/// Median seconds of a call, the device waited for: five samples, each of as many calls as take a few milliseconds.
fn seconds(device: Device, mut call: impl FnMut() -> Result<(), TchError>) -> Result<f64, TchError> {
    const SAMPLES: usize = 5;
    const SAMPLE: f64 = 5e-3;
    let mut sample = |calls: u32| -> Result<f64, TchError> {
        wait(device);
        let begin = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        wait(device);
        Ok(begin.elapsed().as_secs_f64() / f64::from(calls))
    };
    sample(2)?;
    let calls = (SAMPLE / sample(1)?.max(1e-9)).clamp(1.0, 100.0) as u32;
    let mut samples = (0..SAMPLES).map(|_| sample(calls)).collect::<Result<Vec<_>, _>>()?;
    samples.sort_by(f64::total_cmp);
    Ok(samples[SAMPLES / 2])
}

fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}
