//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864) in Hugging Face's layout: the first half of a head turns
//! with the second.
//!
//! N tokens, H query heads, K key heads, D head size.

use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor};

use super::config::{ModelConfig, RopeScaling};
use super::twins::{Size, Twin};
use crate::ffi;

/// The frequencies of a model.
#[derive(Debug)]
pub struct Rope {
    /// `[D / 2]` fp32 radians a position.
    frequencies: Tensor,
}

/// The rotation of each token of a batch, the same for every layer.
#[derive(Debug)]
pub struct Rotation {
    /// `[N, 1, D]`
    cos: Tensor,
    /// `[N, 1, D]`
    sin: Tensor,
}

impl Rope {
    /// The frequencies `config` asks for.
    #[must_use]
    pub fn new(config: &ModelConfig, device: Device) -> Self {
        Self { frequencies: Tensor::from_slice(&frequencies(config)).to_device(device) }
    }

    /// Rotations by `positions` `[N]`: angles in fp32, their cosines and sines as `kind`.
    #[must_use]
    pub fn at(&self, positions: &Tensor, kind: Kind) -> Rotation {
        let angles = positions.to_kind(Kind::Float).outer(&self.frequencies); // [N, D / 2]
        let angles = Tensor::cat(&[&angles, &angles], -1).unsqueeze(1); // [N, 1, D]
        Rotation { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }
}

impl Rotation {
    /// Turns `[N, H, D]` queries and `[N, K, D]` keys.
    pub fn apply(&self, q: &Tensor, k: &Tensor) -> (Tensor, Tensor) {
        if ffi::takes(q)
            && let Some(both) = ffi::fused("rotate", ffi::rotate(q, k, &self.cos, &self.sin))
        {
            return both;
        }
        (self.plain(q), self.plain(k))
    }

    /// What the fused function computes of each, by libtorch's operations.
    fn plain(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let turned = Tensor::cat(&[&-&halves[1], &halves[0]], -1);
        x * &self.cos + turned * &self.sin
    }
}

/// Radians a position for each pair of a head's components.
///
/// Llama 3.1 leaves short wavelengths alone, divides long ones by `factor`, and blends between (section 3.2 of
/// arXiv 2407.21783 names the method; the blend is linear in the number of turns over the original context).
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let d = config.head_dim;
    let plain = (0..d / 2).map(|pair| config.rope_theta.powf(-((2 * pair) as f64) / d as f64));
    let stretch = |frequency: f64| match &config.rope_scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
            let turns = *original_positions as f64 * frequency / TAU;
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / factor)
        }
    };
    plain.map(|frequency| stretch(frequency) as f32).collect()
}

/// The rotation beside its twin.
pub(super) fn twins(size: &Size) -> Vec<Twin> {
    let Size { heads, kv_heads, head, .. } = *size;
    let n = size.tokens();
    let rotation = move |like: &Tensor| {
        let frequencies: Vec<_> = (0..head / 2).map(|pair| 0.7_f32.powi(pair as i32)).collect();
        let rope = Rope { frequencies: Tensor::from_slice(&frequencies).to_device(like.device()) };
        rope.at(&Tensor::arange(n, (Kind::Int64, like.device())).fmod(50), like.kind())
    };
    let fused = move |x: &[Tensor]| {
        let Rotation { cos, sin } = rotation(&x[0]);
        ffi::rotate(&x[0], &x[1], &cos, &sin).map(|(q, k)| vec![q, k])
    };
    let plain = move |x: &[Tensor]| x.iter().map(|x| rotation(x).plain(x)).collect();
    let twin = Twin::new("rotate", &[&[n, heads, head], &[n, kv_heads, head]], fused, plain);
    vec![twin.moving(4 * n * (heads + kv_heads + 1) * head)]
}
