// Loops that the compiler vectorises; on x86-64 each is compiled for AVX-512, for AVX2 and for any processor, and the
// loader picks. They take no libtorch.
#include "rows.h"

#include <cmath>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif
// What a clone calls must be compiled with it.
#define INLINE static inline __attribute__((always_inline))

namespace rows {
namespace {

INLINE float number(float x) { return x; }
INLINE float number(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

INLINE void put(float &to, float x) { to = x; }
// Rounds to the nearest, ties to even; what is no number stays none.
INLINE void put(Bf16 &to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

// To the nearest, ties to even, of a number of at most 448; what is no number stays none.
INLINE void put(E4m3 &to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 24 & 0x80, size = bits & 0x7fffffff;
  // From 2^-6 on the exponent is moved from a bias of 127 to one of 7; below, numbers are multiples of 2^-9.
  const uint32_t normal = ((size + 0x7ffff + (size >> 20 & 1)) >> 20) - ((127 - 7) << 3);
  float positive;
  std::memcpy(&positive, &size, sizeof positive);
  const float shifted = positive + 16384.0f; // whose last place is 2^-9
  uint32_t below;
  std::memcpy(&below, &shifted, sizeof below);
  const uint32_t code = size < 0x3c800000 ? below & 0xf : normal;
  to.bits = static_cast<uint8_t>(sign | (size > 0x7f800000 ? 0x7f : code));
}

// e^x within 2 units of the last place: 2^n times a polynomial on half an octave about 0 (Cephes' expf). Below -87 it
// is e^-87, above 88 it is e^88; what is no number stays none.
INLINE float exponential(float x) {
  const float in = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float n = (in * 1.44269504f + 12582912.0f) - 12582912.0f; // nearest integer
  const float r = in - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const uint32_t bits = static_cast<uint32_t>((static_cast<int32_t>(n) + 127)) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

// The least power of two that brings a number of these bits, which is positive, to 448 or below; no power below 2^-126,
// and what is not finite stays so.
INLINE float scale_of(uint32_t bits) {
  float size, scale;
  std::memcpy(&size, &bits, sizeof size);
  const float share = size / 448.0f;
  std::memcpy(&bits, &share, sizeof bits);
  if (bits >= 0x7f800000) return share;
  // A mantissa above 1 needs the next power.
  bits = bits < 0x00800000 ? 0x00800000 : (bits + 0x7fffff) & 0x7f800000;
  std::memcpy(&scale, &bits, sizeof scale);
  return scale;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

template <class T>
INLINE float norm_row(const T *x, const T *delta, const T *weight, T *sum, T *y, int64_t width, float eps) {
  float squares = 0;
  if (delta) {
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; ++i) {
      put(sum[i], number(x[i]) + number(delta[i]));
      squares += number(sum[i]) * number(sum[i]);
    }
    x = sum;
  } else {
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; ++i) squares += number(x[i]) * number(x[i]);
  }
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) put(y[i], number(x[i]) * scale * number(weight[i]));
  return scale;
}

template <class T>
INLINE void norm_row_backward(const T *dy, const T *dsum, const T *x, const T *weight, float scale, T *dx,
                              float *dweight, int64_t width) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < width; ++i) dot += number(dy[i]) * number(weight[i]) * number(x[i]);
  // d(x_i s w_i)/dx_j = s w_j - s^3 x_i w_i x_j / width
  const float along = dot * scale * scale * scale / static_cast<float>(width);
  if (dsum) {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float g = number(dy[i]), in = number(x[i]);
      put(dx[i], number(dsum[i]) + g * number(weight[i]) * scale - in * along);
      dweight[i] += g * in * scale;
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const float g = number(dy[i]), in = number(x[i]);
      put(dx[i], g * number(weight[i]) * scale - in * along);
      dweight[i] += g * in * scale;
    }
  }
}

template <class T>
INLINE void rotate_row(const T *x, const T *cos, const T *sin, T *y, int64_t heads, int64_t half, float direction) {
  for (int64_t head = 0; head < heads; ++head, x += 2 * half, y += 2 * half) {
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const float a = number(x[i]), b = number(x[half + i]), c = number(cos[i]), s = direction * number(sin[i]);
      put(y[i], a * c - b * s);
      put(y[half + i], b * c + a * s);
    }
  }
}

template <class T> INLINE void swiglu_row(const T *gate, const T *up, T *y, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float g = number(gate[i]);
    put(y[i], g * sigmoid(g) * number(up[i]));
  }
}

template <class T>
INLINE void swiglu_row_backward(const T *dy, const T *gate, const T *up, T *dgate, T *dup, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const float d = number(dy[i]), g = number(gate[i]), s = sigmoid(g);
    put(dgate[i], d * number(up[i]) * s * (1.0f + g * (1.0f - s)));
    put(dup[i], d * g * s);
  }
}

template <class T> INLINE float quantize_row(const T *x, E4m3 *y, int64_t width) {
  // As integers the sizes of numbers are in order, with what is not finite above all.
  uint32_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < width; ++i) {
    const float in = number(x[i]);
    uint32_t bits;
    std::memcpy(&bits, &in, sizeof bits);
    const uint32_t size = bits & 0x7fffffff;
    largest = size > largest ? size : largest;
  }
  const float scale = scale_of(largest), inverse = 1.0f / scale;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) put(y[i], number(x[i]) * inverse);
  return scale;
}

template <class T>
INLINE float cross_entropy_row(T *logits, float *scratch, int64_t width, int64_t target, float weight, float z_loss,
                               bool gradient) {
  float largest = number(logits[0]);
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < width; ++i) {
    const float logit = number(logits[i]);
    largest = logit > largest ? logit : largest;
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < width; ++i) {
    scratch[i] = exponential(number(logits[i]) - largest);
    total += scratch[i];
  }
  const float log_z = largest + std::log(total);
  if (gradient) {
    // Where nothing is learned, zero whatever the logits are.
    const float factor = weight == 0.0f ? 0.0f : weight * (1.0f + 2.0f * z_loss * log_z) / total;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) put(logits[i], scratch[i] * factor);
    if (target >= 0) put(logits[target], scratch[target] * factor - weight);
  }
  return log_z;
}

// One of both neighbours by 16 random bits; fp32 has room for all.
INLINE void put_at_random(float &to, float x, uint32_t) { to = x; }
INLINE void put_at_random(Bf16 &to, float x, uint32_t random) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t added = (bits & 0x7f800000) == 0x7f800000 ? 0 : random & 0xffff;
  to.bits = static_cast<uint16_t>((bits + added) >> 16);
}

template <class T, class M>
INLINE void adamw_run(const T *gradient, float *master, M *exp_avg, M *exp_avg_sq, Bf16 *weight, int64_t count, AdamW n,
                      uint32_t key, int64_t first) {
  const auto update = [&](int64_t i) __attribute__((always_inline)) {
    const float g = number(gradient[i]) * n.scale, before = number(exp_avg[i]);
    const float average = before + n.beside1 * (g - before);
    const float square = n.beta2 * number(exp_avg_sq[i]) + n.beside2 * g * g;
    master[i] = master[i] * n.kept - n.rate * average / (std::sqrt(square) * n.root + n.eps);
    const uint32_t random = sizeof(M) == 2 ? random_bits(key, static_cast<uint32_t>(first + i)) : 0;
    put_at_random(exp_avg[i], average, random);
    put_at_random(exp_avg_sq[i], square, random >> 16);
  };
  if (weight) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      update(i);
      put(weight[i], master[i]);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) update(i);
  }
}

} // namespace

#define FOR(T)                                                                                                         \
  WIDEST float rms_norm(const T *x, const T *delta, const T *weight, T *sum, T *y, int64_t width, float eps) {         \
    return norm_row(x, delta, weight, sum, y, width, eps);                                                             \
  }                                                                                                                    \
  WIDEST void rms_norm_backward(const T *dy, const T *dsum, const T *x, const T *weight, float scale, T *dx,           \
                                float *dweight, int64_t width) {                                                       \
    norm_row_backward(dy, dsum, x, weight, scale, dx, dweight, width);                                                 \
  }                                                                                                                    \
  WIDEST void rotate(const T *x, const T *cos, const T *sin, T *y, int64_t heads, int64_t half, float direction) {     \
    rotate_row(x, cos, sin, y, heads, half, direction);                                                                \
  }                                                                                                                    \
  WIDEST void swiglu(const T *gate, const T *up, T *y, int64_t count) { swiglu_row(gate, up, y, count); }              \
  WIDEST void swiglu_backward(const T *dy, const T *gate, const T *up, T *dgate, T *dup, int64_t count) {              \
    swiglu_row_backward(dy, gate, up, dgate, dup, count);                                                              \
  }                                                                                                                    \
  WIDEST float cross_entropy(T *logits, float *scratch, int64_t width, int64_t target, float weight, float z_loss,     \
                             bool gradient) {                                                                          \
    return cross_entropy_row(logits, scratch, width, target, weight, z_loss, gradient);                                \
  }                                                                                                                    \
  WIDEST float quantize(const T *x, E4m3 *y, int64_t width) { return quantize_row(x, y, width); }                      \
  float read(const T *row, int64_t at) { return number(row[at]); }

FOR(float)
FOR(Bf16)
#undef FOR

#define FOR(G, M)                                                                                                      \
  WIDEST void adamw(const G *gradient, float *master, M *exp_avg, M *exp_avg_sq, Bf16 *weight, int64_t count,          \
                    AdamW numbers, uint32_t key, int64_t first) {                                                      \
    adamw_run(gradient, master, exp_avg, exp_avg_sq, weight, count, numbers, key, first);                              \
  }
FOR(float, float)
FOR(Bf16, float)
FOR(float, Bf16)
FOR(Bf16, Bf16)
#undef FOR

} // namespace rows
