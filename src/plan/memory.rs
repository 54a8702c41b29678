//! What a run takes in memory on its device, and on disk: an estimate from the shapes alone.
//!
//! P parameters, p of them in one layer; N tokens computed at once; L layers, C width, F MLP width, Q = H x D and
//! K = KV heads x D, V vocabulary; w bytes of an element in the forward pass (2 in bf16, 4 in fp32).
//!
//! Activations are counted as Korthikanti et al. 2022 do (arXiv 2205.05198, section 4.1), for the functions of `model`: what
//! each keeps for the backward pass. They grow up to the loss; then layer by layer they go and gradients come. Which moment
//! of a step takes most depends on both, so that [`Load::memory`] looks at all of them. `tests/memory.rs` holds it within
//! 10 % of the bytes that libtorch's allocator counts.

use crate::hf::names;
use crate::model::config::{ModelConfig, Recompute};
use crate::model::loss::rows_at_once;
use crate::recipe::sections::Moments;

use super::{Arithmetic, Compute, Plan};

/// Bytes by part, at the moment of a step that takes most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// w P: the weights that forward and backward read.
    pub weights: u64,
    /// 4 P: fp32 master weights; none in fp32, where the weights are the masters.
    pub masters: u64,
    /// 8 P: AdamW's two moments in fp32; 4 P in bf16.
    pub moments: u64,
    /// Gradients: those that are there at that moment, w P when all are; and in bf16 4 P, in which those of several
    /// micro-batches are summed.
    pub gradients: u64,
    /// What the backward pass still needs of the forward pass, see `Load::kept`, and what it is at work on.
    pub activations: u64,
    /// The loss: R x V logits, in whose place their gradient comes, and the head's gradient, summed in fp32 where there are
    /// more than R tokens.
    pub loss: u64,
}

impl Memory {
    /// All parts together. The libraries add to it, some hundred megabytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.masters + self.moments + self.gradients + self.activations + self.loss
    }
}

/// The memory a plan takes.
#[must_use]
pub fn estimate(plan: &Plan) -> Memory {
    Load::of(plan).memory()
}

/// Bytes of one checkpoint: the weights, the fp32 masters where those are others, and two moments, in fp32 whatever they are in
/// memory.
#[must_use]
pub fn checkpoint(plan: &Plan) -> u64 {
    let memory = estimate(plan);
    memory.weights + memory.masters + 8 * names::total(&plan.model.config)
}

/// Bytes of an element in forward and backward.
fn width(arithmetic: Arithmetic) -> u64 {
    match arithmetic {
        Arithmetic::Bf16 | Arithmetic::Fp8 => 2,
        Arithmetic::Fp32 => 4,
    }
}

/// Rows whose logits a plan holds at once.
#[must_use]
pub fn loss_rows(plan: &Plan) -> u64 {
    let gpu = matches!(plan.device.compute, Compute::Cuda(_)).then_some(plan.room.memory);
    rows_at_once(gpu, plan.model.config.vocab_size as u64, width(plan.device.arithmetic))
}

/// Shapes of micro-batches that are recorded as CUDA graphs at most; each has gradients of its own.
pub const GRAPHS: u64 = 6;

/// What decides how much memory a step takes.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// What it computes in.
    pub arithmetic: Arithmetic,
    /// What computes it.
    pub compute: Compute,
    /// N: tokens computed at once.
    pub tokens: u64,
    /// What AdamW's moments are kept in.
    pub moments: Moments,
    /// Whether a step has several micro-batches.
    pub several: bool,
    /// Whether micro-batches are recorded as CUDA graphs, each with gradients of its own.
    pub graphs: bool,
    /// What the backward pass computes again, of each layer.
    pub recompute: &'a [Recompute],
    /// R: rows whose logits are held at once.
    pub loss_rows: u64,
}

/// Of one moment: gradients, activations, and what the loss holds.
type Moment = (u64, u64, u64);

impl<'a> Load<'a> {
    /// That of a plan.
    #[must_use]
    pub fn of(plan: &'a Plan) -> Self {
        Self {
            config: &plan.model.config,
            arithmetic: plan.device.arithmetic,
            compute: plan.device.compute,
            moments: plan.optimizer.moments,
            tokens: Self::tokens(plan.batch.micro_rows, plan.data.sequence_length),
            several: plan.batch.rows > plan.batch.micro_rows,
            graphs: plan.device.graphs,
            recompute: &plan.model.recompute,
            loss_rows: loss_rows(plan),
        }
    }

    /// Tokens of so many rows; of more than any machine has room for, so many that it still counts in bytes.
    pub(super) fn tokens(rows: u64, length: usize) -> u64 {
        rows.saturating_mul(length as u64).min(1 << 40)
    }

    /// The memory it takes.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let (parameters, w) = (names::total(self.config), width(self.arithmetic));
        let reduced = self.arithmetic != Arithmetic::Fp32;
        let of_moments = match self.moments {
            Moments::Fp32 => 8,
            Moments::Bf16 => 4,
        };
        // Those of the micro-batches before: summed in fp32, or where they are fp32 anyway.
        let (sums, earlier) = match (self.several, reduced) {
            (false, _) => (0, 0),
            (true, true) => (4 * parameters, 0),
            (true, false) => (0, w * parameters),
        };
        let recorded = if self.graphs { (GRAPHS - 1) * w * parameters } else { 0 };
        let moments = self.in_the_loss().into_iter().chain(self.in_backward());
        let most = moments.map(|(new, activations, loss)| {
            // Added to the earlier ones, of which few are there twice at a time.
            let new = if earlier > 0 { earlier + new.min(self.largest()) } else { new };
            (new, activations, loss)
        });
        let (gradients, activations, loss) = most.max_by_key(|(a, b, c)| a + b + c).unwrap_or_default();
        Memory {
            weights: w * parameters,
            masters: if reduced { 4 * parameters } else { 0 },
            moments: of_moments * parameters,
            gradients: sums + gradients + recorded,
            activations: activations + self.inputs(),
            loss,
        }
    }

    /// In the loss: at the first chunk of logits, at the second where there is one, and when all are done. The last layer's
    /// output is there, its norm, and the gradient of that, at first in chunks and in the end in one piece besides.
    fn in_the_loss(&self) -> [Moment; 3] {
        let kept = self.layers().map(|layer| self.kept(layer)).sum::<u64>();
        let (wide, head, vocabulary) = (self.wide(), self.head(), self.config.vocab_size as u64);
        let chunk = self.loss_rows.min(self.tokens);
        let second = chunk.min(self.tokens - chunk);
        let logits = |rows: u64| width(self.arithmetic) * rows * vocabulary;
        // The second product is added in fp32 to what the first one, in bf16, is turned into; a CPU makes it in bf16 and
        // turns it into fp32 too. At the end the sum is turned into bf16.
        let (adding, added) = match (self.arithmetic != Arithmetic::Fp32 && second > 0, self.compute) {
            (true, Compute::Cpu) => (6 * head, 3 * head),
            (true, Compute::Cuda(_)) => (3 * head, 3 * head),
            (false, _) => (head, head),
        };
        let done = kept + 3 * wide;
        [(0, done, head + logits(chunk)), (0, done, adding + logits(second)), (0, done + wide, added)]
    }

    /// In the backward pass of each layer's MLP, which takes the most of a layer, as its own activations are still there; and
    /// in that of the embedding, when all gradients are.
    fn in_backward(&self) -> Vec<Moment> {
        let f = self.config.intermediate_size as u64;
        let (w, c) = (width(self.arithmetic), self.config.hidden_size as u64);
        let of_layer = w * self.parameters_of_a_layer();
        // The gradients of the MLP's three, its output and the gradient of that.
        let at_work = self.tokens * 3 * w * f + 2 * self.wide() + self.codes();
        let mut kept = self.layers().map(|layer| self.kept(layer)).sum::<u64>();
        let mut gradients = self.head() + w * c;
        let mut moments = Vec::new();
        for recompute in self.layers().rev() {
            let again = if recompute == Recompute::Full { self.whole() - self.kept(recompute) } else { 0 };
            moments.push((gradients + w * c * f, kept + again + at_work, 0));
            gradients += of_layer;
            kept -= self.kept(recompute);
        }
        // A tied embedding's is added to that of the head.
        moments.push((gradients + self.head(), 2 * self.wide(), 0));
        moments
    }

    /// Codes in FP8 of what the MLP's products take at a time: of both operands, and by rows and columns of the gradient.
    fn codes(&self) -> u64 {
        let (f, c) = (self.config.intermediate_size as u64, self.config.hidden_size as u64);
        if self.arithmetic == Arithmetic::Fp8 { self.tokens * (2 * f + c) + f * c } else { 0 }
    }

    /// What one layer keeps for the backward pass, in bytes. Of each of N tokens:
    ///
    /// | of | bytes | recomputed selectively |
    /// |---|---|---|
    /// | its input, and the sum with attention's output | 2 w C | 2 w C |
    /// | the norms of both, and a statistic each | 2 w C + 8 | 8 |
    /// | attention: queries and keys as rotated, values, output, one fp32 statistic a head | w (2 Q + 2 K) + 4 H | the same |
    /// | norms of queries and keys, where there are any: their input, a statistic a head | w (Q + K) + 4 (H + KV heads) | the same |
    /// | MLP: gate, up, and the product that goes down | 3 w F | 2 w F |
    ///
    /// On a CPU attention repeats keys and values for every head that shares them: w 4 Q. Where a layer is recomputed fully
    /// it keeps its input, w C, and for the time of its backward pass all of the above.
    fn kept(&self, recompute: Recompute) -> u64 {
        let w = width(self.arithmetic);
        let f = self.config.intermediate_size as u64;
        match recompute {
            Recompute::None => self.whole(),
            Recompute::Selective => self.whole() - 2 * self.wide() - self.tokens * w * f,
            Recompute::Full => self.wide(),
        }
    }

    /// What a layer keeps that recomputes nothing.
    fn whole(&self) -> u64 {
        let ModelConfig { hidden_size, intermediate_size, heads, kv_heads, head_dim, .. } = self.config;
        let [c, f, h, g, d] = [hidden_size, intermediate_size, heads, kv_heads, head_dim].map(|n| *n as u64);
        let w = width(self.arithmetic);
        let (q, k) = (h * d, g * d);
        let shared = if self.compute == Compute::Cpu { q } else { k };
        let qk_norm = if self.config.qk_norm { w * (q + k) + 4 * (h + g) } else { 0 };
        self.tokens * (4 * w * c + 8 + w * (2 * q + 2 * shared) + 4 * h + qk_norm + 3 * w * f)
    }

    /// What there is beside the layers: tokens, targets, positions, weights and losses, 36 bytes each token, and the cosines
    /// and sines of its position.
    fn inputs(&self) -> u64 {
        self.tokens * (36 + 2 * width(self.arithmetic) * self.config.head_dim as u64)
    }

    /// Bytes of N x C.
    fn wide(&self) -> u64 {
        self.tokens * width(self.arithmetic) * self.config.hidden_size as u64
    }

    /// Bytes of the head, V x C.
    fn head(&self) -> u64 {
        width(self.arithmetic) * (self.config.vocab_size * self.config.hidden_size) as u64
    }

    /// Bytes of the largest gradients that are there at once before they are added to earlier ones: the head's, or those of
    /// gate and up.
    fn largest(&self) -> u64 {
        let pair = 2 * width(self.arithmetic) * (self.config.intermediate_size * self.config.hidden_size) as u64;
        self.head().max(pair)
    }

    /// p.
    fn parameters_of_a_layer(&self) -> u64 {
        let (v, c) = (self.config.vocab_size as u64, self.config.hidden_size as u64);
        let beside = if self.config.tied_embeddings { v * c } else { 2 * v * c } + c;
        (names::total(self.config) - beside) / (self.config.layers as u64).max(1)
    }

    /// What each layer recomputes, from the first on.
    fn layers(&self) -> impl DoubleEndedIterator<Item = Recompute> + '_ {
        (0..self.config.layers).map(|layer| self.recompute.get(layer).copied().unwrap_or_default())
    }
}
