// What the kernels are written with: numbers, packs of 16 bytes of them, sums over a block, launching.
//
// Kernels take no libtorch, so nvcc compiles them in seconds and tests/kernels runs them on a CPU, where emulator.h stands
// in for CUDA.
#pragma once

#include "../rows.h"

#ifdef HEPHAESTUS_EMULATED
#include "emulator.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#endif

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace kernels {

using rows::Bf16;

constexpr int WARP = 32;

__device__ inline float number(float x) { return x; }
__device__ inline float number(Bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }

// To the nearest, ties to even.
template <class T> __device__ inline T rounded(float x);
template <> __device__ inline float rounded<float>(float x) { return x; }
template <> __device__ inline Bf16 rounded<Bf16>(float x) { return {__bfloat16_as_ushort(__float2bfloat16_rn(x))}; }

// V numbers that are read and written at once.
template <class T, int V> struct alignas(V * sizeof(T)) Pack {
  T at[V];
};
// As many as 16 bytes hold.
template <class T> constexpr int WIDE = 16 / sizeof(T);

template <int V, class T> __device__ inline Pack<T, V> load(const T *from) {
  return *reinterpret_cast<const Pack<T, V> *>(from);
}
template <class T, int V> __device__ inline void store(T *to, const Pack<T, V> &pack) {
  *reinterpret_cast<Pack<T, V> *>(to) = pack;
}

// Whether rows of `width` numbers from these places on can be read in packs. Null pointers are aligned.
template <class T> bool is_wide(int64_t width, std::initializer_list<const void *> places) {
  const auto aligned = [](const void *place) { return reinterpret_cast<uintptr_t>(place) % 16 == 0; };
  return width % WIDE<T> == 0 && std::all_of(places.begin(), places.end(), aligned);
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Largest {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// `value` of all threads that share threadIdx.y, put together in an order that is always the same; every thread gets it.
// blockDim.x is a power of two up to a warp, or a number of whole warps in a block that has no second dimension. All
// threads of the block call it.
template <class Join> __device__ inline float joined(float value, float nothing, Join join) {
  const int within = blockDim.x < WARP ? blockDim.x : WARP;
  for (int step = within / 2; step > 0; step /= 2) value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
  if (blockDim.x <= WARP) return value;
  __shared__ float parts[WARP];
  __syncthreads(); // the parts of the call before are read
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  value = lane < blockDim.x / WARP ? parts[lane] : nothing;
  for (int step = WARP / 2; step > 0; step /= 2) value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}
__device__ inline float total(float value) { return joined(value, 0.0f, Sum{}); }
__device__ inline float largest(float value) { return joined(value, -INFINITY, Largest{}); }

inline void checked(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Multiprocessors of the current device.
inline int processors() {
  int device = 0, count = 0;
  checked(cudaGetDevice(&device));
  checked(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

#ifndef HEPHAESTUS_EMULATED
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, void *stream, Arguments... arguments) {
  kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  checked(cudaGetLastError());
}
#endif

} // namespace kernels
