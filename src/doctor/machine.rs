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
    let cuda = match versions.cuda {
        Some((major, minor)) => format!("{major}.{minor}"),
        None => "none".to_owned(),
    };
    let is_gpu = device.is_cuda();
    let kernels = match (ffi::has_kernels(), is_gpu) {
        (true, _) => Verdict::Good,
        (false, true) => Verdict::Bad("built without kernels: build where nvcc is (CUDA_HOME)".to_owned()),
        (false, false) => Verdict::Note("built without kernels for GPUs".to_owned()),
    };
    findings.push(Finding { what: "CUDA".to_owned(), seen: cuda, verdict: kernels });
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
