// Cross-entropy of logits and, in their place, its gradient: a block a row, which it reads twice and writes once.
#include "device.cuh"
#include "kernels.h"

namespace kernels {
namespace {

constexpr int THREADS = 1024;

template <class T, int V>
__global__ void rows_of(T *logits, const int64_t *targets, const float *weights, float *log_z, float *nll, int64_t width,
                        float z_loss, bool gradient) {
  const int64_t row = blockIdx.x;
  T *mine = logits + row * width;
  const int64_t target = targets[row];
  const float weight = weights[row];
  // No number where there is no such token. Read by all before any of the row is overwritten: `total` below waits for every thread.
  const float picked = target < 0 ? 0.0f : target < width ? number(mine[target]) : NAN;
  // The largest logit so far, and the sum of exponentials relative to it (Milakov & Gimelshein 2018, arXiv 1805.02867).
  float peak = -INFINITY, sum = 0.0f;
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * V; at < width; at += static_cast<int64_t>(THREADS) * V) {
    const auto pack = load<V>(mine + at);
    float highest = number(pack.at[0]);
#pragma unroll
    for (int i = 1; i < V; ++i) highest = fmaxf(highest, number(pack.at[i]));
    if (highest > peak) {
      sum *= expf(peak - highest);
      peak = highest;
    }
#pragma unroll
    for (int i = 0; i < V; ++i) sum += expf(number(pack.at[i]) - peak);
  }
  const float over_all = largest(peak);
  // A thread without a number in the row has no peak.
  const float all = total(sum == 0.0f ? 0.0f : sum * expf(peak - over_all));
  const float log_sum = over_all + logf(all);
  if (threadIdx.x == 0) {
    log_z[row] = log_sum;
    nll[row] = target >= 0 ? log_sum - picked : 0.0f;
  }
  if (!gradient) return;
  // Where nothing is learned, zero whatever the logits are.
  const float factor = weight == 0.0f ? 0.0f : weight * (1.0f + 2.0f * z_loss * log_sum) / all;
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * V; at < width; at += static_cast<int64_t>(THREADS) * V) {
    const auto pack = load<V>(mine + at);
    Pack<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float of_target = at + i == target ? weight : 0.0f;
      out.at[i] = rounded<T>(factor == 0.0f ? -of_target : expf(number(pack.at[i]) - over_all) * factor - of_target);
    }
    store(mine + at, out);
  }
}

} // namespace

template <class T>
void cross_entropy(T *logits, const int64_t *targets, const float *weights, float *log_z, float *nll, int64_t count,
                   int64_t width, float z_loss, bool gradient, void *stream) {
  if (count == 0) return;
  const auto run = [&](auto v) {
    launch(rows_of<T, decltype(v)::value>, dim3(count), dim3(THREADS), stream, logits, targets, weights, log_z, nll,
           width, z_loss, gradient);
  };
  if (is_wide<T>(width, {logits})) run(std::integral_constant<int, WIDE<T>>{});
  else run(std::integral_constant<int, 1>{});
}

#define FOR(T)                                                                                                         \
  template void cross_entropy(T *, const int64_t *, const float *, float *, float *, int64_t, int64_t, float, bool,   \
                              void *);
FOR(float)
FOR(Bf16)
#undef FOR

} // namespace kernels
