//! One decoder layer: attention and MLP, each on a normalised residual stream.
//!
//! N tokens, H query heads, K key and value heads, D head size, C width, F MLP width.

use tch::{TchError, Tensor};

use super::attention::attend;
use super::config::ModelConfig;
use super::linear::{Linear, norm_linear, swiglu_linear};
use super::norm::rms_norm;
use super::parameters::Parameters;
use super::rope::Rotation;
use super::segments::Segments;

/// One layer's weights and settings.
#[derive(Debug)]
pub(super) struct Layer {
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    eps: f64,
    window: Option<usize>,
    pub(super) batched: bool,
    input_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Weights `[D]` of the norms of each query and key head.
    qk_norm: Option<(Tensor, Tensor)>,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    /// Layer `index` of a model; it shares the parameters' storage and gradients.
    pub(super) fn new(config: &ModelConfig, parameters: &Parameters, index: usize) -> Result<Self, TchError> {
        let get = |tail: &str| take(parameters, &format!("model.layers.{index}.{tail}"));
        let linear = |name: &str, bias: bool| -> Result<Linear, TchError> {
            let weight = get(&format!("{name}.weight"))?;
            let bias = if bias { Some(get(&format!("{name}.bias"))?) } else { None };
            Ok(Linear { weight, bias, fp8: false })
        };
        let qk_norm = if config.qk_norm {
            Some((get("self_attn.q_norm.weight")?, get("self_attn.k_norm.weight")?))
        } else {
            None
        };
        Ok(Self {
            heads: config.heads as i64,
            kv_heads: config.kv_heads as i64,
            head_dim: config.head_dim as i64,
            eps: config.norm_eps,
            window: config.sliding_window,
            batched: false,
            input_norm: get("input_layernorm.weight")?,
            query: linear("self_attn.q_proj", config.qkv_bias)?,
            key: linear("self_attn.k_proj", config.qkv_bias)?,
            value: linear("self_attn.v_proj", config.qkv_bias)?,
            output: linear("self_attn.o_proj", config.output_bias)?,
            qk_norm,
            mlp_norm: get("post_attention_layernorm.weight")?,
            gate: linear("mlp.gate_proj", config.mlp_bias)?,
            up: linear("mlp.up_proj", config.mlp_bias)?,
            down: linear("mlp.down_proj", config.mlp_bias)?,
        })
    }

    /// Its products in FP8, or in the type of its weights.
    pub(super) fn set_fp8(&mut self, fp8: bool) {
        let Self { query, key, value, output, gate, up, down, .. } = self;
        [query, key, value, output, gate, up, down].into_iter().for_each(|linear| linear.fp8 = fp8);
    }

    /// `[N, C]` to `[N, C]`. Without `keep` the backward pass computes norms and the product inside the MLP again.
    pub(super) fn forward(&self, x: &Tensor, segments: &Segments, rotation: &Rotation, keep: bool) -> Tensor {
        let ([q, k, v], _) =
            norm_linear(x, None, &self.input_norm, self.eps, [&self.query, &self.key, &self.value], keep);
        let attention = self.output.forward(&self.attention(&q, &k, &v, segments, rotation));
        let ([gate, up], sum) =
            norm_linear(x, Some(&attention), &self.mlp_norm, self.eps, [&self.gate, &self.up], keep);
        sum + swiglu_linear(&gate, &up, &self.down, keep)
    }

    /// `[N, H D]` from queries of that shape and `[N, K D]` keys and values: each token gathers from the earlier ones of
    /// its segment.
    fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, rotation: &Rotation) -> Tensor {
        let split = |x: &Tensor, heads: i64| x.view([-1, heads, self.head_dim]);
        let mut q = split(q, self.heads); // [N, H, D]
        let (mut k, v) = (split(k, self.kv_heads), split(v, self.kv_heads)); // [N, K, D]
        if let Some((q_weight, k_weight)) = &self.qk_norm {
            q = rms_norm(&q, q_weight, self.eps);
            k = rms_norm(&k, k_weight, self.eps);
        }
        let (q, k) = rotation.apply(&q, &k);
        let mixed = attend([&q, &k, &v], segments, self.window, self.batched); // [N, H, D]
        mixed.reshape([-1, self.heads * self.head_dim])
    }
}

/// A parameter by name, sharing storage and gradient.
pub(super) fn take(parameters: &Parameters, name: &str) -> Result<Tensor, TchError> {
    match parameters.get(name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => Err(TchError::Shape(format!("the parameters hold no {name}"))),
    }
}
