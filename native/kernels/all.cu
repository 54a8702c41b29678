// One launch over every parameter: AdamW, sums of gradients, their norm. A block takes a chunk of one tensor and finds
// which by bisection.
#include "device.cuh"
#include "kernels.h"

namespace kernels {
namespace {

constexpr int THREADS = 256, V = 4;

// A block's share of a tensor.
struct Share {
  const Item *item;
  int64_t begin, end;
};

// The item with this chunk: the last whose chunks do not begin behind it.
__device__ inline Share share(const Item *items, int64_t count, int64_t chunk) {
  int64_t low = 0, high = count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (items[middle].chunks_before <= chunk) low = middle;
    else high = middle;
  }
  const int64_t begin = (chunk - items[low].chunks_before) * CHUNK;
  const int64_t end = begin + CHUNK < items[low].count ? begin + CHUNK : items[low].count;
  return {items + low, begin, end};
}

// Up to four numbers at `at`, widened; zeros at and beyond `end`. Storage of tensors begins at 16 bytes or more, and `at`
// is a multiple of four, but a tensor may be a view into another's storage.
__device__ inline void read(float (&to)[V], const void *from, bool bf16, int64_t at, int64_t end) {
  if (bf16) {
    const auto *row = static_cast<const Bf16 *>(from) + at;
    if (at + V <= end && reinterpret_cast<uintptr_t>(row) % (V * sizeof(Bf16)) == 0) {
      const auto pack = load<V>(row);
      for (int i = 0; i < V; ++i) to[i] = number(pack.at[i]);
    } else {
      for (int i = 0; i < V; ++i) to[i] = at + i < end ? number(row[i]) : 0.0f;
    }
    return;
  }
  const auto *row = static_cast<const float *>(from) + at;
  if (at + V <= end && reinterpret_cast<uintptr_t>(row) % (V * sizeof(float)) == 0) {
    const auto pack = load<V>(row);
    for (int i = 0; i < V; ++i) to[i] = pack.at[i];
  } else {
    for (int i = 0; i < V; ++i) to[i] = at + i < end ? row[i] : 0.0f;
  }
}

template <class T> __device__ inline void write(T *to, const float (&from)[V], int64_t at, int64_t end) {
  if (at + V <= end && reinterpret_cast<uintptr_t>(to + at) % (V * sizeof(T)) == 0) {
    Pack<T, V> pack;
    for (int i = 0; i < V; ++i) pack.at[i] = rounded<T>(from[i]);
    store(to + at, pack);
  } else {
    for (int i = 0; i < V && at + i < end; ++i) to[at + i] = rounded<T>(from[i]);
  }
}

// One of the two bf16 numbers around x, by 16 random bits.
__device__ inline float at_random(float x, unsigned random) {
  const unsigned bits = __float_as_uint(x);
  return __uint_as_float((bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + (random & 0xffffu)) & 0xffff0000u);
}

// Decoupled weight decay, then the update by bias-corrected moments (Loshchilov & Hutter 2019, arXiv 1711.05101).
__global__ void update(const Item *items, int64_t count, AdamW numbers, AdamWScalars scalars) {
  if (*scalars.skipped != 0.0f) return;
  const auto [item, begin, end] = share(items, count, blockIdx.x);
  const float scale = 1.0f / *scalars.divisor;
  // Corrections of the moments' bias, in fp64: 1 - 0.999 has four digits left in fp32.
  __shared__ float corrected, root, kept;
  if (threadIdx.x == 0) {
    const double lr = *scalars.lr, step = *scalars.step;
    corrected = static_cast<float>(lr / (1.0 - pow(numbers.beta1, step)));
    root = static_cast<float>(1.0 / sqrt(1.0 - pow(numbers.beta2, step)));
    kept = item->decays ? static_cast<float>(1.0 - lr * numbers.weight_decay) : 1.0f;
  }
  __syncthreads();
  // The random bits of this update of this tensor.
  const unsigned key = rows::random_bits(static_cast<unsigned>(*scalars.step), static_cast<unsigned>(item - items));
  const float beta2 = static_cast<float>(numbers.beta2), eps = static_cast<float>(numbers.eps);
  const float beside1 = static_cast<float>(1.0 - numbers.beta1), beside2 = static_cast<float>(1.0 - numbers.beta2);
  for (int64_t at = begin + threadIdx.x * V; at < end; at += THREADS * V) {
    float gradient[V], master[V], average[V], square[V];
    read(gradient, item->from, item->from_bf16, at, end);
    read(master, item->to, false, at, end);
    read(average, item->exp_avg, item->moments_bf16, at, end);
    read(square, item->exp_avg_sq, item->moments_bf16, at, end);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float g = gradient[i] * scale;
      average[i] += beside1 * (g - average[i]);
      square[i] = beta2 * square[i] + beside2 * g * g;
      master[i] = master[i] * kept - corrected * average[i] / (sqrtf(square[i]) * root + eps);
    }
    write(item->to, master, at, end);
    if (item->moments_bf16) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const unsigned random = rows::random_bits(key, static_cast<unsigned>(at + i));
        average[i] = at_random(average[i], random);
        square[i] = at_random(square[i], random >> 16);
      }
      write(static_cast<Bf16 *>(item->exp_avg), average, at, end);
      write(static_cast<Bf16 *>(item->exp_avg_sq), square, at, end);
    } else {
      write(static_cast<float *>(item->exp_avg), average, at, end);
      write(static_cast<float *>(item->exp_avg_sq), square, at, end);
    }
    if (item->weight != nullptr) write(item->weight, master, at, end);
  }
}

__global__ void sum(const Item *items, int64_t count, bool add) {
  const auto [item, begin, end] = share(items, count, blockIdx.x);
  for (int64_t at = begin + threadIdx.x * V; at < end; at += THREADS * V) {
    float from[V], to[V];
    read(from, item->from, item->from_bf16, at, end);
    if (add) {
      read(to, item->to, false, at, end);
#pragma unroll
      for (int i = 0; i < V; ++i) from[i] += to[i];
    }
    write(item->to, from, at, end);
  }
}

__global__ void squares(const Item *items, int64_t count, float *partials) {
  const auto [item, begin, end] = share(items, count, blockIdx.x);
  float sum = 0.0f;
  for (int64_t at = begin + threadIdx.x * V; at < end; at += THREADS * V) {
    float from[V];
    read(from, item->from, item->from_bf16, at, end);
#pragma unroll
    for (int i = 0; i < V; ++i) sum += from[i] * from[i];
  }
  sum = total(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// One block: partial sums in fp64, so that a hundred thousand of them lose nothing.
__global__ void root(const float *partials, int64_t count, float *norm) {
  __shared__ double parts[THREADS];
  double sum = 0.0;
  for (int64_t at = threadIdx.x; at < count; at += THREADS) sum += partials[at];
  parts[threadIdx.x] = sum;
  __syncthreads();
  for (int step = THREADS / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(parts[0]));
}

} // namespace

void adamw(const Item *items, int64_t count, int64_t chunks, AdamW numbers, AdamWScalars scalars, void *stream) {
  if (chunks > 0) launch(update, dim3(chunks), dim3(THREADS), stream, items, count, numbers, scalars);
}

void accumulate(const Item *items, int64_t count, int64_t chunks, bool add, void *stream) {
  if (chunks > 0) launch(sum, dim3(chunks), dim3(THREADS), stream, items, count, add);
}

void global_norm(const Item *items, int64_t count, int64_t chunks, float *partials, float *norm, void *stream) {
  if (chunks > 0) launch(squares, dim3(chunks), dim3(THREADS), stream, items, count, partials);
  launch(root, dim3(1), dim3(THREADS), stream, static_cast<const float *>(partials), chunks, norm);
}

} // namespace kernels
