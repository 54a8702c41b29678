// The parts of a decoder that libtorch computes in many passes over memory, as differentiable functions of one pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

extern "C" {
const char *hephaestus_rms_norm(const at::Tensor *x, const at::Tensor *delta, const at::Tensor *weight, double eps,
                                at::Tensor **sum, at::Tensor **y);
const char *hephaestus_rotate(const at::Tensor *q, const at::Tensor *k, const at::Tensor *cos, const at::Tensor *sin,
                              at::Tensor **turned_q, at::Tensor **turned_k);
const char *hephaestus_swiglu(const at::Tensor *gate, const at::Tensor *up, at::Tensor **y);
const char *hephaestus_cross_entropy(const at::Tensor *logits, const at::Tensor *targets, const at::Tensor *weights,
                                     double z_loss, bool gradient, at::Tensor **log_z, at::Tensor **nll);
const char *hephaestus_with_gradient(const at::Tensor *value, const at::Tensor *input, const at::Tensor *gradient,
                                     at::Tensor **y);
void hephaestus_keep_freed_memory();
}
