//! Causal attention inside each segment of a packed batch, through libtorch's fused kernels.
//!
//! N tokens, H query heads, K key and value heads, D head size, S segments, T tokens of one segment.

use std::sync::Once;
use std::time::{Duration, Instant};

use tch::{Cuda, Device, Kind, TchError, Tensor};

use super::config::ModelConfig;
use super::segments::Segments;
use super::twins::{self, Size, Twin};
use crate::ffi;

/// Attends `[N, H, D]` queries to `[N, K, D]` keys and values of the same segment at or before them; `window` bounds how
/// far back, the token itself included. Returns `[N, H, D]`. With `batched` segments of one length go through libtorch's
/// attention over batches on a GPU too.
pub fn attend([q, k, v]: [&Tensor; 3], segments: &Segments, window: Option<usize>, batched: bool) -> Tensor {
    // One that cuts nothing is none.
    let window = window.map(|window| window as i64).filter(|window| *window < segments.longest());
    let batched = batched && window.is_none() && segments.uniform().is_some();
    if let Some(ends) = segments.ends().filter(|_| q.kind() == Kind::BFloat16 && ffi::fuses() && !batched) {
        match ffi::attend_on_gpu([q, k, v], ends, segments.longest(), window) {
            Ok(y) => return y,
            Err(error) => {
                static TOLD: Once = Once::new();
                TOLD.call_once(|| tracing::warn!(%error, "attention goes over documents one by one, which is slow"));
            }
        }
    }
    if let Some(length) = segments.uniform() {
        // All at once, as a batch of segments: [S, heads, T, D].
        let batched = |x: &Tensor| x.unflatten(0, [-1, length].as_slice()).transpose(1, 2);
        return mixed(&batched(q), &batched(k), &batched(v), length, window).transpose(1, 2).flatten(0, 1);
    }
    if q.device() == Device::Cpu && window.is_none() && ffi::fuses() {
        let group = q.size()[1] / k.size()[1];
        let spread =
            |x: &Tensor| if group == 1 { x.shallow_clone() } else { x.repeat_interleave_self_int(group, 1, None) };
        if let Some(y) = ffi::fused("attend", ffi::attend(q, &spread(k), &spread(v), segments.lengths())) {
            return y;
        }
    }
    by_segment(q, k, v, segments, window)
}

/// Whether on this GPU libtorch's attention over batches, for which it has cuDNN besides FlashAttention, takes less time than
/// that over packed segments, forward and backward, where rows of `length` tokens are a segment each. Where it refuses, or
/// computes something else, it does not.
///
/// # Errors
/// Operands that do not fit into memory.
pub fn is_batched_faster(config: &ModelConfig, device: Device, length: i64) -> Result<bool, TchError> {
    const RUNS: usize = 5;
    let Device::Cuda(index) = device else { return Ok(false) };
    // Others go by way of all scores in memory.
    if !config.head_dim.is_multiple_of(8) || config.head_dim > 128 || !ffi::has_kernels() {
        return Ok(false);
    }
    // Enough to tell them apart, and little beside a model.
    let length = length.clamp(16, 8192);
    let segments = Segments::new(vec![length; (8192 / length) as usize], device)?;
    let tokens: i64 = segments.lengths().iter().sum();
    let draw = |heads: usize| -> Result<Tensor, TchError> {
        let shape = [tokens, heads as i64, config.head_dim as i64];
        Tensor::f_randn(shape, (Kind::BFloat16, device))?.f_set_requires_grad(true)
    };
    let (q, k, v) = (draw(config.heads)?, draw(config.kv_heads)?, draw(config.kv_heads)?);
    let dy = draw(config.heads)?.detach();
    let run = |batched| -> Result<[Tensor; 4], TchError> {
        ffi::forget_gradients(&[q.shallow_clone(), k.shallow_clone(), v.shallow_clone()])?;
        let y = attend([&q, &k, &v], &segments, None, batched);
        ffi::backward(std::slice::from_ref(&y), std::slice::from_ref(&dy))?;
        Ok([y.detach(), q.grad(), k.grad(), v.grad()])
    };
    let timed = |batched| -> Result<Duration, TchError> {
        Cuda::synchronize(index as i64);
        let begin = Instant::now();
        for _ in 0..RUNS {
            drop(run(batched)?);
        }
        Cuda::synchronize(index as i64);
        Ok(begin.elapsed() / RUNS as u32)
    };
    let apart = twins::largest(run(true)?.iter().zip(run(false)?).map(|(a, b)| twins::difference(a, &b)));
    // No number is no agreement.
    let agrees = apart < 1e-2;
    let (batches, packed) = (timed(true)?, timed(false)?);
    tracing::debug!(?batches, ?packed, apart, "attention");
    Ok(agrees && batches < packed)
}

/// What the fused function computes, by libtorch's operations: a call a segment.
fn by_segment(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, window: Option<i64>) -> Tensor {
    let split = |x: &Tensor| x.split_with_sizes(segments.lengths(), 0);
    let one = |x: &Tensor| x.transpose(0, 1).unsqueeze(0); // [1, heads, T, D]
    let all: Vec<Tensor> = split(q)
        .iter()
        .zip(split(k).iter().zip(&split(v)))
        .zip(segments.lengths())
        .map(|((q, (k, v)), length)| mixed(&one(q), &one(k), &one(v), *length, window).squeeze_dim(0).transpose(0, 1))
        .collect();
    Tensor::cat(&all, 0)
}

/// `[S, H, T, D]` from queries of that shape and `[S, K, T, D]` keys and values.
fn mixed(q: &Tensor, k: &Tensor, v: &Tensor, length: i64, window: Option<i64>) -> Tensor {
    let grouped = q.size()[1] != k.size()[1];
    let window = window.filter(|window| *window < length);
    let mask = window.map(|window| {
        let all = Tensor::ones([length, length], (Kind::Bool, q.device()));
        all.tril(0).logical_and(&all.triu(1 - window)) // [T, T], true where a query may look
    });
    Tensor::scaled_dot_product_attention(q, k, v, mask.as_ref(), 0.0, mask.is_none(), None, grouped)
}

/// Attention beside its twin: heads that share keys, with a window that cuts and without one.
pub(super) fn twins(size: &Size) -> Vec<Twin> {
    let Size { heads, kv_heads, head, .. } = *size;
    let n = size.tokens();
    let shapes: [&[i64]; 3] = [&[n, heads, head], &[n, kv_heads, head], &[n, kv_heads, head]];
    let twin = |name, window: Option<usize>| {
        let lengths = size.segments.clone();
        let segments = move |device| Segments::new(lengths.clone(), device);
        let plain_segments = segments.clone();
        let fused = move |x: &[Tensor]| {
            let segments = segments(x[0].device())?;
            Ok(vec![attend([&x[0], &x[1], &x[2]], &segments, window, false)])
        };
        Twin::new(name, &shapes, fused, move |x| {
            let segments = plain_segments(x[0].device()).expect("a list of integers");
            vec![by_segment(&x[0], &x[1], &x[2], &segments, window.map(|window| window as i64))]
        })
    };
    vec![
        twin("attention", None),
        twin("attention, window", Some(size.segments.iter().max().map_or(1, |most| *most as usize / 2 + 1))),
    ]
}
