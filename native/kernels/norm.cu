// RMSNorm with the residual added in the same pass. A row stays in registers between its sum and its result.
#include "device.cuh"
#include "kernels.h"

namespace kernels {
namespace {

constexpr int MAX_PACKS = 8;
static_assert(RMS_NORM_WIDTH <= 1024 * MAX_PACKS, "a block's threads, each with its packs");

// Reads a row's pack at `at` widened; zeros beyond its end.
template <int V, class T> __device__ inline void widen(float (&to)[V], const T *row, int64_t at, int64_t width) {
  if (at >= width) {
    for (int i = 0; i < V; ++i) to[i] = 0.0f;
    return;
  }
  const auto pack = load<V>(row + at);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = number(pack.at[i]);
}

// Threads of a block: of a row whose numbers are read one by one, more where it is wide.
template <int V> constexpr int MOST_THREADS = V == 1 ? 1024 : 512;

// A row for each threadIdx.y; P packs of V numbers a thread.
template <class T, int V, int P>
__global__ void __launch_bounds__(MOST_THREADS<V>)
    forward(const T *x, const T *delta, const T *weight, T *sum, T *y, float *scales, int64_t count, int64_t width,
            float eps) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t end = row < count ? width : 0, begin = row * width;
  float held[P][V];
  float squares = 0.0f;
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const int64_t at = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * V;
    widen<V>(held[p], x + begin, at, end);
    if (delta != nullptr && at < end) {
      const auto added = load<V>(delta + begin + at);
      Pack<T, V> both;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        both.at[i] = rounded<T>(held[p][i] + number(added.at[i]));
        held[p][i] = number(both.at[i]);
      }
      store(sum + begin + at, both);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) squares += held[p][i] * held[p][i];
  }
  const float scale = 1.0f / sqrtf(total(squares) / static_cast<float>(width) + eps);
  if (row < count && threadIdx.x == 0) scales[row] = scale;
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const int64_t at = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * V;
    if (at >= end) continue;
    const auto w = load<V>(weight + at);
    Pack<T, V> out;
#pragma unroll
    for (int i = 0; i < V; ++i) out.at[i] = rounded<T>(held[p][i] * scale * number(w.at[i]));
    store(y + begin + at, out);
  }
}

// d(x_i s w_i)/dx_j = s w_j - s^3 x_i w_i x_j / width. Each threadIdx.y of each block sums its rows' share of the weight's
// gradient in registers and leaves it in a row of `partials`.
template <class T, int V, int P>
__global__ void __launch_bounds__(MOST_THREADS<V>)
    backward(const T *dy, const T *dsum, const T *x, const T *weight, const float *scales, T *dx, float *partials,
             int64_t count, int64_t width) {
  float shares[P][V] = {};
  const int64_t rows = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < count; first += rows) {
    const int64_t row = first + threadIdx.y;
    const int64_t end = row < count ? width : 0, begin = row * width;
    const float scale = row < count ? scales[row] : 0.0f;
    float given[P][V], in[P][V], w[P][V];
    float dot = 0.0f;
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int64_t at = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * V;
      widen<V>(given[p], dy + begin, at, end);
      widen<V>(in[p], x + begin, at, end);
      widen<V>(w[p], weight, at, end);
#pragma unroll
      for (int i = 0; i < V; ++i) dot += given[p][i] * w[p][i] * in[p][i];
    }
    const float along = total(dot) * scale * scale * scale / static_cast<float>(width);
#pragma unroll
    for (int p = 0; p < P; ++p) {
      const int64_t at = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * V;
      if (at >= end) continue;
      float beside[V] = {};
      if (dsum != nullptr) widen<V>(beside, dsum + begin, at, end);
      Pack<T, V> out;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        out.at[i] = rounded<T>(beside[i] + given[p][i] * w[p][i] * scale - in[p][i] * along);
        shares[p][i] += given[p][i] * in[p][i] * scale;
      }
      store(dx + begin + at, out);
    }
  }
  float *mine = partials + (static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y) * width;
#pragma unroll
  for (int p = 0; p < P; ++p) {
    const int64_t at = (static_cast<int64_t>(p) * blockDim.x + threadIdx.x) * V;
    if (at >= width) continue;
#pragma unroll
    for (int i = 0; i < V; ++i) mine[at + i] = shares[p][i];
  }
}

// The sum of each column of `partials` [count, width]: a column for each threadIdx.x, from 0 down, always in the same order.
template <class T> __global__ void columns(const float *partials, T *sums, int64_t count, int64_t width) {
  __shared__ float parts[8][WARP];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * WARP + threadIdx.x;
  float sum = 0.0f;
  if (column < width) {
    for (int64_t row = threadIdx.y; row < count; row += 8) sum += partials[row * width + column];
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && column < width) {
    for (int other = 1; other < 8; ++other) sum += parts[other][threadIdx.x];
    sums[column] = rounded<T>(sum);
  }
}

// How a block's threads stand: x of them a row, y rows.
struct Shape {
  int threads, rows, packs;
};

Shape shape(int64_t packs_a_row) {
  int packs = 1;
  while (packs < MAX_PACKS && ceil_div(packs_a_row, packs) > 512) packs *= 2;
  const int64_t threads = ceil_div(packs_a_row, packs);
  if (threads > WARP) return {static_cast<int>(ceil_div(threads, WARP) * WARP), 1, packs};
  int power = 1;
  while (power < threads) power *= 2;
  return {power, std::max(128 / power, 1), packs};
}

// `run` with the number of packs as a constant.
template <class Run> void by_packs(int packs, Run run) {
  switch (packs) {
  case 1: return run(std::integral_constant<int, 1>{});
  case 2: return run(std::integral_constant<int, 2>{});
  case 4: return run(std::integral_constant<int, 4>{});
  default: return run(std::integral_constant<int, 8>{});
  }
}

// Blocks of the backward pass: enough to fill the device, and few enough that the weight's shares are few.
int64_t backward_blocks(int64_t count, const Shape &shape) {
  return std::min<int64_t>(ceil_div(count, shape.rows), 4 * static_cast<int64_t>(processors()));
}

} // namespace

template <class T>
void rms_norm(const T *x, const T *delta, const T *weight, T *sum, T *y, float *scales, int64_t count, int64_t width,
              float eps, void *stream) {
  if (count == 0) return;
  const auto run = [&](auto v) {
    constexpr int V = decltype(v)::value;
    const auto s = shape(ceil_div(width, V));
    by_packs(s.packs, [&](auto p) {
      launch(forward<T, V, decltype(p)::value>, dim3(ceil_div(count, s.rows)), dim3(s.threads, s.rows), stream, x, delta,
             weight, sum, y, scales, count, width, eps);
    });
  };
  if (is_wide<T>(width, {x, delta, weight, sum, y})) run(std::integral_constant<int, WIDE<T>>{});
  else run(std::integral_constant<int, 1>{});
}

int64_t rms_norm_partials(int64_t count, int64_t width) {
  // Whether rows are read in packs is known only with their addresses: room for either.
  const auto rows = [&](int64_t packs) {
    const auto s = shape(packs);
    return backward_blocks(count, s) * s.rows;
  };
  return std::max({rows(width), rows(ceil_div(width, WIDE<float>)), rows(ceil_div(width, WIDE<Bf16>))});
}

template <class T>
void rms_norm_backward(const T *dy, const T *dsum, const T *x, const T *weight, const float *scales, T *dx, T *dweight,
                       float *partials, int64_t count, int64_t width, void *stream) {
  const auto run = [&](auto v) {
    constexpr int V = decltype(v)::value;
    const auto s = shape(ceil_div(width, V));
    const auto blocks = backward_blocks(count, s);
    if (count > 0) {
      by_packs(s.packs, [&](auto p) {
        launch(backward<T, V, decltype(p)::value>, dim3(blocks), dim3(s.threads, s.rows), stream, dy, dsum, x, weight,
               scales, dx, partials, count, width);
      });
    }
    launch(columns<T>, dim3(ceil_div(width, WARP)), dim3(WARP, 8), stream, static_cast<const float *>(partials), dweight,
           blocks * s.rows, width);
  };
  if (is_wide<T>(width, {dy, dsum, x, weight, dx})) run(std::integral_constant<int, WIDE<T>>{});
  else run(std::integral_constant<int, 1>{});
}

#define FOR(T)                                                                                                         \
  template void rms_norm(const T *, const T *, const T *, T *, T *, float *, int64_t, int64_t, float, void *);        \
  template void rms_norm_backward(const T *, const T *, const T *, const T *, const float *, T *, T *, float *,       \
                                  int64_t, int64_t, void *);
FOR(float)
FOR(Bf16)
#undef FOR

} // namespace kernels
