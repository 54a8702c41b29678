//! The shape of a decoder of the Llama family, free of any file format.
//!
//! `hf::config` reads and writes it as Hugging Face's `config.json`.

/// Which published family the configuration follows; it decides names and defaults on export, never the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 2, 3, 3.1, 3.2.
    Llama,
    /// Mistral, with or without a sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on query, key and value.
    Qwen2,
    /// Qwen3: RMSNorm on each query and key head.
    Qwen3,
}

/// What the backward pass of a layer computes again instead of finding it kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// What costs a pass over memory: norms, and the product inside the MLP.
    Selective,
    /// The whole layer, from its input.
    Full,
}

/// How rotary angles are stretched for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Plain rotary embedding (Su et al. 2021, arXiv 2104.09864).
    None,
    /// Positions divided by a factor (Chen et al. 2023, arXiv 2306.15595).
    Linear {
        /// What positions are divided by.
        factor: f64,
    },
    /// Llama 3.1's frequency-dependent stretch.
    Llama3 {
        /// How far long wavelengths are stretched.
        factor: f64,
        /// Below `original_positions / low_freq_factor` wavelengths are stretched.
        low_freq_factor: f64,
        /// Above `original_positions / high_freq_factor` they are left alone.
        high_freq_factor: f64,
        /// The context length of the original training.
        original_positions: usize,
    },
}

/// Everything the arithmetic of a decoder depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The published family.
    pub family: Family,
    /// V: rows of the embedding.
    pub vocab_size: usize,
    /// C: width of the residual stream.
    pub hidden_size: usize,
    /// F: width inside the MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// H: query heads.
    pub heads: usize,
    /// K: key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// D: width of one head; not always `hidden_size / heads`.
    pub head_dim: usize,
    /// Longest sequence the model knows positions for.
    pub max_positions: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretch of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Epsilon of every RMSNorm.
    pub norm_eps: f64,
    /// Whether the output head is the embedding.
    pub tied_embeddings: bool,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention output projection has a bias (Llama's `attention_bias` sets all four).
    pub output_bias: bool,
    /// Whether the MLP projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalised per head.
    pub qk_norm: bool,
    /// Tokens a query may look back on, itself included; `None` for all.
    pub sliding_window: Option<usize>,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// Token that begins a document, if the model has one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a document; the first is used.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// A plain Llama of this shape: every query head with a key head of its own, nothing biased, tied or stretched.
    #[must_use]
    pub fn llama(vocab_size: usize, hidden_size: usize, intermediate_size: usize, layers: usize, heads: usize) -> Self {
        Self {
            family: Family::Llama,
            vocab_size,
            hidden_size,
            intermediate_size,
            layers,
            heads,
            kv_heads: heads,
            head_dim: hidden_size / heads.max(1),
            max_positions: 4096,
            rope_theta: 1e4,
            rope_scaling: RopeScaling::None,
            norm_eps: 1e-5,
            tied_embeddings: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: None,
            initializer_range: 0.02,
            bos_token_id: None,
            eos_token_ids: vec![],
        }
    }
}
