// What a GPU computes between matrix products, each in one pass over memory. The counterparts of rows.h, with all rows at
// once; T is float or rows::Bf16. Sums and exponentials are fp32 whatever the operands are. Everything is contiguous and on
// the current device; a stream is a cudaStream_t. What CUDA refuses is thrown as std::runtime_error.
//
// N tokens, C width, H heads, D head size, V vocabulary.
#pragma once

#include "../rows.h"

#include <cstdint>

namespace kernels {

// Widest row that rms_norm takes.
constexpr int64_t RMS_NORM_WIDTH = 8192;

// RMSNorm of each row of x [count, width], or of x + delta where that is not null: the sum then goes to `sum`. 1 / rms of
// each row goes to `scales`.
template <class T>
void rms_norm(const T *x, const T *delta, const T *weight, T *sum, T *y, float *scales, int64_t count, int64_t width,
              float eps, void *stream);

// Rows of `partials` that rms_norm_backward needs.
int64_t rms_norm_partials(int64_t count, int64_t width);

// Its gradient: `dx` from `dy` plus, where not null, `dsum`; `dweight` by way of `partials` [rms_norm_partials, width].
template <class T>
void rms_norm_backward(const T *dy, const T *dsum, const T *x, const T *weight, const float *scales, T *dx, T *dweight,
                       float *partials, int64_t count, int64_t width, void *stream);

// Turns q [N, H, D] and k [N, K, D]: first halves of heads with second ones, by `direction` times the angles whose cosines
// and sines are [N, D]. Without k (null), q alone.
template <class T>
void rotate(const T *q, const T *k, const T *cos, const T *sin, T *turned_q, T *turned_k, int64_t tokens, int64_t q_heads,
            int64_t k_heads, int64_t width, float direction, void *stream);

// silu(gate) * up.
template <class T> void swiglu(const T *gate, const T *up, T *y, int64_t count, void *stream);
template <class T>
void swiglu_backward(const T *dy, const T *gate, const T *up, T *dgate, T *dup, int64_t count, void *stream);

// x [count, width] in e4m3, each row divided by a power of two as rows::quantize does it, which goes to `scales` [count].
// Counts and widths are multiples of this.
constexpr int64_t QUANTIZED_MULTIPLE = 16;
template <class T>
void quantize_rows(const T *x, rows::E4m3 *y, float *scales, int64_t count, int64_t width, void *stream);
// The same of its transpose: `y` is [width, count], `scales` [width].
template <class T>
void quantize_columns(const T *x, rows::E4m3 *y, float *scales, int64_t count, int64_t width, void *stream);

// Of each row of logits [count, width]: log Z, and the negative log-likelihood of its target (0 where that is negative).
// With `gradient` the logits become the gradient of weight * (nll + z_loss * log Z^2).
template <class T>
void cross_entropy(T *logits, const int64_t *targets, const float *weights, float *log_z, float *nll, int64_t count,
                   int64_t width, float z_loss, bool gradient, void *stream);

// A tensor among many that one launch goes over.
struct Item {
  // What is read: a gradient, fp32 or bf16.
  const void *from;
  // What is updated: fp32 sums, or the master weights.
  float *to;
  // AdamW alone: moments, fp32 or bf16, and the weight that follows its master in bf16 (null where the master is the
  // weight).
  void *exp_avg, *exp_avg_sq;
  rows::Bf16 *weight;
  int64_t count;
  // Chunks of the items before.
  int64_t chunks_before;
  bool from_bf16;
  // AdamW alone: whether the weight decays, and whether moments are bf16, rounded at random as rows::adamw does it.
  bool decays, moments_bf16;
};
// Numbers of a tensor that one block takes.
constexpr int64_t CHUNK = 1 << 14;

// The numbers of an AdamW update.
struct AdamW {
  double beta1, beta2, eps, weight_decay;
};
// What an AdamW update reads on the device: the rate, the number of this update, what gradients are divided by, and
// whether nothing is to be changed.
struct AdamWScalars {
  const float *lr, *step, *divisor, *skipped;
};

// `items` lies on the device, with `chunks` chunks in all.
void adamw(const Item *items, int64_t count, int64_t chunks, AdamW numbers, AdamWScalars scalars, void *stream);
// to += from, or to = from.
void accumulate(const Item *items, int64_t count, int64_t chunks, bool add, void *stream);
// The Euclidean norm of all `from` together, by way of `partials` [chunks]; summed in an order that is always the same.
void global_norm(const Item *items, int64_t count, int64_t chunks, float *partials, float *norm, void *stream);

} // namespace kernels
