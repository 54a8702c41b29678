// Differentiable functions of one pass over memory where libtorch's operations take several; loops.cpp runs them. Operands
// are fp32 or bf16, all alike; what is on a device without loops, of another type or of a shape that does not fit is
// refused, and the caller then uses libtorch's operations.
//
// N tokens, C width, H heads, D head size.
#include "functions.h"
#include "checks.h"
#include "guarded.h"
#include "loops.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// RMSNorm over the last dimension of x, or of x + delta where that is given: the norm and, with a delta, the sum.
struct RmsNorm : Function<RmsNorm> {
  static variable_list forward(AutogradContext *ctx, const Tensor &x, const std::optional<Tensor> &delta,
                               const Tensor &weight, double eps) {
    const auto in = x.contiguous();
    auto [sum, y, scales] = loops::rms_norm(in, delta ? delta->contiguous() : Tensor(), weight, eps);
    ctx->set_materialize_grads(false);
    ctx->save_for_backward({delta ? sum : in, weight, scales});
    ctx->saved_data["summed"] = delta.has_value();
    return delta ? variable_list{y, sum} : variable_list{y};
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const bool summed = ctx->saved_data["summed"].toBool();
    const auto dy = gradients[0].defined() ? gradients[0].contiguous() : at::zeros_like(saved[0]);
    const auto dsum = summed && gradients[1].defined() ? gradients[1].contiguous() : Tensor();
    auto [dx, dweight] = loops::rms_norm_backward(dy, dsum, saved[0], saved[1], saved[2]);
    return {dx, summed ? dx : Tensor(), dweight, Tensor()};
  }
};

// Turns q [N, H, D] and k [N, K, D] by angles whose cosines and sines are [N, 1, D]; back again for the gradient.
struct Rotate : Function<Rotate> {
  static variable_list forward(AutogradContext *ctx, const Tensor &q, const Tensor &k, const Tensor &cos,
                               const Tensor &sin) {
    ctx->save_for_backward({cos, sin});
    auto [turned_q, turned_k] = loops::rotate(q.contiguous(), k.contiguous(), cos, sin, 1.0f);
    return {turned_q, turned_k};
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    auto [dq, dk] = loops::rotate(gradients[0].contiguous(), gradients[1].contiguous(), saved[0], saved[1], -1.0f);
    return {dq, dk, Tensor(), Tensor()};
  }
};

// silu(gate) * up.
struct Swiglu : Function<Swiglu> {
  static Tensor forward(AutogradContext *ctx, const Tensor &gate, const Tensor &up) {
    const auto g = gate.contiguous(), u = up.contiguous();
    ctx->save_for_backward({g, u});
    return loops::swiglu(g, u);
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    auto [dgate, dup] = loops::swiglu_backward(gradients[0].contiguous(), saved[0], saved[1]);
    return {dgate, dup};
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

// RMSNorm with `weight` over the last dimension of x, or of x + delta where that is not null: that sum then goes to `sum`.
const char *hephaestus_rms_norm(const Tensor *x, const Tensor *delta, const Tensor *weight, double eps, Tensor **sum,
                                Tensor **y) {
  return guarded([&] {
    check_norm(*x, delta, *weight);
    auto result = RmsNorm::apply(*x, given(delta), *weight, eps);
    *y = new Tensor(std::move(result[0]));
    if (delta) *sum = new Tensor(std::move(result[1]));
  });
}

// q [N, H, D] and k [N, K, D], first halves of heads turned with second ones by angles of cosines and sines [N, 1, D].
const char *hephaestus_rotate(const Tensor *q, const Tensor *k, const Tensor *cos, const Tensor *sin, Tensor **turned_q,
                              Tensor **turned_k) {
  return guarded([&] {
    check({q, k, cos, sin});
    TORCH_CHECK(q->dim() == 3 && k->dim() == 3 && q->size(2) % 2 == 0 && q->size(0) == k->size(0) &&
                    q->size(2) == k->size(2),
                "shapes ", q->sizes(), " and ", k->sizes(), ", expected [N, H, D] and [N, K, D] with D even");
    same_shape(*cos, *sin);
    TORCH_CHECK(cos->sizes() == at::IntArrayRef({q->size(0), 1, q->size(2)}) && cos->is_contiguous() &&
                    sin->is_contiguous(),
                "cosines ", cos->sizes(), " for ", q->sizes());
    auto turned = Rotate::apply(*q, *k, *cos, *sin);
    *turned_q = new Tensor(std::move(turned[0]));
    *turned_k = new Tensor(std::move(turned[1]));
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
    TORCH_CHECK(targets->device() == logits->device() && weights->device() == logits->device(), "targets on ",
                targets->device(), " and weights on ", weights->device(), " for logits on ", logits->device());
    TORCH_CHECK(targets->scalar_type() == at::kLong && targets->is_contiguous() && targets->dim() == 1 &&
                    targets->size(0) == count,
                "targets ", targets->sizes(), " for logits ", logits->sizes());
    // On a GPU nobody waits to look: there such a target makes the loss no number.
    if (targets->is_cpu() && count > 0) {
      const auto largest = targets->max().item<int64_t>();
      TORCH_CHECK(largest < width, "target ", largest, " of ", width, " tokens");
    }
    auto [found, losses] = loops::cross_entropy(*logits, *targets, *weights, z_loss, gradient);
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
