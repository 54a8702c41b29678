//! Libraries, devices, and the disk.

use tch::Device;

use super::{Finding, Verdict};
use crate::ffi;
use crate::figures::size;

/// Room below which a checkpoint of a small model may not fit.
const ROOM: u64 = 10 << 30;

/// What the program runs on.
pub(super) fn findings(device: Device) -> Vec<Finding> {
    let versions = ffi::versions();
    let mut findings = vec![Finding { what: "libtorch".to_owned(), seen: versions.libtorch, verdict: Verdict::Good }];
    let kernels = match (ffi::has_kernels(), device.is_cuda()) {
        (true, _) => Verdict::Good,
        (false, true) => Verdict::Bad("built without kernels: build where nvcc is (CUDA_HOME)".to_owned()),
        (false, false) => Verdict::Note("built without kernels for GPUs".to_owned()),
    };
    findings.push(Finding { what: "CUDA".to_owned(), seen: dotted(versions.cuda), verdict: kernels });
    findings.push(driver(versions.cuda, ffi::driver_version(), device.is_cuda()));
    let nccl = ffi::nccl_version().map(|(major, minor, patch)| format!("{major}.{minor}.{patch}"));
    let verdict = match nccl {
        Some(_) => Verdict::Good,
        None => Verdict::Note("several GPUs take a libtorch with NCCL".to_owned()),
    };
    findings.push(Finding { what: "NCCL".to_owned(), seen: nccl.unwrap_or_else(|| "none".to_owned()), verdict });
    let devices: Vec<_> = (0..).map_while(ffi::cuda_device).collect();
    for (index, gpu) in devices.iter().enumerate() {
        let (major, minor) = gpu.capability;
        let seen = format!("{}, {}, compute capability {major}.{minor}", gpu.name, size(gpu.memory));
        findings.push(Finding { what: format!("GPU {index}"), seen, verdict: Verdict::Good });
    }
    if devices.is_empty() {
        let verdict = Verdict::Note("training runs on the CPU".to_owned());
        findings.push(Finding { what: "GPU".to_owned(), seen: "none".to_owned(), verdict });
    }
    findings.push(disk());
    findings
}

fn dotted(version: Option<(u32, u32)>) -> String {
    version.map_or("none".to_owned(), |(major, minor)| format!("{major}.{minor}"))
}

/// The driver, by the newest CUDA it runs: one of an older major version runs none of this libtorch's kernels.
fn driver(cuda: Option<(u32, u32)>, newest: Option<(u32, u32)>, is_gpu: bool) -> Finding {
    let seen = newest.map_or("none".to_owned(), |_| format!("for CUDA up to {}", dotted(newest)));
    let verdict = match (cuda, newest) {
        (Some((needed, _)), Some((major, _))) if major < needed => {
            Verdict::Bad(format!("libtorch needs one for CUDA {needed}: install a newer driver"))
        }
        (_, None) if is_gpu => Verdict::Bad("libcuda.so.1 is not to be found".to_owned()),
        _ => Verdict::Good,
    };
    Finding { what: "driver".to_owned(), seen, verdict }
}

fn disk() -> Finding {
    let what = "disk, this folder".to_owned();
    match rustix::fs::statvfs(".") {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let verdict = match free < ROOM {
                true => Verdict::Note("little room for checkpoints".to_owned()),
                false => Verdict::Good,
            };
            Finding { what, seen: format!("{} free", size(free)), verdict }
        }
        Err(error) => Finding { what, seen: error.to_string(), verdict: Verdict::Note("not known".to_owned()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_older_than_libtorch_is_bad() {
        let verdict = |newest| driver(Some((13, 0)), newest, true).verdict;
        assert!(matches!(verdict(Some((12, 8))), Verdict::Bad(text) if text.contains("CUDA 13")));
        assert!(matches!(verdict(None), Verdict::Bad(_)));
        assert_eq!(verdict(Some((13, 2))), Verdict::Good);
        assert_eq!(driver(Some((13, 0)), None, false).verdict, Verdict::Good);
    }
}
