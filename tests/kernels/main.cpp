// Every kernel, run by emulator.h, against the loops of rows.cpp or plain ones in fp64. Prints what differs.
#include "../../native/kernels/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

using rows::Bf16;

namespace {

int failures = 0;
std::mt19937 dice(1);

float wide(float x) { return x; }
float wide(Bf16 x) { return rows::read(&x, 0); }

template <class T> T narrow(float x);
template <> float narrow(float x) { return x; }
template <> Bf16 narrow(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

template <class T> constexpr const char *NAME = "fp32";
template <> constexpr const char *NAME<Bf16> = "bf16";
template <class T> constexpr double TOLERANCE = 1e-5;
template <> constexpr double TOLERANCE<Bf16> = 4e-3;

template <class T> std::vector<T> random(size_t count, float scale = 1.0f) {
  std::normal_distribution<float> normal;
  std::vector<T> out(count);
  for (auto &x : out) x = narrow<T>(normal(dice) * scale);
  return out;
}

// What nobody has written is no number.
template <class T> std::vector<T> unwritten(size_t count) {
  std::vector<T> out(count);
  std::memset(out.data(), 0xff, count * sizeof(T));
  return out;
}

// |a - b| / |b| in the Euclidean norm, which must be below `tolerance`.
template <class T, class U>
void same(const char *what, const std::vector<T> &found, const std::vector<U> &expected, double tolerance) {
  double apart = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = wide(found[i]), b = wide(expected[i]);
    apart += (a - b) * (a - b);
    size += b * b;
  }
  const double relative = std::sqrt(apart) / std::max(std::sqrt(size), 1e-12);
  if (found.size() == expected.size() && relative < tolerance) return;
  std::printf("%s: differs by %g\n", what, relative);
  ++failures;
}

template <class T> void rms_norm(int64_t count, int64_t width, bool added) {
  char what[80];
  const auto name = [&](const char *part) {
    std::snprintf(what, sizeof what, "rms_norm %s %s [%d, %d]%s", part, NAME<T>, int(count), int(width),
                  added ? " + delta" : "");
    return what;
  };
  const auto x = random<T>(count * width), delta = random<T>(count * width), weight = random<T>(width),
             dy = random<T>(count * width), dsum = random<T>(count * width);
  auto sum = unwritten<T>(count * width), y = sum, dx = sum, expected_sum = sum, expected_y = sum, expected_dx = sum;
  auto scales = unwritten<float>(count), expected_scales = scales;
  auto dweight = unwritten<T>(width);
  std::vector<float> expected_dweight(width);
  for (int64_t row = 0; row < count; ++row) {
    const auto at = row * width;
    expected_scales[row] = rows::rms_norm(x.data() + at, added ? delta.data() + at : nullptr, weight.data(),
                                          expected_sum.data() + at, expected_y.data() + at, width, 1e-5f);
    rows::rms_norm_backward(dy.data() + at, added ? dsum.data() + at : nullptr,
                            (added ? expected_sum : x).data() + at, weight.data(), expected_scales[row],
                            expected_dx.data() + at, expected_dweight.data(), width);
  }
  kernels::rms_norm<T>(x.data(), added ? delta.data() : nullptr, weight.data(), added ? sum.data() : nullptr, y.data(),
                       scales.data(), count, width, 1e-5f, nullptr);
  same(name("y"), y, expected_y, TOLERANCE<T>);
  same(name("scales"), scales, expected_scales, TOLERANCE<T>);
  if (added) same(name("sum"), sum, expected_sum, 1e-9);
  auto partials = unwritten<float>(kernels::rms_norm_partials(count, width) * width);
  kernels::rms_norm_backward<T>(dy.data(), added ? dsum.data() : nullptr, (added ? sum : x).data(), weight.data(),
                                scales.data(), dx.data(), dweight.data(), partials.data(), count, width, nullptr);
  same(name("dx"), dx, expected_dx, TOLERANCE<T>);
  same(name("dweight"), dweight, expected_dweight, TOLERANCE<T>);
}

template <class T> void rotate(int64_t tokens, int64_t heads, int64_t others, int64_t width) {
  const auto q = random<T>(tokens * heads * width), k = random<T>(tokens * others * width),
             cos = random<T>(tokens * width), sin = random<T>(tokens * width);
  for (const float direction : {1.0f, -1.0f}) {
    auto found_q = unwritten<T>(q.size()), found_k = unwritten<T>(k.size()), expected_q = found_q, expected_k = found_k;
    for (int64_t token = 0; token < tokens; ++token) {
      const auto *c = cos.data() + token * width, *s = sin.data() + token * width;
      rows::rotate(q.data() + token * heads * width, c, s, expected_q.data() + token * heads * width, heads, width / 2,
                   direction);
      rows::rotate(k.data() + token * others * width, c, s, expected_k.data() + token * others * width, others,
                   width / 2, direction);
    }
    kernels::rotate<T>(q.data(), k.data(), cos.data(), sin.data(), found_q.data(), found_k.data(), tokens, heads, others,
                       width, direction, nullptr);
    same("rotate q", found_q, expected_q, TOLERANCE<T>);
    same("rotate k", found_k, expected_k, TOLERANCE<T>);
    auto alone = unwritten<T>(q.size());
    kernels::rotate<T>(q.data(), nullptr, cos.data(), sin.data(), alone.data(), nullptr, tokens, heads, 0, width,
                       direction, nullptr);
    same("rotate q alone", alone, expected_q, TOLERANCE<T>);
  }
}

template <class T> void swiglu(int64_t count) {
  const auto gate = random<T>(count, 3.0f), up = random<T>(count), dy = random<T>(count);
  auto y = unwritten<T>(count), dgate = y, dup = y, expected_y = y, expected_dgate = y, expected_dup = y;
  rows::swiglu(gate.data(), up.data(), expected_y.data(), count);
  rows::swiglu_backward(dy.data(), gate.data(), up.data(), expected_dgate.data(), expected_dup.data(), count);
  kernels::swiglu(gate.data(), up.data(), y.data(), count, nullptr);
  kernels::swiglu_backward(dy.data(), gate.data(), up.data(), dgate.data(), dup.data(), count, nullptr);
  same("swiglu y", y, expected_y, TOLERANCE<T>);
  same("swiglu dgate", dgate, expected_dgate, TOLERANCE<T>);
  same("swiglu dup", dup, expected_dup, TOLERANCE<T>);
}

template <class T> void cross_entropy(int64_t count, int64_t width, bool gradient) {
  auto logits = random<T>(count * width, 5.0f), expected = logits;
  std::vector<int64_t> targets(count);
  std::vector<float> weights(count);
  for (int64_t row = 0; row < count; ++row) {
    targets[row] = row % 4 == 3 ? -1 : static_cast<int64_t>(dice() % width);
    weights[row] = targets[row] < 0 ? 0.0f : row % 4 == 2 ? 0.25f : 1.0f;
  }
  auto log_z = unwritten<float>(count), nll = log_z, expected_log_z = log_z, expected_nll = log_z;
  for (int64_t row = 0; row < count; ++row) {
    auto *mine = expected.data() + row * width;
    double sum = 0;
    for (int64_t at = 0; at < width; ++at) sum += std::exp(double(wide(mine[at])));
    const double log_sum = std::log(sum);
    expected_log_z[row] = float(log_sum);
    expected_nll[row] = targets[row] < 0 ? 0.0f : float(log_sum - wide(mine[targets[row]]));
    for (int64_t at = 0; gradient && at < width; ++at) {
      const double softmax = std::exp(double(wide(mine[at])) - log_sum);
      mine[at] = narrow<T>(float(weights[row] * (softmax * (1.0 + 2.0 * 0.1 * log_sum) - (at == targets[row]))));
    }
  }
  kernels::cross_entropy(logits.data(), targets.data(), weights.data(), log_z.data(), nll.data(), count, width, 0.1f,
                         gradient, nullptr);
  same("cross_entropy log_z", log_z, expected_log_z, 1e-6);
  same("cross_entropy nll", nll, expected_nll, 1e-5);
  same("cross_entropy logits", logits, expected, TOLERANCE<T>);
}

// Codes and scales of all sizes of numbers, to the bit.
template <class T> void quantize(int64_t count, int64_t width) {
  auto x = random<T>(count * width);
  for (int64_t i = 0; i < count * width; ++i) x[i] = narrow<T>(wide(x[i]) * std::exp2(float(dice() % 60) - 40.0f));
  // Nothing, next to nothing, the most there is, a power of two times 448, no number.
  for (int64_t i = 0; i < width; ++i) {
    x[i] = narrow<T>(0.0f);
    x[width + i] = narrow<T>(wide(x[width + i]) * 1e-38f);
    x[2 * width + i] = narrow<T>(i % 2 ? 3e38f : -1e30f);
    x[3 * width + i] = narrow<T>(7.0f * float(i % 2 + 1));
  }
  x[5 * width + 3] = narrow<T>(INFINITY);
  std::vector<T> turned(x.size());
  for (int64_t i = 0; i < count * width; ++i) turned[i % width * count + i / width] = x[i];
  const auto expect = [](const char *what, const std::vector<T> &x, int64_t rows, int64_t width, auto run) {
    std::vector<rows::E4m3> codes(x.size()), expected_codes(x.size());
    std::vector<float> scales(rows), expected_scales(rows);
    for (int64_t row = 0; row < rows; ++row)
      expected_scales[row] = rows::quantize(x.data() + row * width, expected_codes.data() + row * width, width);
    run(codes.data(), scales.data());
    // The sign of what is no number means nothing.
    const auto code = [](rows::E4m3 x) { return (x.bits & 0x7f) == 0x7f ? 0x7f : x.bits; };
    int differ = 0;
    for (size_t i = 0; i < x.size(); ++i) differ += code(codes[i]) != code(expected_codes[i]);
    for (int64_t row = 0; row < rows; ++row) differ += scales[row] != expected_scales[row];
    if (differ == 0) return;
    std::printf("quantize %s of %s [%d, %d]: %d differ\n", what, NAME<T>, int(rows), int(width), differ);
    ++failures;
  };
  expect("rows", x, count, width, [&](rows::E4m3 *codes, float *scales) {
    kernels::quantize_rows<T>(x.data(), codes, scales, count, width, nullptr);
  });
  expect("columns", turned, width, count, [&](rows::E4m3 *codes, float *scales) {
    kernels::quantize_columns<T>(x.data(), codes, scales, count, width, nullptr);
  });
}

// AdamW, sums and the norm over tensors of many sizes, one of them a view that begins in the middle of 16 bytes.
template <class T> void all_at_once() {
  const std::vector<int64_t> sizes{1, 7, 64, kernels::CHUNK, kernels::CHUNK + 1, 3 * kernels::CHUNK - 5, 2};
  const kernels::AdamW numbers{0.9, 0.95, 1e-8, 0.1};
  const float lr = 1e-2f, step = 3.0f, divisor = 2.0f, no = 0.0f, yes = 1.0f;
  std::vector<std::vector<T>> gradients;
  std::vector<std::vector<float>> masters, averages, squares, sums;
  std::vector<std::vector<Bf16>> weights;
  std::vector<kernels::Item> items;
  int64_t chunks = 0;
  double norm = 0;
  for (const auto size : sizes) {
    gradients.push_back(random<T>(size + 1));
    masters.push_back(random<float>(size));
    averages.push_back(random<float>(size, 0.1f));
    squares.push_back(random<float>(size, 0.1f));
    for (auto &x : squares.back()) x = x * x;
    weights.push_back(unwritten<Bf16>(size));
    sums.push_back(random<float>(size));
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    const bool is_view = i == 5;
    items.push_back({gradients[i].data() + is_view, masters[i].data(), averages[i].data(), squares[i].data(),
                     i % 2 ? weights[i].data() : nullptr, sizes[i], chunks, sizeof(T) == 2, i % 3 != 0, false});
    chunks += (sizes[i] + kernels::CHUNK - 1) / kernels::CHUNK;
    for (int64_t at = 0; at < sizes[i]; ++at) norm += std::pow(double(wide(gradients[i][at + is_view])), 2);
  }
  const int64_t count = int64_t(items.size());
  const auto before = masters;

  float found_norm;
  auto partials = unwritten<float>(chunks);
  kernels::global_norm(items.data(), count, chunks, partials.data(), &found_norm, nullptr);
  same("global_norm", std::vector<float>{found_norm}, std::vector<float>{float(std::sqrt(norm))}, 1e-6);

  kernels::adamw(items.data(), count, chunks, numbers, {&lr, &step, &divisor, &yes}, nullptr);
  for (size_t i = 0; i < sizes.size(); ++i) same("adamw that is skipped", masters[i], before[i], 1e-12);

  auto expected = masters, expected_averages = averages, expected_squares = squares;
  for (size_t i = 0; i < sizes.size(); ++i) {
    for (int64_t at = 0; at < sizes[i]; ++at) {
      const double g = wide(gradients[i][at + (i == 5)]) / double(divisor);
      const double m = 0.9 * averages[i][at] + 0.1 * g, v = 0.95 * squares[i][at] + 0.05 * g * g;
      const double decayed = masters[i][at] * (items[i].decays ? 1.0 - double(lr) * 0.1 : 1.0);
      const double hat = std::sqrt(v / (1.0 - std::pow(0.95, 3))) + 1e-8;
      expected[i][at] = float(decayed - lr * m / (1.0 - std::pow(0.9, 3)) / hat);
      expected_averages[i][at] = float(m);
      expected_squares[i][at] = float(v);
    }
  }
  kernels::adamw(items.data(), count, chunks, numbers, {&lr, &step, &divisor, &no}, nullptr);
  for (size_t i = 0; i < sizes.size(); ++i) {
    same("adamw master", masters[i], expected[i], 2e-6);
    same("adamw exp_avg", averages[i], expected_averages[i], 2e-6);
    same("adamw exp_avg_sq", squares[i], expected_squares[i], 2e-6);
    if (!items[i].weight) continue;
    std::vector<Bf16> rounded;
    for (const auto x : masters[i]) rounded.push_back(narrow<Bf16>(x));
    same("adamw weight", weights[i], rounded, 1e-12);
  }

  for (const bool add : {true, false}) {
    auto expected_sums = sums;
    for (size_t i = 0; i < sizes.size(); ++i) {
      items[i].to = sums[i].data();
      for (int64_t at = 0; at < sizes[i]; ++at)
        expected_sums[i][at] = (add ? sums[i][at] : 0.0f) + wide(gradients[i][at + (i == 5)]);
    }
    kernels::accumulate(items.data(), count, chunks, add, nullptr);
    for (size_t i = 0; i < sizes.size(); ++i) same("accumulate", sums[i], expected_sums[i], 1e-12);
  }
}

// Moments in bf16, by the random bits that the loops for the CPU take.
template <class T> void adamw_in_bf16() {
  const kernels::AdamW numbers{0.9, 0.999, 1e-8, 0.1};
  const float lr = 1e-2f, step = 3.0f, divisor = 2.0f, no = 0.0f;
  std::vector<kernels::Item> items;
  const std::vector<int64_t> sizes{5, kernels::CHUNK + 7};
  std::vector<std::vector<T>> gradients;
  std::vector<std::vector<float>> masters;
  std::vector<std::vector<Bf16>> averages, squares;
  int64_t chunks = 0;
  for (const auto size : sizes) {
    gradients.push_back(random<T>(size));
    masters.push_back(random<float>(size));
    averages.push_back(random<Bf16>(size, 0.1f));
    squares.push_back(random<Bf16>(size, 0.1f));
    for (auto &x : squares.back()) x = narrow<Bf16>(wide(x) * wide(x));
  }
  auto expected = masters;
  auto expected_averages = averages, expected_squares = squares;
  for (size_t i = 0; i < sizes.size(); ++i) {
    items.push_back({gradients[i].data(), masters[i].data(), averages[i].data(), squares[i].data(), nullptr, sizes[i], chunks,
                     sizeof(T) == 2, true, true});
    chunks += (sizes[i] + kernels::CHUNK - 1) / kernels::CHUNK;
    rows::AdamW same{};
    same.beside1 = 0.1f, same.beta2 = 0.999f, same.beside2 = 1e-3f, same.eps = 1e-8f, same.scale = 0.5f;
    same.kept = 1.0f - lr * 0.1f, same.rate = float(lr / (1.0 - std::pow(0.9, 3)));
    same.root = float(1.0 / std::sqrt(1.0 - std::pow(0.999, 3)));
    // In two parts, which must make no difference.
    const auto half = sizes[i] / 2;
    for (const auto [begin, end] : {std::pair(int64_t(0), half), std::pair(half, sizes[i])})
      rows::adamw(gradients[i].data() + begin, expected[i].data() + begin, expected_averages[i].data() + begin,
                  expected_squares[i].data() + begin, nullptr, end - begin, same, rows::random_bits(3, i), begin);
  }
  kernels::adamw(items.data(), int64_t(items.size()), chunks, numbers, {&lr, &step, &divisor, &no}, nullptr);
  for (size_t i = 0; i < sizes.size(); ++i) {
    same("adamw in bf16, master", masters[i], expected[i], 2e-6);
    // Other random bits would put them 2e-3 apart.
    same("adamw in bf16, exp_avg", averages[i], expected_averages[i], 2e-4);
    same("adamw in bf16, exp_avg_sq", squares[i], expected_squares[i], 2e-4);
  }
}

template <class T> void all() {
  for (const bool added : {false, true}) {
    // Rows by half warps, one warp, several, with packs in registers; widths that are no multiple of a pack.
    for (const int64_t width : {64, 128, 91, 256, 1000, 2048, 4096, 7777}) rms_norm<T>(13, width, added);
    rms_norm<T>(1, 8192, added);
    rms_norm<T>(300, 64, added);
  }
  for (const int64_t width : {16, 64, 128, 6}) rotate<T>(5, 6, 2, width);
  rotate<T>(3, 32, 8, 128);
  for (const int64_t count : {1, 8, 4096, 12345}) swiglu<T>(count);
  for (const bool gradient : {false, true}) {
    for (const int64_t width : {8, 301, 9000, 20000}) cross_entropy<T>(4, width, gradient);
  }
  for (const int64_t width : {16, 304, 2064}) quantize<T>(144, width);
  all_at_once<T>();
  adamw_in_bf16<T>();
}

} // namespace

int main() {
  all<float>();
  all<Bf16>();
  return failures != 0;
}
