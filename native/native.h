// The boundary between Rust and libtorch: what it adds to the operations that tch binds.
//
// Tensors cross as at::Tensor*; lists as a pointer and a count. A function that can fail returns null, or the text of what
// was thrown, which stays valid until this thread's next failure.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

extern "C" {
const char *hephaestus_libtorch_version();
long hephaestus_cuda_version();
bool hephaestus_has_kernels();

bool hephaestus_cuda_device(int index, char *name, size_t length, size_t *bytes, int capability[2]);
const char *hephaestus_use_device(int index);
size_t hephaestus_cuda_peak_memory(int index);
long hephaestus_driver_version();
long hephaestus_nccl_version();

const char *hephaestus_count_memory();
size_t hephaestus_counted_memory();
void hephaestus_count_no_more();
bool hephaestus_grow_segments();
void hephaestus_empty_cache();
void hephaestus_free_storage(at::Tensor *tensor);
const char *hephaestus_allocate_storage(at::Tensor *tensor);

const char *hephaestus_ranges_begin();
void hephaestus_ranges_end();
const char *hephaestus_profile_begin(bool gpu);
const char *hephaestus_profile_end(const char *path,
                                   void (*see)(void *to, const char *name, uint64_t begin, uint64_t duration,
                                               uint64_t thread, bool on_gpu),
                                   void *to);

const char *hephaestus_global_norm(at::Tensor *const *tensors, size_t count, at::Tensor **norm);
const char *hephaestus_copy(at::Tensor *const *to, at::Tensor *const *from, size_t count);
const char *hephaestus_accumulate(at::Tensor *const *to, at::Tensor *const *from, size_t count);
const char *hephaestus_forget_gradients(at::Tensor *const *tensors, size_t count);

struct hephaestus_adamw {
  double beta1, beta2, eps, weight_decay;
};
// Of one parameter; `weight` is null where the master is the weight.
struct hephaestus_parameter {
  const at::Tensor *gradient, *master, *exp_avg, *exp_avg_sq, *weight;
  bool decays;
};
const char *hephaestus_adamw_step(const hephaestus_parameter *parameters, size_t count, const hephaestus_adamw *numbers,
                                  const at::Tensor *lr, const at::Tensor *step, const at::Tensor *divisor,
                                  const at::Tensor *skipped);
}
