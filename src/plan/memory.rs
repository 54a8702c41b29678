//! What a rank takes in memory on its device, and on disk: an estimate from the shapes alone.
//!
//! P parameters, p of them in one layer; N tokens computed at once; L layers, C width, F MLP width, Q = H x D and
//! K = KV heads x D, V vocabulary; w bytes of an element in the forward pass (2 in bf16, 4 in fp32). W ranks, of which S hold
//! one copy together of what is sharded; r bytes of an element in which gradients are summed over ranks (4 or 2). Of several
//! ranks P counts what fills up the buffer of each of the [`UnitSizes`].
//!
//! Activations are counted as Korthikanti et al. 2022 do (arXiv 2205.05198, section 4.1), for the functions of `model`: what
//! each keeps for the backward pass. They grow up to the loss; then layer by layer they go and gradients come. Which moment
//! of a step takes most depends on both, so that [`Load::memory`] looks at all of them. `tests/memory.rs` and, for several
//! ranks, `tests/distributed/memory.rs` hold it within 10 % of the bytes that libtorch's allocator counts.

use crate::hf::names;
use crate::model::config::{ModelConfig, Recompute};
use crate::model::loss::rows_at_once;
use crate::recipe::sections::{Moments, Reduction};

use super::units::UnitSizes;
use super::{Arithmetic, Compute, DistributedPlan, Plan};

/// Bytes by part that one rank holds, at the moment of a step that takes most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// w P: the weights that forward and backward read; w P / S where they are sharded too.
    pub weights: u64,
    /// Sharded weights that are gathered then, w of each: [`UnitSizes::gathered`].
    pub gathered: u64,
    /// 4 P / S: fp32 master weights; none in fp32, where they are the weights, or a rank's part of them.
    pub masters: u64,
    /// 8 P / S: AdamW's two moments in fp32; 4 P / S in bf16.
    pub moments: u64,
    /// Gradients, as `Load::gradients` has it.
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
        self.states() + self.activations + self.loss
    }

    /// What does not depend on how many tokens are computed at once.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.weights + self.gathered + self.masters + self.moments + self.gradients
    }
}

/// The memory a plan takes.
#[must_use]
pub fn estimate(plan: &Plan) -> Memory {
    Load::of(plan).memory()
}

/// Bytes of one checkpoint: the weights, the fp32 masters where those are others, and two moments, in fp32 whatever they are in
/// memory. It is the same of however many ranks.
#[must_use]
pub fn checkpoint(plan: &Plan) -> u64 {
    let weights = match plan.device.arithmetic {
        Arithmetic::Bf16 | Arithmetic::Fp8 => 2 + 4,
        Arithmetic::Fp32 => 4,
    };
    (weights + 8) * names::total(&plan.model.config)
}

/// Bytes of an element in forward and backward.
pub(super) fn width(arithmetic: Arithmetic) -> u64 {
    match arithmetic {
        Arithmetic::Bf16 | Arithmetic::Fp8 => 2,
        Arithmetic::Fp32 => 4,
    }
}

/// r: bytes of an element in which gradients are summed over ranks.
pub(super) fn reduced(reduction: Reduction) -> u64 {
    match reduction {
        Reduction::Fp32 => 4,
        Reduction::Bf16 => 2,
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
    /// Whether a step has several micro-batches, of each rank.
    pub several: bool,
    /// Whether micro-batches are recorded as CUDA graphs, each with gradients of its own.
    pub graphs: bool,
    /// What the backward pass computes again, of each layer.
    pub recompute: &'a [Recompute],
    /// R: rows whose logits are held at once.
    pub loss_rows: u64,
    /// Which ranks hold what.
    pub distributed: DistributedPlan,
}

/// A moment of a pass, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    gathered: u64,
    gradients: u64,
    activations: u64,
    loss: u64,
}

impl Moment {
    fn total(&self) -> u64 {
        self.gathered + self.gradients + self.activations + self.loss
    }
}

/// Gradients as the backward pass goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Gradients {
    /// Elements of parameters whose gradients are where the backward pass leaves them.
    made: u64,
    /// Elements of units that are reduced, or on their way.
    reduced: u64,
    /// Elements of the one on its way to other shards.
    sent: u64,
    /// Elements of the buffers that it is in besides the sums.
    buffers: u64,
}

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
            several: plan.micro_batches() > 1,
            graphs: plan.device.graphs,
            recompute: &plan.model.recompute,
            loss_rows: loss_rows(plan),
            distributed: plan.distributed,
        }
    }

    /// Tokens of so many rows; of more than any machine has room for, so many that it still counts in bytes.
    pub(super) fn tokens(rows: u64, length: usize) -> u64 {
        rows.saturating_mul(length as u64).min(1 << 36)
    }

    /// The memory it takes.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.among(&UnitSizes::of(self.config, self.distributed))
    }

    /// The same where its [`UnitSizes`] are known already.
    pub(super) fn among(&self, units: &UnitSizes) -> Memory {
        let w = width(self.arithmetic);
        let of_moments = match self.moments {
            Moments::Fp32 => 8,
            Moments::Bf16 => 4,
        };
        let DistributedPlan { shard, fully, .. } = self.distributed;
        let moments = self.in_the_loss(units).into_iter().chain(self.in_backward(units));
        let most = moments.max_by_key(Moment::total).unwrap_or_default();
        let (whole, held) = (units.total(), units.total() / (shard as u64).max(1));
        Memory {
            weights: w * if fully { held } else { whole },
            gathered: most.gathered,
            masters: if self.arithmetic == Arithmetic::Fp32 { 0 } else { 4 * held },
            moments: of_moments * held,
            gradients: most.gradients,
            activations: most.activations + self.inputs(),
            loss: most.loss,
        }
    }

    /// Gradients that are there at a moment, in bytes:
    ///
    /// - those that the backward pass has just made, w of each. They all stay, w P in the end, with one process and one
    ///   micro-batch, and in CUDA graphs, each of which has its own; else until those of their unit are all there;
    /// - the fp32 sums of several micro-batches, 4 P; 4 P / S where weights are sharded;
    /// - what ranks reduce. Gradients go into a flat buffer a unit, r of each element, from which others read until the next
    ///   unit's are there; what comes of them, r / S of each, stays until the update, unless it is added to the sums above.
    ///   Sums of whole gradients are reduced in their place where r is 4, and what comes of them lies in them; where nothing is
    ///   sharded, flat buffers are.
    fn gradients(&self, units: &UnitSizes, now: Gradients) -> u64 {
        let DistributedPlan { world, shard, fully, reduce, .. } = self.distributed;
        let Gradients { made, reduced: done, sent, buffers } = now;
        let (w, r, shard) = (width(self.arithmetic), reduced(reduce), (shard as u64).max(1));
        let whole = units.total();
        let recorded = if self.graphs { (GRAPHS - 1) * w * whole } else { 0 };
        let sums = match (self.several, fully) {
            (false, _) => 0,
            (true, false) => 4 * whole,
            (true, true) => 4 * (whole / shard),
        };
        let parts = match (world > 1, self.several && fully) {
            (false, _) => 0,
            // Of the unit on its way, not yet added.
            (true, true) => r * sent / shard,
            (true, false) if self.in_place() => 0,
            (true, false) => r * done / shard,
        };
        w * made + recorded + sums + parts + r * buffers
    }

    /// Whether sums of micro-batches are what is reduced.
    fn in_place(&self) -> bool {
        self.several && !self.distributed.fully && self.distributed.reduce == Reduction::Fp32
    }

    /// Whether gradients of all units stay until the backward pass is over.
    fn stay(&self) -> bool {
        self.graphs || (self.distributed.world == 1 && !self.several)
    }

    /// Bytes of sharded weights that are gathered while those of one part are used and those of the next come, or have come.
    fn gathered(&self, units: &UnitSizes, part: Option<usize>, next: Option<usize>) -> u64 {
        if self.distributed.fully { width(self.arithmetic) * units.gathered(part, next) } else { 0 }
    }

    /// Bytes of the copy into which Gloo, on a CPU, gathers what comes next.
    fn coming(&self, units: &UnitSizes, next: Option<usize>) -> u64 {
        let gloo = self.distributed.fully && self.compute == Compute::Cpu;
        next.filter(|_| gloo).map_or(0, |next| width(self.arithmetic) * units.length(next))
    }

    /// In the loss: at the first chunk of logits, at the second where there is one, and when all are done. The last layer's
    /// output is there, its norm, and the gradient of that, at first in chunks and in the end in one piece besides.
    fn in_the_loss(&self, units: &UnitSizes) -> [Moment; 3] {
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
        let last = self.config.layers;
        let gathered = self.gathered(units, Some(last + 1), Some(last));
        let gradients = self.gradients(units, Gradients::default());
        [(done, head + logits(chunk)), (done, adding + logits(second)), (done + wide, added)]
            .map(|(activations, loss)| Moment { gathered, gradients, activations, loss })
    }

    /// In the backward pass of each part: of the head, when its gradients are there; of each layer's MLP, which takes the most
    /// of a layer, as its own activations are still there, and when all the layer's gradients are; and of the embedding.
    fn in_backward(&self, units: &UnitSizes) -> Vec<Moment> {
        let f = self.config.intermediate_size as u64;
        let (w, c) = (width(self.arithmetic), self.config.hidden_size as u64);
        let (tied, table) = (self.config.tied_embeddings, self.config.vocab_size as u64 * c);
        // The gradients of the MLP's three, its output and the gradient of that.
        let at_work = self.tokens * 3 * w * f + 2 * self.wide() + self.codes();
        let mut kept = self.layers().map(|layer| self.kept(layer)).sum::<u64>();
        let mut moments = Vec::new();
        let mut now = Gradients::default();
        for (part, share) in units.parts().iter().enumerate().rev() {
            let before = part.checked_sub(1).filter(|before| *before > 0);
            // While a part is computed: its layer's MLP has one gradient, an embedding that of what was looked up besides.
            let layer = part.checked_sub(1).filter(|layer| *layer < self.config.layers);
            if let Some(recompute) = layer.map(|layer| self.recomputed(layer)) {
                let again = if recompute == Recompute::Full { self.whole() - self.kept(recompute) } else { 0 };
                let gradients = self.gradients(units, now) + w * c * f;
                let gathered = self.gathered(units, Some(part), before) + self.coming(units, before);
                moments.push(Moment { gathered, gradients, activations: kept + again + at_work, loss: 0 });
                kept -= self.kept(recompute);
            }
            let activations = kept + 2 * self.wide();
            let gathered = self.gathered(units, None, before);
            let mut push = |now| {
                let gradients = self.gradients(units, now);
                moments.push(Moment { gathered, gradients, activations, loss: 0 });
            };
            if part == 0 {
                push(Gradients { made: now.made + table, ..now });
            }
            // The gradient of a tied embedding comes with the loss, and is added to in its own backward pass.
            now.made += match (tied, part) {
                (true, 0) => 0,
                (true, _) if layer.is_none() => share.elements + table,
                _ => share.elements,
            };
            if self.stay() || !share.completes {
                push(now);
            } else {
                self.complete(&mut now, units.length(part), push);
            }
        }
        // With all gradients there, ranks begin to reduce at the end.
        if self.stay() && self.distributed.world > 1 {
            for length in units.lengths().iter().rev() {
                let activations = 2 * self.wide();
                self.complete(&mut now, *length, |now| {
                    moments.push(Moment { gathered: 0, gradients: self.gradients(units, now), activations, loss: 0 });
                });
            }
        }
        moments
    }

    /// A unit of so many elements has its gradients: they go into a flat buffer, are given up, and reduced. Gloo, which
    /// reduces on a CPU, does so in a copy of the buffer, which is given up when that is made.
    fn complete(&self, now: &mut Gradients, length: u64, mut push: impl FnMut(Gradients)) {
        let DistributedPlan { world, shard, .. } = self.distributed;
        let made = if self.stay() { now.made } else { 0 };
        if world == 1 {
            push(*now);
            now.made = made;
            return;
        }
        let flat = if self.in_place() { 0 } else { length };
        if shard == 1 {
            // The buffer is what stays.
            now.reduced += length;
            push(*now);
            now.made = made;
            return;
        }
        push(Gradients { sent: 0, buffers: flat, ..*now });
        *now = Gradients { made, reduced: now.reduced + length, sent: length, buffers: flat };
        if self.compute == Compute::Cpu {
            push(Gradients { buffers: flat + length, ..*now });
            now.buffers = length;
        }
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

    /// What each layer recomputes, from the first on.
    fn layers(&self) -> impl DoubleEndedIterator<Item = Recompute> + '_ {
        (0..self.config.layers).map(|layer| self.recomputed(layer))
    }

    /// What one of them does.
    fn recomputed(&self, layer: usize) -> Recompute {
        self.recompute.get(layer).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tokens_than_any_machine_has_room_for_still_count_in_bytes() {
        assert_eq!(Load::tokens(3, 8192), 3 * 8192);
        // Llama 3 405B, wide and deep as published models go.
        let config = ModelConfig { kv_heads: 8, ..ModelConfig::llama(128_256, 16_384, 53_248, 126, 128) };
        let total = |tokens| {
            let load = Load {
                config: &config,
                arithmetic: Arithmetic::Fp32,
                compute: Compute::Cpu,
                tokens,
                moments: Moments::Fp32,
                several: true,
                graphs: false,
                recompute: &[],
                loss_rows: 1024,
                distributed: DistributedPlan::ALONE,
            };
            load.memory().total()
        };
        let (half, most) = (total(1 << 35), total(Load::tokens(u64::MAX, 8192)));
        // Twice as much but for the model's own, which counts for nothing here.
        assert!(most / 2 <= half && half - most / 2 < half / 1000, "{half} {most}");
    }
}
