//! The parameters of a configuration: names, shapes, initial values, in the one order used everywhere.
//!
//! Names are Hugging Face's. No file of the supported families differs from this table.

use crate::model::config::ModelConfig;

/// Name of the embedding, which is also the head where they are tied.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the output head where it is a parameter of its own.
pub const HEAD: &str = "lm_head.weight";
/// Name of the last norm.
pub const FINAL_NORM: &str = "model.norm.weight";

/// How a fresh parameter is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal around 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Its Hugging Face name.
    pub name: String,
    /// Its shape; matrices are `[out, in]`.
    pub shape: Vec<i64>,
    /// Whether weight decay applies: to matrices, not to norms and biases.
    pub decay: bool,
    /// How it is filled when fresh.
    pub init: Init,
}

impl ParameterSpec {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|size| *size as u64).product()
    }
}

/// Every parameter in canonical order: embedding, layers, last norm, and the head where it is not tied.
#[must_use]
pub fn parameters(config: &ModelConfig) -> Vec<ParameterSpec> {
    // C width, F mlp width, D head size, Q = H x D, P = K x D, V vocabulary.
    let [c, f, d, v] =
        [config.hidden_size, config.intermediate_size, config.head_dim, config.vocab_size].map(|size| size as i64);
    let (q, p) = (config.heads as i64 * d, config.kv_heads as i64 * d);
    let mut table = Table { std: config.initializer_range, specs: Vec::new() };
    table.matrix(EMBEDDING.to_owned(), v, c);
    for layer in 0..config.layers {
        let name = |tail: &str| format!("model.layers.{layer}.{tail}");
        table.norm(name("input_layernorm.weight"), c);
        table.linear(&name("self_attn.q_proj"), q, c, config.qkv_bias);
        table.linear(&name("self_attn.k_proj"), p, c, config.qkv_bias);
        table.linear(&name("self_attn.v_proj"), p, c, config.qkv_bias);
        table.linear(&name("self_attn.o_proj"), c, q, config.output_bias);
        if config.qk_norm {
            table.norm(name("self_attn.q_norm.weight"), d);
            table.norm(name("self_attn.k_norm.weight"), d);
        }
        table.norm(name("post_attention_layernorm.weight"), c);
        table.linear(&name("mlp.gate_proj"), f, c, config.mlp_bias);
        table.linear(&name("mlp.up_proj"), f, c, config.mlp_bias);
        table.linear(&name("mlp.down_proj"), c, f, config.mlp_bias);
    }
    table.norm(FINAL_NORM.to_owned(), c);
    if !config.tied_embeddings {
        table.matrix(HEAD.to_owned(), v, c);
    }
    table.specs
}

/// Number of elements of all parameters.
#[must_use]
pub fn total(config: &ModelConfig) -> u64 {
    parameters(config).iter().map(ParameterSpec::elements).sum()
}

struct Table {
    std: f64,
    specs: Vec<ParameterSpec>,
}

impl Table {
    fn matrix(&mut self, name: String, out: i64, inner: i64) {
        let init = Init::Normal { std: self.std };
        self.specs.push(ParameterSpec { name, shape: vec![out, inner], decay: true, init });
    }

    fn linear(&mut self, name: &str, out: i64, inner: i64, bias: bool) {
        self.matrix(format!("{name}.weight"), out, inner);
        if bias {
            let name = format!("{name}.bias");
            self.specs.push(ParameterSpec { name, shape: vec![out], decay: false, init: Init::Zeros });
        }
    }

    fn norm(&mut self, name: String, size: i64) {
        self.specs.push(ParameterSpec { name, shape: vec![size], decay: false, init: Init::Ones });
    }
}
