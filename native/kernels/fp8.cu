// Matrices in e4m3 with a power of two for every row, or every column: rows::quantize of all of them.
#include "device.cuh"
#include "kernels.h"

#ifndef HEPHAESTUS_EMULATED
#include <cuda_fp8.h>
#endif

namespace kernels {
namespace {

using rows::E4m3;

// A number of at most 448.
__device__ inline E4m3 code(float x) { return {__nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3)}; }

// The size of a number as an integer: in order, with what is not finite above all.
__device__ inline unsigned size(float x) { return __float_as_uint(x) & 0x7fffffffu; }

// As rows::quantize.
__device__ inline float scale_of(unsigned largest) {
  const float share = __uint_as_float(largest) / 448.0f;
  const unsigned bits = __float_as_uint(share);
  if (bits >= 0x7f800000u) return share;
  return __uint_as_float(bits < 0x00800000u ? 0x00800000u : (bits + 0x7fffffu) & 0x7f800000u);
}

constexpr int THREADS = 256;
// Numbers of a row that a thread takes at once, so that it writes 8 or 16 bytes.
constexpr int V = 8;

template <class T> struct Numbers {
  float at[V];
  __device__ explicit Numbers(const T *from) {
#pragma unroll
    for (int i = 0; i < V; i += WIDE<T>) {
      const auto pack = load<WIDE<T>>(from + i);
#pragma unroll
      for (int j = 0; j < WIDE<T>; ++j) at[i + j] = number(pack.at[j]);
    }
  }
};

// A block a row, which it reads twice: the second time from the caches.
template <class T> __global__ void by_row(const T *x, E4m3 *y, float *scales, int64_t width) {
  x += blockIdx.x * width;
  y += blockIdx.x * width;
  unsigned most = 0;
  for (int64_t at = threadIdx.x * V; at < width; at += THREADS * V) {
    const Numbers<T> in(x + at);
#pragma unroll
    for (int i = 0; i < V; ++i) most = max(most, size(in.at[i]));
  }
  __shared__ unsigned largest;
  if (threadIdx.x == 0) largest = 0;
  __syncthreads();
  atomicMax(&largest, most);
  __syncthreads();
  const float scale = scale_of(largest), inverse = 1.0f / scale;
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  for (int64_t at = threadIdx.x * V; at < width; at += THREADS * V) {
    const Numbers<T> in(x + at);
    Pack<E4m3, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) out.at[i] = code(in.at[i] * inverse);
    store(y + at, out);
  }
}

// Of the columns: the size of the largest number, by blocks of so many rows and columns, into `largest`, which is zeros.
constexpr int DOWN = 128, ACROSS = 256;

template <class T>
__global__ void column_sizes(const T *x, unsigned *largest, int64_t count, int64_t width) {
  const int64_t tiles = (width + ACROSS - 1) / ACROSS;
  const int64_t top = blockIdx.x / tiles * DOWN, left = blockIdx.x % tiles * ACROSS;
  constexpr int PACKS = ACROSS / V;
  const int64_t column = left + threadIdx.x % PACKS * V;
  __shared__ unsigned most[ACROSS];
  most[threadIdx.x] = 0;
  __syncthreads();
  if (column < width) {
    unsigned mine[V] = {};
    for (int64_t row = top + threadIdx.x / PACKS; row < top + DOWN && row < count; row += THREADS / PACKS) {
      const Numbers<T> in(x + row * width + column);
#pragma unroll
      for (int i = 0; i < V; ++i) mine[i] = max(mine[i], size(in.at[i]));
    }
#pragma unroll
    for (int i = 0; i < V; ++i) atomicMax(&most[threadIdx.x % PACKS * V + i], mine[i]);
  }
  __syncthreads();
  if (left + threadIdx.x < width) atomicMax(&largest[left + threadIdx.x], most[threadIdx.x]);
}

// Sizes into the scales of columns, in place.
__global__ void column_scales(unsigned *largest, int64_t width) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (at < width) largest[at] = __float_as_uint(scale_of(largest[at]));
}

// A tile of so many rows and columns, turned in shared memory: it is read along rows and written along columns.
constexpr int TALL = 128, SLIM = 64;

template <class T>
__global__ void by_column(const T *x, E4m3 *y, const float *scales, int64_t count, int64_t width) {
  const int64_t tiles = (width + SLIM - 1) / SLIM;
  const int64_t top = blockIdx.x / tiles * TALL, left = blockIdx.x % tiles * SLIM;
  // Rows of the turned tile begin four banks apart.
  alignas(16) __shared__ E4m3 turned[SLIM][TALL + 16];
  constexpr int PACKS = SLIM / V;
  const int64_t column = left + threadIdx.x % PACKS * V;
  if (column < width) {
    float inverse[V];
#pragma unroll
    for (int i = 0; i < V; ++i) inverse[i] = 1.0f / scales[column + i];
    for (int row = threadIdx.x / PACKS; row < TALL && top + row < count; row += THREADS / PACKS) {
      const Numbers<T> in(x + (top + row) * width + column);
#pragma unroll
      for (int i = 0; i < V; ++i) turned[threadIdx.x % PACKS * V + i][row] = code(in.at[i] * inverse[i]);
    }
  }
  __syncthreads();
  constexpr int BYTES = 16, RUNS = TALL / BYTES;
  const int64_t row = top + threadIdx.x % RUNS * BYTES;
  if (row >= count) return;
  for (int at = threadIdx.x / RUNS; at < SLIM && left + at < width; at += THREADS / RUNS)
    store(y + (left + at) * count + row, load<BYTES>(&turned[at][row - top]));
}

} // namespace

template <class T>
void quantize_rows(const T *x, E4m3 *y, float *scales, int64_t count, int64_t width, void *stream) {
  if (count > 0) launch(by_row<T>, dim3(count), dim3(THREADS), stream, x, y, scales, width);
}

template <class T>
void quantize_columns(const T *x, E4m3 *y, float *scales, int64_t count, int64_t width, void *stream) {
  if (count == 0 || width == 0) return;
  auto *largest = reinterpret_cast<unsigned *>(scales);
  checked(cudaMemsetAsync(largest, 0, width * sizeof *largest, static_cast<cudaStream_t>(stream)));
  const auto blocks = [&](int64_t tall, int64_t wide) { return dim3(ceil_div(count, tall) * ceil_div(width, wide)); };
  launch(column_sizes<T>, blocks(DOWN, ACROSS), dim3(THREADS), stream, x, largest, count, width);
  launch(column_scales, dim3(ceil_div(width, THREADS)), dim3(THREADS), stream, largest, width);
  launch(by_column<T>, blocks(TALL, SLIM), dim3(THREADS), stream, x, y, static_cast<const float *>(scales), count, width);
}

#define FOR(T)                                                                                                         \
  template void quantize_rows(const T *, E4m3 *, float *, int64_t, int64_t, void *);                                  \
  template void quantize_columns(const T *, E4m3 *, float *, int64_t, int64_t, void *);
FOR(float)
FOR(Bf16)
#undef FOR

} // namespace kernels
