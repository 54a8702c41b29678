// The boundary between Rust and libtorch: what it adds to the operations that tch binds.
//
// Tensors cross as at::Tensor*; lists as a pointer and a count. A function that can fail returns null, or the text of what
// was thrown, which stays valid until this thread's next failure.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

extern "C" {
const char *hephaestus_libtorch_version();
long hephaestus_cuda_version();

bool hephaestus_cuda_device(int index, char *name, size_t length, size_t *bytes);
size_t hephaestus_cuda_peak_memory(int index);

const char *hephaestus_global_norm(at::Tensor *const *tensors, size_t count, at::Tensor **norm);
const char *hephaestus_copy(at::Tensor *const *to, at::Tensor *const *from, size_t count);
const char *hephaestus_accumulate(at::Tensor *const *to, at::Tensor *const *from, size_t count);
const char *hephaestus_forget_gradients(at::Tensor *const *tensors, size_t count);

struct hephaestus_adamw {
  double lr, beta1, beta2, eps, weight_decay;
};
const char *hephaestus_adamw_step(at::Tensor *const *weights, at::Tensor *const *gradients, at::Tensor *const *exp_avgs,
                                  at::Tensor *const *exp_avg_sqs, size_t count, const at::Tensor *step,
                                  const at::Tensor *gradient_divisor, const at::Tensor *found_inf,
                                  const hephaestus_adamw *settings);
}
