//! What this process uses of the machine, as Linux counts it.

use anyhow::{Context as _, Result};

/// Begins to look for the most memory anew.
pub(crate) fn forget_peak() -> Result<()> {
    Ok(fs_err::write("/proc/self/clear_refs", "5")?)
}

/// Most memory this process had resident, in MiB.
pub(crate) fn peak_mib() -> Result<f64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let kib = status.split("VmHWM:").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("/proc/self/status has no VmHWM")?.parse::<f64>()? / 1024.0)
}

/// CPU time of all threads: fields 14 and 15 of proc(5)'s stat, in hundredths of a second.
pub(crate) fn cpu_seconds() -> Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("/proc/self/stat has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
