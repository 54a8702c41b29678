//! One decoder layer: attention and MLP, each on a normalised residual stream.
//!
//! N tokens, H query heads, K key and value heads, D head size, C width, F MLP width.

use tch::{Kind, TchError, Tensor};

use super::attention::attend;
use super::config::ModelConfig;
use super::mlp::swiglu;
use super::norm::{add_rms_norm, rms_norm};
use super::parameters::Parameters;
use super::rope::Rotation;
use super::segments::Segments;
use crate::ffi;

/// A matrix `[out, in]`, perhaps with a bias `[out]`.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `[N, in]` to `[N, out]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        linear(x, &self.weight, self.bias.as_ref())
    }
}

/// One layer's weights and settings.
#[derive(Debug)]
pub(super) struct Layer {
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    eps: f64,
    window: Option<usize>,
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
            Ok(Linear { weight, bias })
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

    /// `[N, C]` to `[N, C]`.
    pub(super) fn forward(&self, x: &Tensor, segments: &Segments, rotation: &Rotation) -> Tensor {
        let attention = self.attention(&rms_norm(x, &self.input_norm, self.eps), segments, rotation);
        let (x, normed) = add_rms_norm(x, &attention, &self.mlp_norm, self.eps);
        x + self.mlp(&normed)
    }

    /// `[N, C]` to `[N, C]`: each token gathers from the earlier ones of its segment.
    fn attention(&self, x: &Tensor, segments: &Segments, rotation: &Rotation) -> Tensor {
        let split = |x: Tensor, heads: i64| x.view([-1, heads, self.head_dim]);
        let mut q = split(self.query.forward(x), self.heads); // [N, H, D]
        let mut k = split(self.key.forward(x), self.kv_heads); // [N, K, D]
        let v = split(self.value.forward(x), self.kv_heads); // [N, K, D]
        if let Some((q_weight, k_weight)) = &self.qk_norm {
            q = rms_norm(&q, q_weight, self.eps);
            k = rms_norm(&k, k_weight, self.eps);
        }
        let mixed = attend(&rotation.apply(&q), &rotation.apply(&k), &v, segments, self.window); // [N, H, D]
        self.output.forward(&mixed.reshape([-1, self.heads * self.head_dim]))
    }

    /// `[N, C]` to `[N, C]`, through `[N, F]`.
    fn mlp(&self, x: &Tensor) -> Tensor {
        self.down.forward(&swiglu(&self.gate.forward(x), &self.up.forward(x)))
    }
}

/// `x` `[N, in]` times `weight` `[out, in]`, plus `bias` `[out]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if ffi::takes(x)
        && x.kind() == Kind::Float
        && let Some(y) = ffi::fused("linear", ffi::linear(x, weight, bias))
    {
        return y;
    }
    x.linear(weight, bias)
}

/// A parameter by name, sharing storage and gradient.
pub(super) fn take(parameters: &Parameters, name: &str) -> Result<Tensor, TchError> {
    match parameters.get(name) {
        Some(tensor) => Ok(tensor.shallow_clone()),
        None => Err(TchError::Shape(format!("the parameters hold no {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::twins::agree;

    #[test]
    fn the_fused_product_is_the_plain_one_with_and_without_a_bias() {
        let shapes: [&[i64]; 3] = [&[403, 64], &[91, 64], &[91]];
        agree(
            &[Kind::Float],
            &shapes[..2],
            |x| vec![ffi::linear(&x[0], &x[1], None).unwrap()],
            |x| vec![x[0].linear(&x[1], None::<Tensor>)],
        );
        agree(
            &[Kind::Float],
            &shapes,
            |x| vec![ffi::linear(&x[0], &x[1], Some(&x[2])).unwrap()],
            |x| vec![x[0].linear(&x[1], Some(&x[2]))],
        );
    }
}
