// What this was compiled and linked against, as extern "C" functions.
#include "native.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/version.h>

#include <exception>

// libtorch's version, such as "2.11.0".
const char *hephaestus_libtorch_version() { return TORCH_VERSION; }

// The CUDA runtime as 1000 x major + 10 x minor, or 0 where libtorch has none.
long hephaestus_cuda_version() {
  try {
    const auto &hooks = at::detail::getCUDAHooks();
    return hooks.hasCUDART() ? hooks.versionCUDART() : 0;
  } catch (const std::exception &) {
    return 0;
  }
}

// Whether the kernels were compiled.
bool hephaestus_has_kernels() {
#ifdef HEPHAESTUS_KERNELS
  return true;
#else
  return false;
#endif
}
