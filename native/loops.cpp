// loops.h: memory is taken here, and the loops of the device are called.
#include "loops.h"
#include "rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include "kernels/kernels.h"
#ifdef HEPHAESTUS_KERNELS
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

namespace loops {
namespace {

// Elements that are worth a thread.
constexpr int64_t GRAIN = 16384;

template <class T> const T *in(const Tensor &x) {
  return x.defined() ? static_cast<const T *>(x.const_data_ptr()) : nullptr;
}
template <class T> T *out(const Tensor &x) { return x.defined() ? static_cast<T *>(x.mutable_data_ptr()) : nullptr; }

// A row of a tensor that may be undefined.
template <class T> T *row_of(T *x, int64_t at) { return x == nullptr ? nullptr : x + at; }

// `body` with a null pointer of the element type that `x` has.
template <class Body> void by_type(const Tensor &x, Body body) {
  if (x.scalar_type() == at::kFloat) body(static_cast<float *>(nullptr));
  else body(static_cast<rows::Bf16 *>(nullptr));
}
template <class Pointer> using Element = std::remove_pointer_t<Pointer>;

template <class Body> void each_row(int64_t count, int64_t width, Body body) {
  at::parallel_for(0, count, std::max<int64_t>(1, GRAIN / std::max<int64_t>(width, 1)), body);
}

// Makes a function visible to the profiler.
#define RECORDED(name) RECORD_FUNCTION("hephaestus::" name, c10::ArrayRef<const c10::IValue>())

// Rows of a tensor's last dimension, and their width.
std::pair<int64_t, int64_t> rows_of(const Tensor &x) {
  const auto width = x.size(-1);
  return {x.numel() / std::max<int64_t>(width, 1), width};
}

// Calls `kernel` with the current stream of the GPU that `x` is on; false where it is on none. `kernel` takes an auto, so
// that without kernels it is never compiled.
template <class Kernel> bool on_gpu([[maybe_unused]] const Tensor &x, [[maybe_unused]] Kernel kernel) {
#ifdef HEPHAESTUS_KERNELS
  if (x.is_cuda()) {
    const c10::cuda::CUDAGuard guard(x.device());
    kernel(static_cast<void *>(c10::cuda::getCurrentCUDAStream().stream()));
    return true;
  }
#endif
  return false;
}

} // namespace

bool runs_on(const at::Device &device) {
#ifdef HEPHAESTUS_KERNELS
  return device.is_cpu() || device.is_cuda();
#else
  return device.is_cpu();
#endif
}

int64_t rms_norm_width(const at::Device &device) {
  return device.is_cpu() ? std::numeric_limits<int64_t>::max() : kernels::RMS_NORM_WIDTH;
}

std::tuple<Tensor, Tensor, Tensor> rms_norm(const Tensor &x, const Tensor &delta, const Tensor &weight, double eps) {
  RECORDED("rms_norm");
  const auto [count, width] = rows_of(x);
  auto sum = delta.defined() ? at::empty_like(x) : Tensor();
  auto y = at::empty_like(x);
  auto scales = at::empty({count}, x.options().dtype(at::kFloat));
  by_type(x, [&, count = count, width = width](auto type) {
    using T = Element<decltype(type)>;
    const auto small = static_cast<float>(eps);
    if (on_gpu(x, [&](auto stream) {
          kernels::rms_norm<T>(in<T>(x), in<T>(delta), in<T>(weight), out<T>(sum), out<T>(y), out<float>(scales), count,
                               width, small, stream);
        }))
      return;
    each_row(count, width, [&](int64_t begin, int64_t end) {
      for (auto row = begin; row < end; ++row) {
        const auto at = row * width;
        out<float>(scales)[row] = rows::rms_norm(in<T>(x) + at, row_of(in<T>(delta), at), in<T>(weight),
                                                 row_of(out<T>(sum), at), out<T>(y) + at, width, small);
      }
    });
  });
  return {sum, y, scales};
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor &dy, const Tensor &dsum, const Tensor &x, const Tensor &weight,
                                             const Tensor &scales) {
  RECORDED("rms_norm_backward");
  const auto [count, width] = rows_of(x);
  auto dx = at::empty_like(x);
  auto dweight = at::empty({width}, weight.options());
  by_type(x, [&, count = count, width = width](auto type) {
    using T = Element<decltype(type)>;
    if (on_gpu(x, [&](auto stream) {
          auto partials = at::empty({kernels::rms_norm_partials(count, width), width}, scales.options());
          kernels::rms_norm_backward<T>(in<T>(dy), in<T>(dsum), in<T>(x), in<T>(weight), in<float>(scales), out<T>(dx),
                                        out<T>(dweight), out<float>(partials), count, width, stream);
        }))
      return;
    std::mutex adding;
    std::vector<std::pair<int64_t, Tensor>> shares;
    each_row(count, width, [&](int64_t begin, int64_t end) {
      std::vector<float> mine(width);
      for (auto row = begin; row < end; ++row) {
        const auto at = row * width;
        rows::rms_norm_backward(in<T>(dy) + at, row_of(in<T>(dsum), at), in<T>(x) + at, in<T>(weight),
                                in<float>(scales)[row], out<T>(dx) + at, mine.data(), width);
      }
      const std::lock_guard lock(adding);
      shares.emplace_back(begin, at::tensor(mine));
    });
    // In the order of the rows, so that a run repeats bit for bit.
    std::sort(shares.begin(), shares.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
    auto sum = at::zeros({width}, scales.options());
    for (const auto &share : shares) sum.add_(share.second);
    dweight.copy_(sum);
  });
  return {dx, dweight};
}

std::tuple<Tensor, Tensor> rotate(const Tensor &q, const Tensor &k, const Tensor &cos, const Tensor &sin,
                                  float direction) {
  RECORDED("rotate");
  auto turned_q = at::empty_like(q), turned_k = at::empty_like(k);
  const auto tokens = q.size(0), width = q.size(2);
  by_type(q, [&](auto type) {
    using T = Element<decltype(type)>;
    if (on_gpu(q, [&](auto stream) {
          kernels::rotate<T>(in<T>(q), in<T>(k), in<T>(cos), in<T>(sin), out<T>(turned_q), out<T>(turned_k), tokens,
                             q.size(1), k.size(1), width, direction, stream);
        }))
      return;
    for (const auto &[from, to] : {std::pair(q, turned_q), std::pair(k, turned_k)}) {
      const auto heads = from.size(1);
      each_row(tokens, heads * width, [&, from = from, to = to](int64_t begin, int64_t end) {
        for (auto token = begin; token < end; ++token) {
          const auto at = token * heads * width, angle = token * width;
          rows::rotate(in<T>(from) + at, in<T>(cos) + angle, in<T>(sin) + angle, out<T>(to) + at, heads, width / 2,
                       direction);
        }
      });
    }
  });
  return {turned_q, turned_k};
}

Tensor swiglu(const Tensor &gate, const Tensor &up) {
  RECORDED("swiglu");
  auto y = at::empty_like(gate);
  by_type(gate, [&](auto type) {
    using T = Element<decltype(type)>;
    if (on_gpu(gate, [&](auto stream) {
          kernels::swiglu<T>(in<T>(gate), in<T>(up), out<T>(y), gate.numel(), stream);
        }))
      return;
    at::parallel_for(0, gate.numel(), GRAIN, [&](int64_t begin, int64_t end) {
      rows::swiglu(in<T>(gate) + begin, in<T>(up) + begin, out<T>(y) + begin, end - begin);
    });
  });
  return y;
}

std::tuple<Tensor, Tensor> swiglu_backward(const Tensor &dy, const Tensor &gate, const Tensor &up) {
  RECORDED("swiglu_backward");
  auto dgate = at::empty_like(dy), dup = at::empty_like(dy);
  by_type(dy, [&](auto type) {
    using T = Element<decltype(type)>;
    if (on_gpu(dy, [&](auto stream) {
          kernels::swiglu_backward<T>(in<T>(dy), in<T>(gate), in<T>(up), out<T>(dgate), out<T>(dup), dy.numel(), stream);
        }))
      return;
    at::parallel_for(0, dy.numel(), GRAIN, [&](int64_t begin, int64_t end) {
      rows::swiglu_backward(in<T>(dy) + begin, in<T>(gate) + begin, in<T>(up) + begin, out<T>(dgate) + begin,
                            out<T>(dup) + begin, end - begin);
    });
  });
  return {dgate, dup};
}

namespace {

// Without gaps, from 16 bytes on, as the kernels read it.
Tensor aligned(const Tensor &x) {
  const auto plain = x.contiguous();
  return reinterpret_cast<uintptr_t>(plain.const_data_ptr()) % 16 == 0 ? plain : plain.clone();
}

// Memory for a quantized matrix [count, width] beside `x`.
Quantized unwritten(const Tensor &x, int64_t count, int64_t width) {
  TORCH_CHECK(x.dim() == 2 && x.size(0) % kernels::QUANTIZED_MULTIPLE == 0 && x.size(1) % kernels::QUANTIZED_MULTIPLE == 0,
              "a matrix ", x.sizes(), ", expected multiples of ", kernels::QUANTIZED_MULTIPLE);
  return {at::empty({count, width}, x.options().dtype(at::kFloat8_e4m3fn)),
          at::empty({count}, x.options().dtype(at::kFloat))};
}

} // namespace

Quantized quantize_rows(const Tensor &given) {
  RECORDED("quantize_rows");
  const auto x = aligned(given);
  const auto count = x.size(0), width = x.size(1);
  auto y = unwritten(x, count, width);
  by_type(x, [&](auto type) {
    using T = Element<decltype(type)>;
    if (on_gpu(x, [&](auto stream) {
          kernels::quantize_rows<T>(in<T>(x), out<rows::E4m3>(y.codes), out<float>(y.scales), count, width, stream);
        }))
      return;
    each_row(count, width, [&](int64_t begin, int64_t end) {
      for (auto row = begin; row < end; ++row)
        out<float>(y.scales)[row] = rows::quantize(in<T>(x) + row * width, out<rows::E4m3>(y.codes) + row * width, width);
    });
  });
  return y;
}

Quantized quantize_columns(const Tensor &given) {
  RECORDED("quantize_columns");
  if (given.is_cpu()) return quantize_rows(given.t());
  const auto x = aligned(given);
  const auto count = x.size(0), width = x.size(1);
  auto y = unwritten(x, width, count);
  by_type(x, [&](auto type) {
    using T = Element<decltype(type)>;
    on_gpu(x, [&](auto stream) {
      kernels::quantize_columns<T>(in<T>(x), out<rows::E4m3>(y.codes), out<float>(y.scales), count, width, stream);
    });
  });
  return y;
}

std::tuple<Tensor, Tensor> cross_entropy(const Tensor &logits, const Tensor &targets, const Tensor &weights,
                                         double z_loss, bool gradient) {
  RECORDED("cross_entropy");
  const auto [count, width] = rows_of(logits);
  auto log_z = at::empty({count}, weights.options()), nll = at::empty({count}, weights.options());
  by_type(logits, [&, count = count, width = width](auto type) {
    using T = Element<decltype(type)>;
    const auto z = static_cast<float>(z_loss);
    if (on_gpu(logits, [&](auto stream) {
          kernels::cross_entropy<T>(out<T>(logits), in<int64_t>(targets), in<float>(weights), out<float>(log_z),
                                    out<float>(nll), count, width, z, gradient, stream);
        }))
      return;
    const auto *target = in<int64_t>(targets);
    each_row(count, width, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(width);
      for (auto row = begin; row < end; ++row) {
        auto *mine = out<T>(logits) + row * width;
        const float picked = target[row] < 0 ? 0.0f : rows::read(mine, target[row]);
        const float log_sum = rows::cross_entropy(mine, scratch.data(), width, target[row], in<float>(weights)[row], z,
                                                  gradient);
        out<float>(log_z)[row] = log_sum;
        out<float>(nll)[row] = target[row] < 0 ? 0.0f : log_sum - picked;
      }
    });
  });
  return {log_z, nll};
}

namespace {

// What one launch goes over: items for `count` tensors, their chunks counted.
struct Items {
  std::vector<kernels::Item> all;
  int64_t chunks = 0;

  void push(const Tensor &from, kernels::Item item) {
    item.from = from.const_data_ptr();
    item.from_bf16 = from.scalar_type() == at::kBFloat16;
    item.count = from.numel();
    item.chunks_before = chunks;
    chunks += (item.count + kernels::CHUNK - 1) / kernels::CHUNK;
    all.push_back(item);
  }

  int64_t count() const { return static_cast<int64_t>(all.size()); }

  // Copied to the GPU by way of pinned memory, which libtorch keeps until the copy is done.
  Tensor on(const at::Device &device) const {
    const auto bytes = count() * static_cast<int64_t>(sizeof(kernels::Item));
    auto staged = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
    std::memcpy(staged.mutable_data_ptr(), all.data(), bytes);
    return staged.to(device, at::kByte, /*non_blocking=*/true);
  }
};

const kernels::Item *items_in(const Tensor &bytes) { return static_cast<const kernels::Item *>(bytes.const_data_ptr()); }

// Whether a kernel over many tensors reads this one.
bool is_readable(const Tensor &x) {
  return (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.is_contiguous();
}

void expect_plain(const Tensor &x, at::ScalarType kind, const char *what) {
  TORCH_CHECK(x.scalar_type() == kind && x.is_contiguous(), what, " of type ", x.scalar_type(), ", expected ", kind,
              " without gaps");
}

} // namespace

void adamw(const std::vector<Parameter> &parameters, AdamW numbers, const Tensor &lr, const Tensor &step,
           const Tensor &divisor, const Tensor &skipped) {
  RECORDED("adamw");
  if (parameters.empty()) return;
  std::vector<Tensor> gradients;
  for (const auto &parameter : parameters) {
    const auto kind = parameter.gradient.scalar_type();
    TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "a gradient of type ", kind, ", expected fp32 or bf16");
    gradients.push_back(parameter.gradient.contiguous());
    const auto moments = parameter.exp_avg.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
    for (const auto *x : {&parameter.master, &parameter.exp_avg, &parameter.exp_avg_sq}) {
      expect_plain(*x, x == &parameter.master ? at::kFloat : moments, "optimizer state");
      TORCH_CHECK(x->sizes() == parameter.gradient.sizes(), "a gradient of ", parameter.gradient.sizes(), " for ", x->sizes());
    }
    if (parameter.weight.defined()) expect_plain(parameter.weight, at::kBFloat16, "a weight");
  }
  const auto &first = parameters.front().master;
  if (on_gpu(first, [&](auto stream) {
        Items items;
        for (size_t i = 0; i < parameters.size(); ++i) {
          const auto &p = parameters[i];
          kernels::Item item{};
          item.to = out<float>(p.master);
          item.exp_avg = out<void>(p.exp_avg);
          item.exp_avg_sq = out<void>(p.exp_avg_sq);
          item.moments_bf16 = p.exp_avg.scalar_type() == at::kBFloat16;
          item.weight = out<rows::Bf16>(p.weight);
          item.decays = p.decays;
          items.push(gradients[i], item);
        }
        const auto there = items.on(first.device());
        kernels::adamw(items_in(there), items.count(), items.chunks,
                       {numbers.beta1, numbers.beta2, numbers.eps, numbers.weight_decay},
                       {in<float>(lr), in<float>(step), in<float>(divisor), in<float>(skipped)}, stream);
      }))
    return;
  if (skipped.item<float>() != 0.0f) return;
  const double rate = lr.item<float>(), updates = step.item<float>();
  rows::AdamW narrow{};
  narrow.beside1 = static_cast<float>(1.0 - numbers.beta1);
  narrow.beta2 = static_cast<float>(numbers.beta2);
  narrow.beside2 = static_cast<float>(1.0 - numbers.beta2);
  narrow.eps = static_cast<float>(numbers.eps);
  narrow.scale = 1.0f / divisor.item<float>();
  narrow.rate = static_cast<float>(rate / (1.0 - std::pow(numbers.beta1, updates)));
  narrow.root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(numbers.beta2, updates)));
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto &p = parameters[i];
    narrow.kept = p.decays ? static_cast<float>(1.0 - rate * numbers.weight_decay) : 1.0f;
    const auto key = rows::random_bits(static_cast<uint32_t>(updates), static_cast<uint32_t>(i));
    by_type(gradients[i], [&](auto type) {
      by_type(p.exp_avg, [&](auto moment) {
        using T = Element<decltype(type)>;
        using M = Element<decltype(moment)>;
        at::parallel_for(0, p.master.numel(), GRAIN, [&](int64_t begin, int64_t end) {
          rows::adamw(in<T>(gradients[i]) + begin, out<float>(p.master) + begin, out<M>(p.exp_avg) + begin,
                      out<M>(p.exp_avg_sq) + begin, row_of(out<rows::Bf16>(p.weight), begin), end - begin, narrow, key,
                      begin);
        });
      });
    });
  }
}

void accumulate(const std::vector<Tensor> &to, const std::vector<Tensor> &from, bool add) {
  RECORDED("accumulate");
  TORCH_CHECK(to.size() == from.size(), to.size(), " tensors for ", from.size());
  if (to.empty()) return;
  const auto device = to.front().device();
  const auto takes = [&](const Tensor &x) {
    return x.scalar_type() == at::kFloat && x.is_contiguous() && x.device() == device;
  };
  const auto gives = [&](const Tensor &x) { return is_readable(x) && x.device() == device; };
  if (std::all_of(to.begin(), to.end(), takes) && std::all_of(from.begin(), from.end(), gives) &&
      on_gpu(to.front(), [&](auto stream) {
        Items items;
        for (size_t i = 0; i < to.size(); ++i) {
          TORCH_CHECK(to[i].sizes() == from[i].sizes(), "size of tensor ", from[i].sizes(), " for ", to[i].sizes());
          kernels::Item item{};
          item.to = out<float>(to[i]);
          items.push(from[i], item);
        }
        const auto there = items.on(to.front().device());
        kernels::accumulate(items_in(there), items.count(), items.chunks, add, stream);
      }))
    return;
  if (add) at::_foreach_add_(to, from);
  else at::_foreach_copy_(to, from);
}

Tensor global_norm(const std::vector<Tensor> &tensors) {
  RECORDED("global_norm");
  TORCH_CHECK(!tensors.empty(), "no tensors to take the norm of");
  Tensor norm;
  if (std::all_of(tensors.begin(), tensors.end(), is_readable) && on_gpu(tensors.front(), [&](auto stream) {
        Items items;
        for (const auto &tensor : tensors) items.push(tensor, {});
        const auto there = items.on(tensors.front().device());
        const auto options = tensors.front().options().dtype(at::kFloat);
        norm = at::empty({}, options);
        auto partials = at::empty({items.chunks}, options);
        kernels::global_norm(items_in(there), items.count(), items.chunks, out<float>(partials), out<float>(norm), stream);
      }))
    return norm;
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(tensors, 2, at::kFloat)));
}

} // namespace loops
