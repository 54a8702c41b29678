// Matrix products with what comes before them, differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

extern "C" {
const char *hephaestus_linear(const at::Tensor *x, const at::Tensor *weight, const at::Tensor *bias, bool fp8,
                              at::Tensor **y);
const char *hephaestus_norm_linear(const at::Tensor *x, const at::Tensor *delta, const at::Tensor *norm, double eps,
                                   const at::Tensor *const *weights, const at::Tensor *const *biases, size_t count,
                                   bool keep, bool fp8, at::Tensor **sum, at::Tensor **ys);
const char *hephaestus_swiglu_linear(const at::Tensor *gate, const at::Tensor *up, const at::Tensor *weight,
                                     const at::Tensor *bias, bool keep, bool fp8, at::Tensor **y);
const char *hephaestus_add_product(const at::Tensor *sum, const at::Tensor *a, const at::Tensor *b);
const char *hephaestus_backward(at::Tensor *const *outputs, at::Tensor *const *gradients, size_t count);
}
