// Matrix products, alone and with the RMSNorm or SwiGLU that makes their input: then the backward pass may make that input
// again from what it keeps anyway, instead of keeping it too (selective recomputation as in Korthikanti et al. 2022,
// arXiv 2205.05198, for the operations that cost least).
//
// N tokens; a weight is [out, in].
#include "linear.h"
#include "checks.h"
#include "guarded.h"
#include "loops.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Optional = std::optional<Tensor>;

// x [N, in] times weight^T. fp32 on the CPU goes to oneDNN, which is faster than libtorch's own choice on many processors.
Tensor product(const Tensor &x, const Tensor &weight, const Optional &bias) {
  if (!x.is_cpu() || x.scalar_type() != at::kFloat || !at::globalContext().userEnabledMkldnn() || !at::hasMKLDNN())
    return at::linear(x, weight, bias);
  using Signature = Tensor(const Tensor &, const Tensor &, const Optional &, c10::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto linear =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return linear.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// The gradients of product(x, weight, bias) by weight and bias.
struct Gradients {
  Tensor weight, bias;
  Gradients(const Tensor &dy, const Tensor &x, bool biased)
      : weight(at::mm(dy.t(), x)), bias(biased ? dy.sum(0) : Tensor()) {}
};

// x weight^T + bias.
struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &weight, const Optional &bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["biased"] = bias.has_value();
    return product(x, weight, bias);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto dy = gradients[0].contiguous();
    const Gradients of(dy, saved[0], ctx->saved_data["biased"].toBool());
    return {product(dy, saved[1].t(), std::nullopt), of.weight, of.bias};
  }
};

// Up to three products of RMSNorm(x + delta): each weight's, then x + delta where there is a delta.
struct NormLinear : Function<NormLinear> {
  static constexpr size_t MOST = 3;

  static variable_list forward(AutogradContext *ctx, const Tensor &x, const Optional &delta, const Tensor &norm,
                               double eps, bool keep, const Optional &w0, const Optional &b0, const Optional &w1,
                               const Optional &b1, const Optional &w2, const Optional &b2) {
    const auto in = x.contiguous();
    auto [sum, normed, scales] = loops::rms_norm(in, delta ? delta->contiguous() : Tensor(), norm, eps);
    variable_list saved{delta ? sum : in, norm, scales, keep ? normed : Tensor()};
    variable_list results;
    int64_t biased = 0;
    for (const auto &[weight, bias] : {std::pair(w0, b0), std::pair(w1, b1), std::pair(w2, b2)}) {
      if (!weight) break;
      biased |= int64_t{bias.has_value()} << results.size();
      results.push_back(product(normed, *weight, bias));
      saved.push_back(*weight);
    }
    if (delta) results.push_back(sum);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["biased"] = biased;
    ctx->saved_data["summed"] = delta.has_value();
    return results;
  }

  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &norm = saved[1], &scales = saved[2];
    const auto biased = ctx->saved_data["biased"].toInt();
    const bool summed = ctx->saved_data["summed"].toBool();
    const auto weights = saved.size() - 4;
    auto normed = saved[3];
    if (!normed.defined()) normed = std::get<1>(loops::rms_norm(x, Tensor(), norm, ctx->saved_data["eps"].toDouble()));
    Tensor dnormed;
    variable_list of_weights(2 * MOST);
    for (size_t i = 0; i < weights; ++i) {
      if (!gradients[i].defined()) continue;
      const auto dy = gradients[i].contiguous();
      gradients[i].reset();
      const auto &weight = saved[4 + i];
      if (!dnormed.defined()) dnormed = product(dy, weight.t(), std::nullopt);
      else if (dy.is_cpu()) dnormed.add_(product(dy, weight.t(), std::nullopt));
      else dnormed.addmm_(dy, weight);
      const Gradients of(dy, normed, (biased >> i & 1) != 0);
      of_weights[2 * i] = of.weight;
      of_weights[2 * i + 1] = of.bias;
    }
    if (!dnormed.defined()) dnormed = at::zeros_like(x);
    normed.reset();
    const auto dsum = summed && gradients[weights].defined() ? gradients[weights].contiguous() : Tensor();
    auto [dx, dnorm] = loops::rms_norm_backward(dnormed, dsum, x, norm, scales);
    variable_list results{dx, summed ? dx : Tensor(), dnorm, Tensor(), Tensor()};
    results.insert(results.end(), of_weights.begin(), of_weights.end());
    return results;
  }
};

// The product of silu(gate) * up.
struct SwigluLinear : Function<SwigluLinear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &gate, const Tensor &up, const Tensor &weight,
                        const Optional &bias, bool keep) {
    const auto g = gate.contiguous(), u = up.contiguous();
    const auto inner = loops::swiglu(g, u);
    ctx->save_for_backward({g, u, weight, keep ? inner : Tensor()});
    ctx->saved_data["biased"] = bias.has_value();
    return product(inner, weight, bias);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1], &weight = saved[2];
    const auto dy = gradients[0].contiguous();
    auto inner = saved[3].defined() ? saved[3] : loops::swiglu(gate, up);
    const Gradients of(dy, inner, ctx->saved_data["biased"].toBool());
    inner.reset();
    auto [dgate, dup] = loops::swiglu_backward(product(dy, weight.t(), std::nullopt), gate, up);
    return {dgate, dup, of.weight, of.bias, Tensor()};
  }
};

void check_product(const Tensor &x, const Tensor &weight) {
  check({&x, &weight});
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1), "shapes ", x.sizes(), " and ",
              weight.sizes(), " make no product");
}

} // namespace

// x [N, in] times weight [out, in], plus bias [out] where not null.
const char *hephaestus_linear(const Tensor *x, const Tensor *weight, const Tensor *bias, Tensor **y) {
  return guarded([&] {
    check_product(*x, *weight);
    *y = new Tensor(Linear::apply(*x, *weight, given(bias)));
  });
}

// RMSNorm of x [N, in], or of x + delta where that is not null, times each of one to three weights; biases may be null. The
// sum goes to `sum` where there is a delta. Without `keep` the norm is computed again in the backward pass.
const char *hephaestus_norm_linear(const Tensor *x, const Tensor *delta, const Tensor *norm, double eps,
                                   const Tensor *const *weights, const Tensor *const *biases, size_t count, bool keep,
                                   Tensor **sum, Tensor **ys) {
  return guarded([&] {
    check_norm(*x, delta, *norm);
    TORCH_CHECK(count > 0 && count <= NormLinear::MOST, count, " weights, expected one to three");
    Optional w[NormLinear::MOST], b[NormLinear::MOST];
    for (size_t i = 0; i < count; ++i) {
      check_product(*x, *weights[i]);
      w[i] = *weights[i];
      b[i] = given(biases[i]);
    }
    auto results = NormLinear::apply(*x, given(delta), *norm, eps, keep, w[0], b[0], w[1], b[1], w[2], b[2]);
    for (size_t i = 0; i < count; ++i) ys[i] = new Tensor(std::move(results[i]));
    if (delta) *sum = new Tensor(std::move(results[count]));
  });
}

// silu(gate) * up [N, in] times weight [out, in], plus bias [out] where not null. Without `keep` their product is computed
// again in the backward pass.
const char *hephaestus_swiglu_linear(const Tensor *gate, const Tensor *up, const Tensor *weight, const Tensor *bias,
                                     bool keep, Tensor **y) {
  return guarded([&] {
    check({gate, up});
    same_shape(*gate, *up);
    check_product(*gate, *weight);
    *y = new Tensor(SwigluLinear::apply(*gate, *up, *weight, given(bias), keep));
  });
}

// sum [n, m] += a [n, k] times b [k, m], where the sum is fp32 and the product, on a GPU, is added before it is rounded.
const char *hephaestus_add_product(const Tensor *sum, const Tensor *a, const Tensor *b) {
  return guarded([&] {
    const at::NoGradGuard no_grad;
    TORCH_CHECK(sum->scalar_type() == at::kFloat, "a sum of type ", sum->scalar_type(), ", expected fp32");
    auto to = *sum;
    if (a->scalar_type() == at::kFloat) to.addmm_(*a, *b);
    else if (a->is_cuda()) at::addmm_out(to, to, *a, *b, at::kFloat);
    else to.add_(at::mm(*a, *b));
  });
}

// The backward pass from outputs, whose gradients are given.
const char *hephaestus_backward(Tensor *const *outputs, Tensor *const *gradients, size_t count) {
  return guarded([&] {
    variable_list from, given;
    for (size_t i = 0; i < count; ++i) {
      from.push_back(*outputs[i]);
      given.push_back(*gradients[i]);
    }
    torch::autograd::backward(from, given);
  });
}
