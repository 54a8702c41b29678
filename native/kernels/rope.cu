// Rotary position embedding of queries and keys in one launch: a block a token.
#include "device.cuh"
#include "kernels.h"

namespace kernels {
namespace {

template <class T, int V>
__global__ void turn(const T *q, const T *k, const T *cos, const T *sin, T *turned_q, T *turned_k, int q_heads,
                     int k_heads, int half, float direction) {
  const int64_t token = blockIdx.x;
  const int packs = half / V;
  cos += token * 2 * half;
  sin += token * 2 * half;
  for (int item = threadIdx.x; item < (q_heads + k_heads) * packs; item += blockDim.x) {
    const int at = item % packs * V;
    int head = item / packs;
    const T *from = q;
    T *to = turned_q;
    int heads = q_heads;
    if (head >= q_heads) {
      head -= q_heads;
      from = k;
      to = turned_k;
      heads = k_heads;
    }
    const int64_t place = (token * heads + head) * 2 * half + at;
    const auto first = load<V>(from + place), second = load<V>(from + place + half);
    const auto c = load<V>(cos + at), s = load<V>(sin + at);
    Pack<T, V> first_out, second_out;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float a = number(first.at[i]), b = number(second.at[i]);
      const float x = number(c.at[i]), y = direction * number(s.at[i]);
      first_out.at[i] = rounded<T>(a * x - b * y);
      second_out.at[i] = rounded<T>(b * x + a * y);
    }
    store(to + place, first_out);
    store(to + place + half, second_out);
  }
}

} // namespace

template <class T>
void rotate(const T *q, const T *k, const T *cos, const T *sin, T *turned_q, T *turned_k, int64_t tokens, int64_t q_heads,
            int64_t k_heads, int64_t width, float direction, void *stream) {
  if (tokens == 0) return;
  const int heads = static_cast<int>(q_heads), others = k == nullptr ? 0 : static_cast<int>(k_heads);
  const int half = static_cast<int>(width / 2);
  const auto run = [&](auto v) {
    constexpr int V = decltype(v)::value;
    const auto threads = std::min<int64_t>(ceil_div((heads + others) * (half / V), WARP) * WARP, 256);
    launch(turn<T, V>, dim3(tokens), dim3(threads), stream, q, k, cos, sin, turned_q, turned_k, heads, others, half,
           direction);
  };
  if (is_wide<T>(half, {q, k, cos, sin, turned_q, turned_k})) run(std::integral_constant<int, WIDE<T>>{});
  else run(std::integral_constant<int, 1>{});
}

#define FOR(T)                                                                                                         \
  template void rotate(const T *, const T *, const T *, const T *, T *, T *, int64_t, int64_t, int64_t, int64_t, float, \
                       void *);
FOR(float)
FOR(Bf16)
#undef FOR

} // namespace kernels
