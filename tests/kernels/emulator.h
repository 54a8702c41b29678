// CUDA on a CPU, as far as the kernels use it. Blocks run one after another; a block's threads are fibers, which change
// places at barriers and shuffles only. What CUDA leaves undefined there (a thread that has left, one that waits
// elsewhere) ends the program.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(threads)
// Blocks do not run side by side.
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  template <class X = int, class Y = int> dim3(X x = 1, Y y = 1) : x(unsigned(x)), y(unsigned(y)), z(1) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

enum class State { ready, at_block, at_warp, done };

struct Fiber {
  ucontext_t context;
  State state = State::ready;
};

constexpr int WARP = 32;
constexpr size_t STACK = 64 << 10;

inline std::vector<Fiber> fibers;
inline std::vector<float> shuffled;
inline ucontext_t scheduler;
inline size_t current;
inline std::function<void()> body;
// Never initialised, so that what is not used costs nothing.
inline std::unique_ptr<char[]> stacks(new char[1024 * STACK]);

inline void wait(State at) {
  fibers[current].state = at;
  swapcontext(&fibers[current].context, &scheduler);
}

inline void enter() {
  body();
  fibers[current].state = State::done;
}

inline void resume(size_t at) {
  current = at;
  threadIdx = dim3(at % blockDim.x, at / blockDim.x);
  swapcontext(&scheduler, &fibers[at].context);
}

// Makes ready those of `begin..end` where all of them wait at `at`.
inline bool release(size_t begin, size_t end, State at) {
  for (auto i = begin; i < end; ++i)
    if (fibers[i].state != at) return false;
  for (auto i = begin; i < end; ++i) fibers[i].state = State::ready;
  return true;
}

inline void run_block() {
  const size_t count = fibers.size();
  for (size_t i = 0; i < count; ++i) {
    auto &fiber = fibers[i];
    fiber.state = State::ready;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks.get() + i * STACK;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, enter, 0);
  }
  for (;;) {
    size_t done = 0;
    for (size_t i = 0; i < count; ++i) {
      if (fibers[i].state == State::ready) resume(i);
      done += fibers[i].state == State::done;
    }
    if (done == count) return;
    bool released = release(0, count, State::at_block);
    for (size_t warp = 0; warp < count; warp += WARP)
      released |= release(warp, std::min(warp + WARP, count), State::at_warp);
    if (!released) {
      std::printf("block %u: threads wait for each other in different places, or for ones that have left\n", blockIdx.x);
      std::exit(1);
    }
  }
}

} // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::State::at_block); }

inline float __shfl_xor_sync(unsigned, float value, int step) {
  const auto me = emulator::current;
  emulator::shuffled[me] = value;
  emulator::wait(emulator::State::at_warp);
  const float other = emulator::shuffled[me ^ size_t(step)];
  emulator::wait(emulator::State::at_warp);
  return other;
}

inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline void atomicMax(unsigned *to, unsigned value) { *to = max(*to, value); }

struct __nv_bfloat16 {
  uint16_t bits;
};
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  return {static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }

// e4m3 as it is defined, by looking at every number it has: the nearest, of two the even one.
enum { __NV_SATFINITE, __NV_E4M3 };
inline uint8_t __nv_cvt_float_to_fp8(float x, int, int) {
  if (std::isnan(x)) return 0x7f;
  const auto value = [](int code) {
    const int exponent = code >> 3, mantissa = code & 7;
    return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  };
  const double size = std::fabs(double(x));
  int best = 0;
  for (int code = 1; code < 0x7f; ++code) {
    const double apart = std::fabs(value(code) - size), least = std::fabs(value(best) - size);
    if (apart < least || (apart == least && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(best | (std::signbit(x) ? 0x80 : 0));
}

using cudaError_t = int;
using cudaStream_t = void *;
constexpr int cudaSuccess = 0, cudaDevAttrMultiProcessorCount = 16;
inline const char *cudaGetErrorString(int) { return "none"; }
inline int cudaGetDevice(int *device) { return *device = 0; }
inline int cudaDeviceGetAttribute(int *value, int, int) {
  *value = 3; // fewer than there are rows, so that blocks take several
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

namespace kernels {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, void *, Arguments... arguments) {
  gridDim = blocks;
  blockDim = threads;
  emulator::fibers.resize(threads.x * threads.y);
  emulator::shuffled.resize(emulator::fibers.size());
  emulator::body = [&] { kernel(arguments...); };
  for (unsigned block = 0; block < blocks.x; ++block) {
    blockIdx = dim3(block);
    emulator::run_block();
  }
}

} // namespace kernels
