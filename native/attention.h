// Attention over packed documents, differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

extern "C" {
const char *hephaestus_attend(const at::Tensor *q, const at::Tensor *k, const at::Tensor *v, const int64_t *lengths,
                              size_t count, at::Tensor **y);
const char *hephaestus_attend_on_gpu(const at::Tensor *q, const at::Tensor *k, const at::Tensor *v,
                                     const at::Tensor *ends, int64_t longest, int64_t window, at::Tensor **y);
}
