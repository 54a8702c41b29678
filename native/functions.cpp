// Differentiable functions on the CPU, each in one pass over memory where libtorch's operations take several; rows.cpp
// holds the loops. Operands are fp32 or bf16, all alike; what is on another device, of another type or of a shape that
// does not fit is refused, and the caller then uses libtorch's operations.
//
// N tokens, C width, H heads, D head size.
#include "functions.h"
#include "guarded.h"
#include "rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <initializer_list>
#include <mutex>
#include <vector>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Elements that are worth a thread.
constexpr int64_t GRAIN = 16384;

void check(std::initializer_list<const Tensor *> tensors) {
  const auto kind = (*tensors.begin())->scalar_type();
  TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "element type ", kind, ", expected fp32 or bf16");
  for (const auto *tensor : tensors) {
    TORCH_CHECK(tensor->is_cpu(), "a tensor on ", tensor->device(), ", expected the CPU");
    TORCH_CHECK(tensor->scalar_type() == kind, "element types ", tensor->scalar_type(), " and ", kind);
  }
}

void same_shape(const Tensor &a, const Tensor &b) {
  TORCH_CHECK(a.sizes() == b.sizes(), "shapes ", a.sizes(), " and ", b.sizes(), ", expected the same");
}

// A tensor that may be left out, as a null pointer.
std::optional<Tensor> given(const Tensor *tensor) { return tensor ? std::optional(*tensor) : std::nullopt; }

template <class T> const T *in(const Tensor &x) {
  return x.defined() ? static_cast<const T *>(x.const_data_ptr()) : nullptr;
}
template <class T> T *out(const Tensor &x) { return x.defined() ? static_cast<T *>(x.mutable_data_ptr()) : nullptr; }

// `body` with a null pointer of the element type that `x` has.
template <class Body> void by_type(const Tensor &x, Body body) {
  if (x.scalar_type() == at::kFloat) body(static_cast<float *>(nullptr));
  else body(static_cast<rows::Bf16 *>(nullptr));
}
template <class Pointer> using Element = std::remove_pointer_t<Pointer>;

template <class Body> void each_row(int64_t count, int64_t width, Body body) {
  at::parallel_for(0, count, std::max<int64_t>(1, GRAIN / std::max<int64_t>(width, 1)), body);
}

// x [N, in] times weight [out, in] by oneDNN, which is faster than libtorch's own choice for fp32 on many processors.
Tensor product(const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias) {
  using Signature = Tensor(const Tensor &, const Tensor &, const std::optional<Tensor> &, c10::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto linear =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return linear.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// x weight^T + bias.
struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["biased"] = bias.has_value();
    return product(x, weight, bias);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto dy = gradients[0].contiguous();
    Tensor dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = product(dy, saved[1].t(), std::nullopt);
    if (ctx->needs_input_grad(1)) dweight = at::mm(dy.t(), saved[0]);
    if (ctx->saved_data["biased"].toBool() && ctx->needs_input_grad(2)) dbias = dy.sum(0);
    return {dx, dweight, dbias};
  }
};

// RMSNorm over the last dimension of x, or of x + delta where that is given: the sum (undefined without) and its norm.
struct RmsNorm : Function<RmsNorm> {
  static variable_list forward(AutogradContext *ctx, const Tensor &input, const std::optional<Tensor> &delta,
                               const Tensor &weight, double eps) {
    const auto x = input.contiguous();
    const auto width = x.size(-1), count = x.numel() / std::max<int64_t>(width, 1);
    const auto added = delta ? delta->contiguous() : Tensor();
    auto sum = delta ? at::empty_like(x) : Tensor();
    auto y = at::empty_like(x);
    auto scales = at::empty({count}, x.options().dtype(at::kFloat));
    by_type(x, [&](auto type) {
      using T = Element<decltype(type)>;
      each_row(count, width, [&](int64_t begin, int64_t end) {
        for (auto row = begin; row < end; ++row) {
          const auto at = row * width;
          out<float>(scales)[row] = rows::rms_norm(
              in<T>(x) + at, added.defined() ? in<T>(added) + at : nullptr, in<T>(weight),
              sum.defined() ? out<T>(sum) + at : nullptr, out<T>(y) + at, width, static_cast<float>(eps));
        }
      });
    });
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({delta ? sum : x, weight, scales});
    ctx->saved_data["summed"] = delta.has_value();
    return delta ? variable_list{y, sum} : variable_list{y};
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1], &scales = saved[2];
    const bool summed = ctx->saved_data["summed"].toBool();
    const auto dy = gradients[0].defined() ? gradients[0].contiguous() : at::zeros_like(x);
    const auto dsum = summed && gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    const auto width = x.size(-1), count = x.numel() / std::max<int64_t>(width, 1);
    auto dx = at::empty_like(x);
    auto dweight = at::zeros({width}, scales.options());
    std::mutex adding;
    std::vector<std::pair<int64_t, Tensor>> shares;
    by_type(x, [&](auto type) {
      using T = Element<decltype(type)>;
      each_row(count, width, [&](int64_t begin, int64_t end) {
        std::vector<float> mine(width);
        for (auto row = begin; row < end; ++row) {
          const auto at = row * width;
          rows::rms_norm_backward(in<T>(dy) + at, dsum.defined() ? in<T>(dsum) + at : nullptr, in<T>(x) + at,
                                  in<T>(weight), in<float>(scales)[row], out<T>(dx) + at, mine.data(), width);
        }
        const std::lock_guard lock(adding);
        shares.emplace_back(begin, at::tensor(mine));
      });
    });
    // In the order of the rows, so that a run repeats bit for bit.
    std::sort(shares.begin(), shares.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
    for (const auto &share : shares) dweight.add_(share.second);
    return {dx, summed ? dx : Tensor(), dweight.to(weight.scalar_type()), Tensor()};
  }
};

Tensor rotated(const Tensor &input, const Tensor &cos, const Tensor &sin, float direction) {
  const auto x = input.contiguous();
  const auto heads = x.size(1), width = x.size(2);
  auto y = at::empty_like(x);
  by_type(x, [&](auto type) {
    using T = Element<decltype(type)>;
    each_row(x.size(0), heads * width, [&](int64_t begin, int64_t end) {
      for (auto token = begin; token < end; ++token) {
        const auto at = token * heads * width, angle = token * width;
        rows::rotate(in<T>(x) + at, in<T>(cos) + angle, in<T>(sin) + angle, out<T>(y) + at, heads, width / 2,
                     direction);
      }
    });
  });
  return y;
}

// Turns x [N, H, D] by angles whose cosines and sines are [N, 1, D]; back again for the gradient.
struct Rotate : Function<Rotate> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &cos, const Tensor &sin) {
    ctx->save_for_backward({cos, sin});
    return rotated(x, cos, sin, 1.0f);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    return {rotated(gradients[0], saved[0], saved[1], -1.0f), Tensor(), Tensor()};
  }
};

// silu(gate) * up.
struct Swiglu : Function<Swiglu> {
  static Tensor forward(AutogradContext *ctx, const Tensor &gate, const Tensor &up) {
    const auto g = gate.contiguous(), u = up.contiguous();
    auto y = at::empty_like(g);
    by_type(g, [&](auto type) {
      using T = Element<decltype(type)>;
      at::parallel_for(0, g.numel(), GRAIN, [&](int64_t begin, int64_t end) {
        rows::swiglu(in<T>(g) + begin, in<T>(u) + begin, out<T>(y) + begin, end - begin);
      });
    });
    ctx->save_for_backward({g, u});
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto dy = gradients[0].contiguous();
    auto dgate = at::empty_like(dy), dup = at::empty_like(dy);
    by_type(dy, [&](auto type) {
      using T = Element<decltype(type)>;
      at::parallel_for(0, dy.numel(), GRAIN, [&](int64_t begin, int64_t end) {
        rows::swiglu_backward(in<T>(dy) + begin, in<T>(saved[0]) + begin, in<T>(saved[1]) + begin,
                              out<T>(dgate) + begin, out<T>(dup) + begin, end - begin);
      });
    });
    return {dgate, dup};
  }
};

// [N, H, D], a segment of it, as libtorch's kernels take it: [1, H, T, D].
Tensor segment(const Tensor &x, int64_t begin, int64_t length) {
  return x.narrow(0, begin, length).transpose(0, 1).unsqueeze(0);
}

// Causal attention inside each segment; q, k and v are [N, H, D]. bf16 is widened for the products, which are small here:
// oneDNN's bf16 ones cost more to set up than they gain (1.3 and 2 times as long, forward and backward, on documents of
// 160 tokens).
struct Attend : Function<Attend> {
  static Tensor forward(AutogradContext *ctx, const Tensor &q, const Tensor &k, const Tensor &v,
                        const std::vector<int64_t> &lengths) {
    auto y = at::empty(q.sizes(), q.options());
    variable_list saved{q, k, v, y};
    const auto wide_q = q.to(at::kFloat), wide_k = k.to(at::kFloat), wide_v = v.to(at::kFloat);
    int64_t begin = 0;
    for (const auto length : lengths) {
      const auto part = [&](const Tensor &x) { return segment(x, begin, length); };
      auto [mixed, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(part(wide_q), part(wide_k),
                                                                                     part(wide_v), 0.0, true);
      part(y).copy_(mixed);
      saved.push_back(log_sums);
      begin += length;
    }
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["lengths"] = lengths;
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto lengths = ctx->saved_data["lengths"].toIntVector();
    const auto wide = [](const Tensor &x) { return x.to(at::kFloat); };
    const auto &q = saved[0], &k = saved[1], &v = saved[2];
    const auto wide_q = wide(q), wide_k = wide(k), wide_v = wide(v), wide_y = wide(saved[3]);
    const auto dy = wide(gradients[0].contiguous());
    auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
         dv = at::empty(v.sizes(), v.options());
    int64_t begin = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto part = [&](const Tensor &x) { return segment(x, begin, lengths[i]); };
      auto [q_part, k_part, v_part] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          part(dy), part(wide_q), part(wide_k), part(wide_v), part(wide_y), saved[4 + i], 0.0, true);
      part(dq).copy_(q_part);
      part(dk).copy_(k_part);
      part(dv).copy_(v_part);
      begin += lengths[i];
    }
    return {dq, dk, dv, Tensor()};
  }
};

// `value`, whose gradient with respect to `input` is `gradient`. It is scaled in place, so backward runs once.
struct WithGradient : Function<WithGradient> {
  static Tensor forward(AutogradContext *ctx, const Tensor &value, const Tensor &, const Tensor &gradient) {
    ctx->saved_data["gradient"] = gradient;
    return value.clone();
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto found = ctx->saved_data.find("gradient");
    TORCH_CHECK(found != ctx->saved_data.end(), "backward ran a second time");
    auto gradient = found->second.toTensor();
    ctx->saved_data.erase("gradient");
    return {gradients[0], gradient.mul_(gradients[0]), Tensor()};
  }
};

} // namespace

// x [N, in] times weight [out, in], plus bias [out] where not null; fp32.
const char *hephaestus_linear(const Tensor *x, const Tensor *weight, const Tensor *bias, Tensor **y) {
  return guarded([&] {
    check({x, weight});
    TORCH_CHECK(x->scalar_type() == at::kFloat, "element type ", x->scalar_type(), ", expected fp32");
    TORCH_CHECK(at::globalContext().userEnabledMkldnn() && at::hasMKLDNN(), "no oneDNN in this libtorch");
    TORCH_CHECK(x->dim() == 2 && weight->dim() == 2 && x->size(1) == weight->size(1), "shapes ", x->sizes(), " and ",
                weight->sizes(), " make no product");
    *y = new Tensor(Linear::apply(*x, *weight, given(bias)));
  });
}

// RMSNorm with `weight` over the last dimension of x, or of x + delta where that is not null: that sum then goes to `sum`.
const char *hephaestus_rms_norm(const Tensor *x, const Tensor *delta, const Tensor *weight, double eps, Tensor **sum,
                                Tensor **y) {
  return guarded([&] {
    check({x, weight, delta ? delta : x});
    TORCH_CHECK(x->dim() > 0 && weight->dim() == 1 && weight->size(0) == x->size(-1) && weight->is_contiguous(),
                "a weight of ", weight->sizes(), " for ", x->sizes());
    if (delta) same_shape(*x, *delta);
    auto result = RmsNorm::apply(*x, given(delta), *weight, eps);
    *y = new Tensor(std::move(result[0]));
    if (delta) *sum = new Tensor(std::move(result[1]));
  });
}

// x [N, H, D], first halves of heads turned with second ones by angles of cosines and sines [N, 1, D].
const char *hephaestus_rotate(const Tensor *x, const Tensor *cos, const Tensor *sin, Tensor **y) {
  return guarded([&] {
    check({x, cos, sin});
    TORCH_CHECK(x->dim() == 3 && x->size(2) % 2 == 0, "shape ", x->sizes(), ", expected [N, H, D] with D even");
    same_shape(*cos, *sin);
    TORCH_CHECK(cos->sizes() == at::IntArrayRef({x->size(0), 1, x->size(2)}) && cos->is_contiguous() &&
                    sin->is_contiguous(),
                "cosines ", cos->sizes(), " for ", x->sizes());
    *y = new Tensor(Rotate::apply(*x, *cos, *sin));
  });
}

// silu(gate) * up.
const char *hephaestus_swiglu(const Tensor *gate, const Tensor *up, Tensor **y) {
  return guarded([&] {
    check({gate, up});
    same_shape(*gate, *up);
    *y = new Tensor(Swiglu::apply(*gate, *up));
  });
}

// Causal attention inside segments of the given lengths; q, k, v and y are [N, H, D].
const char *hephaestus_attend(const Tensor *q, const Tensor *k, const Tensor *v, const int64_t *lengths, size_t count,
                              Tensor **y) {
  return guarded([&] {
    check({q, k, v});
    TORCH_CHECK(q->dim() == 3, "shape ", q->sizes(), ", expected [N, H, D]");
    same_shape(*q, *k);
    same_shape(*q, *v);
    std::vector<int64_t> all(lengths, lengths + count);
    int64_t tokens = 0;
    for (const auto length : all) {
      TORCH_CHECK(length > 0, "a segment of ", length, " tokens");
      tokens += length;
    }
    TORCH_CHECK(tokens == q->size(0), "segments of ", tokens, " tokens for ", q->size(0));
    *y = new Tensor(Attend::apply(*q, *k, *v, all));
  });
}

// Of each row of logits [R, V]: log Z, and the negative log-likelihood of its target (0 where that is negative), [R] fp32.
// With `gradient` the logits become the gradient of weight * (nll + z_loss * log Z^2). Targets [R] i64, weights [R] fp32.
const char *hephaestus_cross_entropy(const Tensor *logits, const Tensor *targets, const Tensor *weights, double z_loss,
                                     bool gradient, Tensor **log_z, Tensor **nll) {
  return guarded([&] {
    check({logits});
    check({weights});
    TORCH_CHECK(logits->dim() == 2 && logits->size(1) > 0 && logits->is_contiguous() && !logits->requires_grad(),
                "logits of shape ", logits->sizes(), ", expected [R, V], contiguous, outside of autograd");
    const auto count = logits->size(0), width = logits->size(1);
    TORCH_CHECK(weights->scalar_type() == at::kFloat && weights->is_contiguous() && weights->dim() == 1 &&
                    weights->size(0) == count,
                "weights ", weights->sizes(), " for logits ", logits->sizes());
    TORCH_CHECK(targets->is_cpu() && targets->scalar_type() == at::kLong && targets->is_contiguous() &&
                    targets->dim() == 1 && targets->size(0) == count,
                "targets ", targets->sizes(), " for logits ", logits->sizes());
    const auto *target = in<int64_t>(*targets);
    for (int64_t row = 0; row < count; ++row)
      TORCH_CHECK(target[row] < width, "target ", target[row], " of ", width, " tokens");
    auto found = at::empty({count}, weights->options()), losses = at::zeros({count}, weights->options());
    by_type(*logits, [&](auto type) {
      using T = Element<decltype(type)>;
      each_row(count, width, [&](int64_t begin, int64_t end) {
        std::vector<float> scratch(width);
        for (auto row = begin; row < end; ++row) {
          auto *mine = out<T>(*logits) + row * width;
          const float picked = target[row] < 0 ? 0.0f : rows::read(mine, target[row]);
          const float log_sum = rows::cross_entropy(mine, scratch.data(), width, target[row], in<float>(*weights)[row],
                                                    static_cast<float>(z_loss), gradient);
          out<float>(found)[row] = log_sum;
          if (target[row] >= 0) out<float>(losses)[row] = log_sum - picked;
        }
      });
    });
    *log_z = new Tensor(std::move(found));
    *nll = new Tensor(std::move(losses));
  });
}

// `value`, with `gradient` as its gradient with respect to `input`.
const char *hephaestus_with_gradient(const Tensor *value, const Tensor *input, const Tensor *gradient, Tensor **y) {
  return guarded([&] {
    same_shape(*input, *gradient);
    *y = new Tensor(WithGradient::apply(*value, *input, *gradient));
  });
}

// Memory that is freed stays with the process, which asks for as much again in the next step: without this, glibc hands
// large blocks back and the kernel clears every page of them anew.
void hephaestus_keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
#endif
}
