// What autograd functions compute, on the device of their operands: rows.h on all cores of a CPU, kernels.h on a GPU.
//
// N tokens, C width, H and K heads, D head size, V vocabulary. Operands are fp32 or bf16, all alike, and contiguous.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>
#include <vector>

namespace loops {

using at::Tensor;

// Whether there are loops for this device.
bool runs_on(const at::Device &device);

// Widest row of an RMSNorm on this device.
int64_t rms_norm_width(const at::Device &device);

// RMSNorm of the rows of x, or of x + delta where that is defined; `sum` (undefined without a delta), `y`, and 1 / rms of
// each row, [rows] fp32.
std::tuple<Tensor, Tensor, Tensor> rms_norm(const Tensor &x, const Tensor &delta, const Tensor &weight, double eps);
// `dx` and `dweight` from `dy` and, where it is defined, `dsum`.
std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor &dy, const Tensor &dsum, const Tensor &x, const Tensor &weight,
                                             const Tensor &scales);

// q [N, H, D] and k [N, K, D], first halves of heads turned with second ones by `direction` times the angles whose cosines
// and sines are [N, 1, D].
std::tuple<Tensor, Tensor> rotate(const Tensor &q, const Tensor &k, const Tensor &cos, const Tensor &sin, float direction);

// silu(gate) * up.
Tensor swiglu(const Tensor &gate, const Tensor &up);
std::tuple<Tensor, Tensor> swiglu_backward(const Tensor &dy, const Tensor &gate, const Tensor &up);

// A matrix in e4m3 [R, C] (Micikevicius et al. 2022, arXiv 2209.05433) and what its rows are to be multiplied by, [R] fp32:
// of each row the least power of two that brings its largest number to 448 or below. As scaling by one loses nothing, what
// is lost is the rounding to four significant bits.
struct Quantized {
  Tensor codes, scales;
};
// x [R, C], R and C multiples of 16.
Quantized quantize_rows(const Tensor &x);
// Its transpose: codes [C, R], scales [C].
Quantized quantize_columns(const Tensor &x);

// Of each row of logits [R, V]: log Z, and the negative log-likelihood of its target (0 where that is negative), [R] fp32.
// With `gradient` the logits become the gradient of weight * (nll + z_loss * log Z^2). Targets [R] i64, weights [R] fp32.
std::tuple<Tensor, Tensor> cross_entropy(const Tensor &logits, const Tensor &targets, const Tensor &weights,
                                         double z_loss, bool gradient);

// What AdamW goes over of one parameter. The master is fp32, gradient and moments fp32 or bf16; `weight` is the master
// rounded to bf16, undefined where the master is the weight.
struct Parameter {
  Tensor gradient, master, exp_avg, exp_avg_sq, weight;
  bool decays;
};
struct AdamW {
  double beta1, beta2, eps, weight_decay;
};
// One update of all parameters, in one launch on a GPU. The four scalars are fp32 and lie where the parameters do:
// gradients are divided by `divisor`; where `skipped` is not 0 nothing is changed; `step` counts this update.
void adamw(const std::vector<Parameter> &parameters, AdamW numbers, const Tensor &lr, const Tensor &step,
           const Tensor &divisor, const Tensor &skipped);

// Adds each of `from` to its partner in `to`, or copies it there; in one launch on a GPU where `to` is fp32.
void accumulate(const std::vector<Tensor> &to, const std::vector<Tensor> &from, bool add);

// The Euclidean norm of all tensors together, an fp32 scalar on their device.
Tensor global_norm(const std::vector<Tensor> &tensors);

} // namespace loops
