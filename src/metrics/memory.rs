//! Memory of this process, as the system counts it.

/// Bytes of this process that are in memory now; 0 where the system has no `/proc/self/status`.
#[must_use]
pub fn resident() -> u64 {
    fs_err::read_to_string("/proc/self/status").ok().and_then(|status| field(&status, "VmRSS:")).unwrap_or(0)
}

/// A field of `/proc/PID/status` (proc_pid_status(5)), in bytes; unlike `statm` it needs no page size.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t1\n";
        assert_eq!(field(status, "VmRSS:"), Some(10 << 20));
        assert_eq!(field("Name:\tx\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_written_to_is_resident() {
        let held = vec![1_u8; 64 << 20];
        assert!(resident() >= held.len() as u64);
    }
}
