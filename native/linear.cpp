// Matrix products, alone and with the RMSNorm or SwiGLU that makes their input: then the backward pass may make that input
// again from what it keeps anyway, instead of keeping it too (selective recomputation as in Korthikanti et al. 2022,
// arXiv 2205.05198, for the operations that cost least).
//
// N tokens; a weight is [out, in].
#include "linear.h"
#include "checks.h"
#include "guarded.h"
#include "loops.h"
#include "products.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;
using Optional = std::optional<Tensor>;

using products::Operand;

// The gradient of a bias.
Tensor by_bias(const Tensor &dy, bool biased) { return biased ? dy.sum(0) : Tensor(); }

// x weight^T + bias.
struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &x, const Tensor &weight, const Optional &bias, bool fp8) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["biased"] = bias.has_value();
    ctx->saved_data["fp8"] = fp8;
    return products::forward({x, fp8}, {weight, fp8}, bias);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const bool fp8 = ctx->saved_data["fp8"].toBool();
    const Operand dy(gradients[0].contiguous(), fp8);
    return {products::by_input(dy, {saved[1], fp8}), products::by_weight(dy, {saved[0], fp8}),
            by_bias(dy.whole(), ctx->saved_data["biased"].toBool()), Tensor()};
  }
};

// Up to three products of RMSNorm(x + delta): each weight's, then x + delta where there is a delta.
struct NormLinear : Function<NormLinear> {
  static constexpr size_t MOST = 3;

  static variable_list forward(AutogradContext *ctx, const Tensor &x, const Optional &delta, const Tensor &norm,
                               double eps, bool keep, bool fp8, const Optional &w0, const Optional &b0,
                               const Optional &w1, const Optional &b1, const Optional &w2, const Optional &b2) {
    const auto in = x.contiguous();
    auto [sum, normed, scales] = loops::rms_norm(in, delta ? delta->contiguous() : Tensor(), norm, eps);
    variable_list saved{delta ? sum : in, norm, scales, keep ? normed : Tensor()};
    const Operand from(normed, fp8);
    variable_list results;
    int64_t biased = 0;
    for (const auto &[weight, bias] : {std::pair(w0, b0), std::pair(w1, b1), std::pair(w2, b2)}) {
      if (!weight) break;
      biased |= int64_t{bias.has_value()} << results.size();
      results.push_back(products::forward(from, {*weight, fp8}, bias));
      saved.push_back(*weight);
    }
    if (delta) results.push_back(sum);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["biased"] = biased;
    ctx->saved_data["summed"] = delta.has_value();
    ctx->saved_data["fp8"] = fp8;
    return results;
  }

  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x = saved[0], &norm = saved[1], &scales = saved[2];
    const auto biased = ctx->saved_data["biased"].toInt();
    const bool summed = ctx->saved_data["summed"].toBool();
    const auto weights = saved.size() - 4;
    const bool fp8 = ctx->saved_data["fp8"].toBool();
    auto normed = saved[3];
    if (!normed.defined()) normed = std::get<1>(loops::rms_norm(x, Tensor(), norm, ctx->saved_data["eps"].toDouble()));
    std::optional<Operand> from(std::in_place, std::move(normed), fp8);
    Tensor dnormed;
    variable_list of_weights(2 * MOST);
    for (size_t i = 0; i < weights; ++i) {
      if (!gradients[i].defined()) continue;
      const Operand dy(gradients[i].contiguous(), fp8);
      gradients[i].reset();
      dnormed = products::by_input(dy, {saved[4 + i], fp8}, dnormed);
      of_weights[2 * i] = products::by_weight(dy, *from);
      of_weights[2 * i + 1] = by_bias(dy.whole(), (biased >> i & 1) != 0);
    }
    if (!dnormed.defined()) dnormed = at::zeros_like(x);
    from.reset();
    const auto dsum = summed && gradients[weights].defined() ? gradients[weights].contiguous() : Tensor();
    auto [dx, dnorm] = loops::rms_norm_backward(dnormed, dsum, x, norm, scales);
    variable_list results{dx, summed ? dx : Tensor(), dnorm, Tensor(), Tensor(), Tensor()};
    results.insert(results.end(), of_weights.begin(), of_weights.end());
    return results;
  }
};

// The product of silu(gate) * up.
struct SwigluLinear : Function<SwigluLinear> {
  static Tensor forward(AutogradContext *ctx, const Tensor &gate, const Tensor &up, const Tensor &weight,
                        const Optional &bias, bool keep, bool fp8) {
    const auto g = gate.contiguous(), u = up.contiguous();
    const auto inner = loops::swiglu(g, u);
    ctx->save_for_backward({g, u, weight, keep ? inner : Tensor()});
    ctx->saved_data["biased"] = bias.has_value();
    ctx->saved_data["fp8"] = fp8;
    return products::forward({inner, fp8}, {weight, fp8}, bias);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &gate = saved[0], &up = saved[1], &weight = saved[2];
    const bool fp8 = ctx->saved_data["fp8"].toBool();
    const Operand dy(gradients[0].contiguous(), fp8);
    const auto dweight = products::by_weight(dy, {saved[3].defined() ? saved[3] : loops::swiglu(gate, up), fp8});
    auto [dgate, dup] = loops::swiglu_backward(products::by_input(dy, {weight, fp8}), gate, up);
    return {dgate, dup, dweight, by_bias(dy.whole(), ctx->saved_data["biased"].toBool()), Tensor(), Tensor()};
  }
};

void check_product(const Tensor &x, const Tensor &weight) {
  check({&x, &weight});
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1), "shapes ", x.sizes(), " and ",
              weight.sizes(), " make no product");
}

} // namespace

// x [N, in] times weight [out, in], plus bias [out] where not null; in FP8 as products.h says.
const char *hephaestus_linear(const Tensor *x, const Tensor *weight, const Tensor *bias, bool fp8, Tensor **y) {
  return guarded([&] {
    check_product(*x, *weight);
    *y = new Tensor(Linear::apply(*x, *weight, given(bias), fp8));
  });
}

// RMSNorm of x [N, in], or of x + delta where that is not null, times each of one to three weights; biases may be null. The
// sum goes to `sum` where there is a delta. Without `keep` the norm is computed again in the backward pass.
const char *hephaestus_norm_linear(const Tensor *x, const Tensor *delta, const Tensor *norm, double eps,
                                   const Tensor *const *weights, const Tensor *const *biases, size_t count, bool keep,
                                   bool fp8, Tensor **sum, Tensor **ys) {
  return guarded([&] {
    check_norm(*x, delta, *norm);
    TORCH_CHECK(count > 0 && count <= NormLinear::MOST, count, " weights, expected one to three");
    Optional w[NormLinear::MOST], b[NormLinear::MOST];
    for (size_t i = 0; i < count; ++i) {
      check_product(*x, *weights[i]);
      w[i] = *weights[i];
      b[i] = given(biases[i]);
    }
    auto results = NormLinear::apply(*x, given(delta), *norm, eps, keep, fp8, w[0], b[0], w[1], b[1], w[2], b[2]);
    for (size_t i = 0; i < count; ++i) ys[i] = new Tensor(std::move(results[i]));
    if (delta) *sum = new Tensor(std::move(results[count]));
  });
}

// silu(gate) * up [N, in] times weight [out, in], plus bias [out] where not null. Without `keep` their product is computed
// again in the backward pass.
const char *hephaestus_swiglu_linear(const Tensor *gate, const Tensor *up, const Tensor *weight, const Tensor *bias,
                                     bool keep, bool fp8, Tensor **y) {
  return guarded([&] {
    check({gate, up});
    same_shape(*gate, *up);
    check_product(*gate, *weight);
    *y = new Tensor(SwigluLinear::apply(*gate, *up, *weight, given(bias), keep, fp8));
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
