// Operations over every parameter at once.
#include "guarded.h"
#include "loops.h"
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
  return unrecorded([&] { *norm = new at::Tensor(loops::global_norm(list(tensors, count))); });
}

// Copies each tensor into its partner, converting where the types differ.
const char *hephaestus_copy(at::Tensor *const *to, at::Tensor *const *from, size_t count) {
  return unrecorded([&] { loops::accumulate(list(to, count), list(from, count), /*add=*/false); });
}

// Adds each tensor to its partner, converting where the types differ.
const char *hephaestus_accumulate(at::Tensor *const *to, at::Tensor *const *from, size_t count) {
  return unrecorded([&] { loops::accumulate(list(to, count), list(from, count), /*add=*/true); });
}

// Drops the gradient of each tensor: the next backward pass stores its own instead of adding to zeros.
const char *hephaestus_forget_gradients(at::Tensor *const *tensors, size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) tensors[i]->mutable_grad().reset();
  });
}

// One AdamW update of all parameters, by scalars that lie beside them.
const char *hephaestus_adamw_step(const hephaestus_parameter *parameters, size_t count, const hephaestus_adamw *numbers,
                                  const at::Tensor *lr, const at::Tensor *step, const at::Tensor *divisor,
                                  const at::Tensor *skipped) {
  return unrecorded([&] {
    std::vector<loops::Parameter> all;
    all.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const auto &p = parameters[i];
      all.push_back({*p.gradient, *p.master, *p.exp_avg, *p.exp_avg_sq, p.weight ? *p.weight : at::Tensor(), p.decays});
    }
    loops::adamw(all, {numbers->beta1, numbers->beta2, numbers->eps, numbers->weight_decay}, *lr, *step, *divisor,
                 *skipped);
  });
}
