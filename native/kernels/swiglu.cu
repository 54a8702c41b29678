// silu(gate) * up, forward and backward: a pack of each operand a thread.
#include "device.cuh"
#include "kernels.h"

namespace kernels {
namespace {

constexpr int THREADS = 256;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T, int V> __global__ void forward(const T *gate, const T *up, T *y, int64_t count) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  if (at >= count) return;
  const auto g = load<V>(gate + at), u = load<V>(up + at);
  Pack<T, V> out;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float x = number(g.at[i]);
    out.at[i] = rounded<T>(x * sigmoid(x) * number(u.at[i]));
  }
  store(y + at, out);
}

template <class T, int V>
__global__ void backward(const T *dy, const T *gate, const T *up, T *dgate, T *dup, int64_t count) {
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  if (at >= count) return;
  const auto d = load<V>(dy + at), g = load<V>(gate + at), u = load<V>(up + at);
  Pack<T, V> of_gate, of_up;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float given = number(d.at[i]), x = number(g.at[i]), s = sigmoid(x);
    of_gate.at[i] = rounded<T>(given * number(u.at[i]) * s * (1.0f + x * (1.0f - s)));
    of_up.at[i] = rounded<T>(given * x * s);
  }
  store(dgate + at, of_gate);
  store(dup + at, of_up);
}

// `run` with the numbers of a pack as a constant, and the blocks that takes.
template <class T, class Run> void in_packs(int64_t count, std::initializer_list<const void *> places, Run run) {
  const auto blocks = [&](int64_t v) { return dim3(ceil_div(ceil_div(count, v), THREADS)); };
  if (count == 0) return;
  if (is_wide<T>(count, places)) run(std::integral_constant<int, WIDE<T>>{}, blocks(WIDE<T>));
  else run(std::integral_constant<int, 1>{}, blocks(1));
}

} // namespace

template <class T> void swiglu(const T *gate, const T *up, T *y, int64_t count, void *stream) {
  in_packs<T>(count, {gate, up, y}, [&](auto v, dim3 blocks) {
    launch(forward<T, decltype(v)::value>, blocks, dim3(THREADS), stream, gate, up, y, count);
  });
}

template <class T>
void swiglu_backward(const T *dy, const T *gate, const T *up, T *dgate, T *dup, int64_t count, void *stream) {
  in_packs<T>(count, {dy, gate, up, dgate, dup}, [&](auto v, dim3 blocks) {
    launch(backward<T, decltype(v)::value>, blocks, dim3(THREADS), stream, dy, gate, up, dgate, dup, count);
  });
}

#define FOR(T)                                                                                                         \
  template void swiglu(const T *, const T *, T *, int64_t, void *);                                                   \
  template void swiglu_backward(const T *, const T *, const T *, T *, T *, int64_t, void *);
FOR(float)
FOR(Bf16)
#undef FOR

} // namespace kernels
