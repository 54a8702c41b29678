//! Causal attention inside each segment of a packed batch, through libtorch's fused kernels.
//!
//! N tokens, H query heads, K key and value heads, D head size, S segments, T tokens of one segment.

use tch::{Kind, Tensor};

use super::segments::Segments;
use crate::ffi;

/// Attends `[N, H, D]` queries to `[N, K, D]` keys and values of the same segment at or before them; `window` bounds how
/// far back, the token itself included. Returns `[N, H, D]`.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, window: Option<usize>) -> Tensor {
    if let Some(length) = segments.uniform() {
        // All at once, as a batch of segments: [S, heads, T, D].
        let batched = |x: &Tensor| x.unflatten(0, [-1, length].as_slice()).transpose(1, 2);
        return mixed(&batched(q), &batched(k), &batched(v), length, window).transpose(1, 2).flatten(0, 1);
    }
    if ffi::takes(q) && window.is_none_or(|window| segments.lengths().iter().all(|length| *length <= window as i64)) {
        let group = q.size()[1] / k.size()[1];
        let spread =
            |x: &Tensor| if group == 1 { x.shallow_clone() } else { x.repeat_interleave_self_int(group, 1, None) };
        if let Some(y) = ffi::fused("attend", ffi::attend(q, &spread(k), &spread(v), segments.lengths())) {
            return y;
        }
    }
    by_segment(q, k, v, segments, window)
}

/// What the fused function computes, by libtorch's operations: a call a segment.
fn by_segment(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, window: Option<usize>) -> Tensor {
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
fn mixed(q: &Tensor, k: &Tensor, v: &Tensor, length: i64, window: Option<usize>) -> Tensor {
    let grouped = q.size()[1] != k.size()[1];
    let window = window.map(|window| window as i64).filter(|window| *window < length);
    let mask = window.map(|window| {
        let all = Tensor::ones([length, length], (Kind::Bool, q.device()));
        all.tril(0).logical_and(&all.triu(1 - window)) // [T, T], true where a query may look
    });
    Tensor::scaled_dot_product_attention(q, k, v, mask.as_ref(), 0.0, mask.is_none(), None, grouped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::twins::agree;

    #[test]
    fn attention_over_all_segments_at_once_is_that_of_each() {
        let segments = Segments::new(vec![1, 70, 13, 120]);
        let plain = |x: &[Tensor]| vec![by_segment(&x[0], &x[1], &x[2], &segments, None)];
        let fused = |x: &[Tensor]| vec![ffi::attend(&x[0], &x[1], &x[2], segments.lengths()).unwrap()];
        agree(&[Kind::Float, Kind::BFloat16], &[&[204_i64, 4, 16][..]; 3], fused, plain);
    }

    #[test]
    fn heads_that_share_keys_and_windows_that_cut_none_change_nothing() {
        let segments = Segments::new(vec![1, 70, 13, 120]);
        let shapes: [&[i64]; 3] = [&[204, 4, 16], &[204, 2, 16], &[204, 2, 16]];
        let plain = |x: &[Tensor]| vec![by_segment(&x[0], &x[1], &x[2], &segments, None)];
        let fused = |x: &[Tensor]| vec![attend(&x[0], &x[1], &x[2], &segments, Some(120))];
        agree(&[Kind::Float], &shapes, fused, plain);
    }
}
