// What operands must have in common.
#pragma once

#include "loops.h"

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>

// All fp32 or all bf16, on one device that has loops.
inline void check(std::initializer_list<const at::Tensor *> tensors) {
  const auto kind = (*tensors.begin())->scalar_type();
  const auto device = (*tensors.begin())->device();
  TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16, "element type ", kind, ", expected fp32 or bf16");
  TORCH_CHECK(loops::runs_on(device), "a tensor on ", device, ", for which there are no loops");
  for (const auto *tensor : tensors) {
    TORCH_CHECK(tensor->device() == device, "tensors on ", tensor->device(), " and ", device);
    TORCH_CHECK(tensor->scalar_type() == kind, "element types ", tensor->scalar_type(), " and ", kind);
  }
}

inline void same_shape(const at::Tensor &a, const at::Tensor &b) {
  TORCH_CHECK(a.sizes() == b.sizes(), "shapes ", a.sizes(), " and ", b.sizes(), ", expected the same");
}

// A tensor that may be left out, as a null pointer.
inline std::optional<at::Tensor> given(const at::Tensor *tensor) {
  return tensor ? std::optional(*tensor) : std::nullopt;
}

// What an RMSNorm of x, or of x + delta where that is not null, takes.
inline void check_norm(const at::Tensor &x, const at::Tensor *delta, const at::Tensor &weight) {
  check({&x, &weight, delta ? delta : &x});
  TORCH_CHECK(x.dim() > 0 && weight.dim() == 1 && weight.size(0) == x.size(-1) && weight.is_contiguous(),
              "a weight of ", weight.sizes(), " for ", x.sizes());
  const auto most = loops::rms_norm_width(x.device());
  TORCH_CHECK(x.size(-1) <= most, "rows of ", x.size(-1), " numbers, at most ", most, " expected");
  if (delta) same_shape(x, *delta);
}
