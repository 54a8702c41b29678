//! How much of a device's peak the model's arithmetic uses: model FLOPs utilization (MFU).
//!
//! Chowdhery et al. 2022 (PaLM, arXiv 2204.02311), appendix B: a token costs `6 N + 12 L H D T` floating-point operations
//! forward and backward, and MFU is what a run's tokens a second cost, divided by the peak of its devices.

use crate::hf::names;
use crate::model::config::ModelConfig;
use crate::plan::Arithmetic;

/// Floating-point operations that training on one token costs, a multiply-add counted as two.
///
/// - `6 N`: N counts every parameter but an embedding that is only looked up. A tied embedding multiplies each token as
///   the head does and is counted. Norms and biases are counted too; they are less than one part in a thousand.
/// - `12 L H D T`: queries times keys and scores times values, for each query all T positions of its row, as PaLM counts
///   them: neither the causal mask nor document masks make it less. A sliding window does: it takes the place of T.
///
/// Layers recomputed in the backward pass are not counted: the figure is the model's arithmetic, not the hardware's.
#[must_use]
pub fn flops_a_token(config: &ModelConfig, sequence_length: usize) -> f64 {
    let looked_up = if config.tied_embeddings { 0 } else { config.vocab_size * config.hidden_size };
    let multiplied = names::total(config) - looked_up as u64;
    let seen = config.sliding_window.map_or(sequence_length, |window| window.min(sequence_length));
    let attention = [config.layers, config.heads, config.head_dim, seen].into_iter().map(|n| n as f64).product::<f64>();
    6.0 * multiplied as f64 + 12.0 * attention
}

/// Share of the peak that the model's arithmetic uses, 0 to 1. `tokens_per_second` and `peak` are of all devices together.
#[must_use]
pub fn mfu(tokens_per_second: f64, flops_a_token: f64, peak: f64) -> f64 {
    tokens_per_second * flops_a_token / peak
}

/// One device.
struct Card {
    /// Its name as CUDA reports it, without `NVIDIA `.
    name: &'static str,
    /// Peak of dense bf16 products with fp32 sums on tensor cores, TFLOP/s.
    bf16: f64,
    /// Peak of fp32 outside tensor cores, TFLOP/s.
    fp32: f64,
}

/// Figures of NVIDIA's data sheets of each card, and for the RTX cards of the architecture white papers (Ampere GA102,
/// Ada). Where a sheet gives bf16 "with sparsity", half of it is the dense figure that stands here.
const CARDS: [Card; 20] = [
    Card { name: "A10", bf16: 125.0, fp32: 31.2 },
    Card { name: "A100-PCIE-40GB", bf16: 312.0, fp32: 19.5 },
    Card { name: "A100 80GB PCIe", bf16: 312.0, fp32: 19.5 },
    Card { name: "A100-SXM4-40GB", bf16: 312.0, fp32: 19.5 },
    Card { name: "A100-SXM4-80GB", bf16: 312.0, fp32: 19.5 },
    Card { name: "A40", bf16: 149.7, fp32: 37.4 },
    Card { name: "B200", bf16: 2250.0, fp32: 75.0 },
    Card { name: "GB200", bf16: 2500.0, fp32: 80.0 },
    Card { name: "GH200 480GB", bf16: 989.5, fp32: 67.0 },
    Card { name: "H100 80GB HBM3", bf16: 989.5, fp32: 67.0 },
    Card { name: "H100 NVL", bf16: 835.5, fp32: 60.0 },
    Card { name: "H100 PCIe", bf16: 756.5, fp32: 51.0 },
    Card { name: "H200", bf16: 989.5, fp32: 67.0 },
    Card { name: "H200 NVL", bf16: 835.5, fp32: 60.0 },
    Card { name: "L4", bf16: 121.0, fp32: 30.3 },
    Card { name: "L40", bf16: 181.05, fp32: 90.5 },
    Card { name: "L40S", bf16: 362.05, fp32: 91.6 },
    Card { name: "RTX A6000", bf16: 154.8, fp32: 38.7 },
    Card { name: "GeForce RTX 3090", bf16: 71.0, fp32: 35.6 },
    Card { name: "GeForce RTX 4090", bf16: 165.2, fp32: 82.6 },
];

/// Peak FLOP/s of one device by the name CUDA reports; `None` for a device that is not known by exactly that name, since
/// variants of a card (laptop, MIG slice, export) have other peaks under similar names.
///
/// Peaks are dense. In FP8 it is that of bf16, so that what FP8 gains shows as a larger share. For fp32 it is the peak without TF32, which libtorch leaves off unless it is asked for.
#[must_use]
pub fn peak(device: &str, arithmetic: Arithmetic) -> Option<f64> {
    let name = device.strip_prefix("NVIDIA ").unwrap_or(device);
    let card = CARDS.iter().find(|card| card.name == name)?;
    Some(1e12 * if arithmetic == Arithmetic::Fp32 { card.fp32 } else { card.bf16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama3_8b() -> ModelConfig {
        ModelConfig { kv_heads: 8, ..ModelConfig::llama(128_256, 4096, 14_336, 32, 32) }
    }

    #[test]
    fn a_token_of_llama_3_8b_at_8192_costs_58_gigaflops() {
        // A layer: q and o 4096 x 4096, k and v 4096 x 1024, three MLP matrices 4096 x 14336, two norms of 4096:
        // 33,554,432 + 8,388,608 + 176,160,768 + 8,192 = 218,112,000. Times 32, with the last norm and a head of
        // 128256 x 4096: 6,979,584,000 + 4,096 + 525,336,576 = 7,504,924,672.
        // Attention: 12 x 32 layers x 32 heads x 128 x 8192 = 12,884,901,888.
        let expected = 6.0 * 7_504_924_672.0 + 12_884_901_888.0;
        assert_eq!(expected, 57_914_449_920.0);
        assert_eq!(flops_a_token(&llama3_8b(), 8192), expected);
    }

    #[test]
    fn a_tied_embedding_counts_once_as_the_head() {
        let tied = ModelConfig { tied_embeddings: true, ..llama3_8b() };
        assert_eq!(flops_a_token(&tied, 8192), flops_a_token(&llama3_8b(), 8192));
    }

    #[test]
    fn a_sliding_window_bounds_what_a_query_sees() {
        let window = ModelConfig { sliding_window: Some(4096), ..llama3_8b() };
        assert_eq!(flops_a_token(&window, 8192), flops_a_token(&llama3_8b(), 4096));
        assert_eq!(flops_a_token(&window, 2048), flops_a_token(&llama3_8b(), 2048));
    }

    #[test]
    fn utilization_is_work_done_over_the_dense_peak() {
        // 8,000 tokens a second x 57.91444992 GFLOP = 463.3 TFLOP/s of 989.5.
        let peak = peak("NVIDIA H100 80GB HBM3", Arithmetic::Bf16).unwrap();
        let share = mfu(8000.0, flops_a_token(&llama3_8b(), 8192), peak);
        assert!((share - 0.468_232).abs() < 1e-6, "{share}");
    }

    #[test]
    fn the_peak_is_of_the_arithmetic_in_use() {
        assert_eq!(peak("NVIDIA A100-SXM4-80GB", Arithmetic::Bf16), Some(312e12));
        assert_eq!(peak("NVIDIA A100-SXM4-80GB", Arithmetic::Fp32), Some(19.5e12));
    }

    #[test]
    fn variants_of_a_card_are_not_taken_for_it() {
        for unknown in [
            "CPU",
            "NVIDIA H100",
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            "NVIDIA H20",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA GeForce RTX 4090 D",
            "Tesla V100-SXM2-16GB",
        ] {
            assert_eq!(peak(unknown, Arithmetic::Bf16), None, "{unknown}");
        }
    }
}
