//! Every fused function against its twin and, where memory bounds it, against how fast memory is copied.

use tch::{Device, Kind, TchError};

use super::ceilings::Ceilings;
use super::{Finding, Verdict, seconds, steps};
use crate::model::twins::{self, Size, Twin};

/// Largest relative difference from the twin in fp32; twins say their own in bf16.
const TOLERANCE: f64 = 1e-5;
/// Share of the rate of a copy that a function bounded by memory should reach on a GPU.
const SHARE: f64 = 0.8;

/// A finding a function and element type.
pub(super) fn findings(device: Device, ceilings: Option<&Ceilings>) -> impl Iterator<Item = Finding> {
    let ceilings = ceilings.copied();
    // Small for what is right, with odd shapes too; for how fast it is, a layer of an 8B model on a GPU.
    let small = Size {
        segments: vec![1, 70, 13, 120],
        width: 256,
        inner: 688,
        heads: 4,
        kv_heads: 2,
        head: 64,
        vocabulary: 4096,
    };
    let odd = Size { segments: vec![51; 4], width: 91, inner: 37, heads: 3, kv_heads: 3, head: 24, vocabulary: 301 };
    let large = match device {
        Device::Cuda(_) => Size {
            segments: vec![4096, 2048, 1024, 1000, 24],
            width: 4096,
            inner: 14336,
            heads: 32,
            kv_heads: 8,
            head: 128,
            vocabulary: 128_256,
        },
        _ => Size { segments: vec![160; 6], ..small.clone() },
    };
    let sizes = [twins::all(&small), twins::all(&odd), twins::all(&large)];
    let count = sizes[0].len();
    (0..count).flat_map(move |at| {
        let [small, odd, large] = [&sizes[0][at], &sizes[1][at], &sizes[2][at]];
        // Where no tensor core has FP8, training in it is refused, and libtorch refuses the product.
        let is_there = !small.name.contains("fp8") || steps::has_fp8(device);
        let kinds = [(Kind::Float, "fp32", TOLERANCE), (Kind::BFloat16, "bf16", small.tolerance)];
        let of = move |kind| finding([small, odd, large], kind, device, ceilings);
        kinds.into_iter().filter(move |_| is_there).map(of).collect::<Vec<_>>()
    })
}

fn finding(
    sizes: [&Twin; 3],
    (kind, name, tolerance): (Kind, &str, f64),
    device: Device,
    ceilings: Option<Ceilings>,
) -> Finding {
    let what = format!("{}, {name}", sizes[0].name);
    let apart = sizes.iter().map(|twin| twin.difference(kind, device)).collect::<Result<Vec<_>, TchError>>();
    let apart = match apart {
        Ok(apart) => twins::largest(apart),
        Err(error) => return Finding { what, seen: "failed".to_owned(), verdict: Verdict::Bad(error.to_string()) },
    };
    let mut seen = format!("off by {apart:.1e}");
    // Not `>`: no number is no agreement.
    let is_same = apart <= tolerance;
    let mut verdict = match is_same {
        true => Verdict::Good,
        false => Verdict::Bad(format!("over {tolerance:.0e}: computes something else")),
    };
    let large = sizes[2];
    let took = large.operands(kind, device).and_then(|operands| seconds(device, || large.exercise(&operands)));
    match took {
        Ok(took) => {
            seen += &format!(" {:>10.3} ms", 1e3 * took);
            // On a CPU operands stay in its caches, and a copy is no measure.
            if let (Some(elements), Some(ceilings), true) = (large.moved, ceilings, device.is_cuda()) {
                let bytes = elements * if kind == Kind::Float { 4 } else { 2 };
                let share = bytes as f64 / took / ceilings.copy;
                seen += &format!(" {:>4.0} % of a copy's rate", 100.0 * share);
                if share < SHARE && is_same {
                    verdict = Verdict::Note("slow".to_owned());
                }
            }
        }
        Err(error) => verdict = Verdict::Bad(error.to_string()),
    }
    Finding { what, seen, verdict }
}
