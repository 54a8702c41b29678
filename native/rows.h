// What a CPU computes between matrix products, as loops over plain memory: each reads its operands once, in the width of
// the machine it runs on. Sums and exponentials are fp32 whatever the operands are.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ON_CPU_AND_GPU __host__ __device__
#else
#define ON_CPU_AND_GPU
#endif

namespace rows {

// A bf16 number: the upper half of an fp32 one.
struct Bf16 {
  uint16_t bits;
};

// A number of 8 bits: sign, 4 bits of exponent, 3 of mantissa; 448 is the largest, there is no infinity
// (Micikevicius et al. 2022, arXiv 2209.05433).
struct E4m3 {
  uint8_t bits;
};

// One row's RMSNorm of `x`, or of `x + delta`, which then goes to `sum`. Writes `y` and returns 1 / rms.
float rms_norm(const float *x, const float *delta, const float *weight, float *sum, float *y, int64_t width, float eps);
float rms_norm(const Bf16 *x, const Bf16 *delta, const Bf16 *weight, Bf16 *sum, Bf16 *y, int64_t width, float eps);

// Its gradient: `dx` from `dy` plus, where given, `dsum`; adds the weight's share to `dweight`.
void rms_norm_backward(const float *dy, const float *dsum, const float *x, const float *weight, float scale, float *dx,
                       float *dweight, int64_t width);
void rms_norm_backward(const Bf16 *dy, const Bf16 *dsum, const Bf16 *x, const Bf16 *weight, float scale, Bf16 *dx,
                       float *dweight, int64_t width);

// Turns `heads` heads of one token: their first halves with their second, by `direction` times the angle.
void rotate(const float *x, const float *cos, const float *sin, float *y, int64_t heads, int64_t half, float direction);
void rotate(const Bf16 *x, const Bf16 *cos, const Bf16 *sin, Bf16 *y, int64_t heads, int64_t half, float direction);

// silu(gate) * up.
void swiglu(const float *gate, const float *up, float *y, int64_t count);
void swiglu(const Bf16 *gate, const Bf16 *up, Bf16 *y, int64_t count);
void swiglu_backward(const float *dy, const float *gate, const float *up, float *dgate, float *dup, int64_t count);
void swiglu_backward(const Bf16 *dy, const Bf16 *gate, const Bf16 *up, Bf16 *dgate, Bf16 *dup, int64_t count);

// Rounds a row divided by a power of two, which is returned: the least that brings its largest number to 448 or below.
// With a number that is not finite in it, neither is what the row is then.
float quantize(const float *x, E4m3 *y, int64_t width);
float quantize(const Bf16 *x, E4m3 *y, int64_t width);

// One row of logits: returns log Z; with `gradient` it puts d(weight * (log Z - logit of target + z_loss * log Z^2)) in the
// logits' place, without the target's term where that is negative. `scratch` holds `width` numbers.
float cross_entropy(float *logits, float *scratch, int64_t width, int64_t target, float weight, float z_loss,
                    bool gradient);
float cross_entropy(Bf16 *logits, float *scratch, int64_t width, int64_t target, float weight, float z_loss,
                    bool gradient);

// 32 bits that look random, of `at` under a `key`: the same wherever and whenever they are asked for. The mixing is
// Wellons' lowbias32.
ON_CPU_AND_GPU inline uint32_t random_bits(uint32_t key, uint32_t at) {
  uint32_t x = at * 0x9e3779b9u ^ key;
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

// The numbers of an AdamW update (Loshchilov & Hutter 2019, arXiv 1711.05101): gradients are scaled by `scale`, weights
// first by `kept`, 1 - lr * weight decay; `rate` is lr / (1 - beta1^t), `root` is 1 / sqrt(1 - beta2^t), `beside1` and
// `beside2` are 1 - beta1 and 1 - beta2.
struct AdamW {
  float beside1, beta2, beside2, eps, scale, kept, rate, root;
};
// Updates `count` weights and their moments by their gradients; `weight`, where not null, is the master rounded. Moments in
// bf16 are rounded up or down at random, nearer the likelier, so that what is too small to change them does so on average:
// by the random bits of `key` and of where in its tensor a number is, the first at `first`.
#define FOR(G, M)                                                                                                      \
  void adamw(const G *gradient, float *master, M *exp_avg, M *exp_avg_sq, Bf16 *weight, int64_t count, AdamW numbers, \
             uint32_t key, int64_t first);
FOR(float, float)
FOR(Bf16, float)
FOR(float, Bf16)
FOR(Bf16, Bf16)
#undef FOR

// A row's number at `at`.
float read(const float *row, int64_t at);
float read(const Bf16 *row, int64_t at);

} // namespace rows
