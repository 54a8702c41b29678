// Operations over every parameter at once, through libtorch's multi-tensor kernels.
#include "guarded.h"
#include "native.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <vector>

namespace {

std::vector<at::Tensor> list(at::Tensor *const *tensors, size_t count) {
  std::vector<at::Tensor> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) out.push_back(*tensors[i]);
  return out;
}

// Runs `body` without recording gradients.
template <class Body> const char *unrecorded(Body body) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    body();
  });
}

} // namespace

// The Euclidean norm of all tensors together, an fp32 scalar on their device.
const char *hephaestus_global_norm(at::Tensor *const *tensors, size_t count, at::Tensor **norm) {
  return unrecorded([&] {
    const auto norms = at::_foreach_norm(list(tensors, count), 2, at::kFloat);
    *norm = new at::Tensor(at::linalg_vector_norm(at::stack(norms)));
  });
}

// Copies each tensor into its partner, converting where the types differ.
const char *hephaestus_copy(at::Tensor *const *to, at::Tensor *const *from, size_t count) {
  return unrecorded([&] { at::_foreach_copy_(list(to, count), list(from, count)); });
}

// Adds each tensor to its partner, converting where the types differ.
const char *hephaestus_accumulate(at::Tensor *const *to, at::Tensor *const *from, size_t count) {
  return guarded([&] { at::_foreach_add_(list(to, count), list(from, count)); });
}

// Drops the gradient of each tensor: the next backward pass stores its own instead of adding to zeros.
const char *hephaestus_forget_gradients(at::Tensor *const *tensors, size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) tensors[i]->mutable_grad().reset();
  });
}

// One AdamW update of all weights. Gradients are divided by `gradient_divisor` first; where `found_inf` is 1 nothing is
// changed. `step` counts this update and is shared by all weights.
const char *hephaestus_adamw_step(at::Tensor *const *weights, at::Tensor *const *gradients, at::Tensor *const *exp_avgs,
                                  at::Tensor *const *exp_avg_sqs, size_t count, const at::Tensor *step,
                                  const at::Tensor *gradient_divisor, const at::Tensor *found_inf,
                                  const hephaestus_adamw *settings) {
  return unrecorded([&] {
    at::_fused_adamw_(list(weights, count), list(gradients, count), list(exp_avgs, count), list(exp_avg_sqs, count), {},
                      std::vector<at::Tensor>(count, *step), settings->lr, settings->beta1, settings->beta2,
                      settings->weight_decay, settings->eps, /*amsgrad=*/false, /*maximize=*/false, *gradient_divisor,
                      *found_inf);
  });
}
