//! What nothing on a device exceeds: how fast memory is copied, how fast large matrices are multiplied.

use tch::{Device, Kind, TchError, Tensor};

use super::{Finding, Verdict, seconds};

/// What was measured of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    /// Bytes a second of a large copy, reads and writes together.
    pub(super) copy: f64,
    /// FLOP/s of a large bf16 product.
    pub(super) product: f64,
}

/// Measures both.
pub(super) fn measure(device: Device) -> (Option<Ceilings>, Vec<Finding>) {
    match try_measure(device) {
        Ok(ceilings) => {
            let findings = vec![
                finding("memory, copied", format!("{:.0} GB/s", ceilings.copy / 1e9)),
                finding("matrix product, bf16", format!("{:.2} TFLOP/s", ceilings.product / 1e12)),
            ];
            (Some(ceilings), findings)
        }
        Err(error) => {
            let verdict = Verdict::Bad(error.to_string());
            let finding = Finding { what: "memory and matrix products".to_owned(), seen: "failed".to_owned(), verdict };
            (None, vec![finding])
        }
    }
}

fn finding(what: &str, seen: String) -> Finding {
    Finding { what: what.to_owned(), seen, verdict: Verdict::Good }
}

fn try_measure(device: Device) -> Result<Ceilings, TchError> {
    let (elements, side) = if device.is_cuda() { (1_i64 << 29, 8192_i64) } else { (1 << 25, 1024) };
    let from = Tensor::f_randn([elements / 8], (Kind::Float, device))?.f_repeat([8])?.f_to_kind(Kind::BFloat16)?;
    let mut to = from.f_empty_like()?;
    let copy = seconds(device, || to.f_copy_(&from).map(drop))?;
    let draw = || Tensor::f_randn([side, side], (Kind::BFloat16, device));
    let (a, b) = (draw()?, draw()?);
    let product = seconds(device, || a.f_matmul(&b).map(drop))?;
    let flops = 2.0 * (side as f64).powi(3);
    Ok(Ceilings { copy: 4.0 * elements as f64 / copy, product: flops / product })
}
