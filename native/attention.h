// Attention over packed documents, differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

extern "C" {
// What computes it on a GPU.
enum hephaestus_attention : int { HEPHAESTUS_FLASH = 0, HEPHAESTUS_CUDNN = 1 };

const char *hephaestus_attend(const at::Tensor *q, const at::Tensor *k, const at::Tensor *v, const int64_t *lengths,
                              size_t count, at::Tensor **y);
const char *hephaestus_attend_on_gpu(const at::Tensor *q, const at::Tensor *k, const at::Tensor *v,
                                     const at::Tensor *ends, int64_t longest, int64_t window,
                                     hephaestus_attention backend, at::Tensor **y);
}
