// What CUDA devices there are and how much of them is used, without CUDA's headers: the driver is asked directly.
#include "guarded.h"
#include "native.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <dlfcn.h>
#include <exception>

namespace {

// The driver's library; null where there is none.
void *driver() {
  static void *found = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return found;
}

// A version that a library's function writes; 0 where there is no such function.
long version_of(void *library, const char *function) {
  const auto get = reinterpret_cast<int (*)(int *)>(dlsym(library, function));
  int version = 0;
  return get != nullptr && get(&version) == 0 ? version : 0;
}

} // namespace

// The newest CUDA that the driver runs, as 1000 times its major number plus 10 times its minor; 0 without a driver.
long hephaestus_driver_version() { return driver() == nullptr ? 0 : version_of(driver(), "cuDriverGetVersion"); }

// NCCL's version as it writes it, 10000 times major plus 100 times minor plus patch; 0 where libtorch comes without.
long hephaestus_nccl_version() { return version_of(RTLD_DEFAULT, "ncclGetVersion"); }

// Writes the name of CUDA device `index`, its memory in bytes and its compute capability, major and minor; false where there
// is no such device.
bool hephaestus_cuda_device(int index, char *name, size_t length, size_t *bytes, int capability[2]) {
  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, and _MINOR after it.
  constexpr int CAPABILITY = 75;
  if (driver() == nullptr) return false;
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(driver(), "cuInit"));
  const auto get = reinterpret_cast<int (*)(int *, int)>(dlsym(driver(), "cuDeviceGet"));
  const auto get_name = reinterpret_cast<int (*)(char *, int, int)>(dlsym(driver(), "cuDeviceGetName"));
  const auto get_bytes = reinterpret_cast<int (*)(size_t *, int)>(dlsym(driver(), "cuDeviceTotalMem_v2"));
  const auto get_attribute = reinterpret_cast<int (*)(int *, int, int)>(dlsym(driver(), "cuDeviceGetAttribute"));
  if (!init || !get || !get_name || !get_bytes || !get_attribute) return false;
  int device = 0;
  return init(0) == 0 && get(&device, index) == 0 && get_name(name, static_cast<int>(length), device) == 0 &&
         get_bytes(bytes, device) == 0 && get_attribute(capability, CAPABILITY, device) == 0 &&
         get_attribute(capability + 1, CAPABILITY + 1, device) == 0;
}

// Makes CUDA device `index` this thread's: what names no device goes there, and no other one is touched.
const char *hephaestus_use_device(int index) {
  return guarded([&] {
    const c10::impl::VirtualGuardImpl devices(at::kCUDA);
    devices.setDevice(c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)));
  });
}

// The most bytes libtorch has had allocated on CUDA device `index`, or 0 where it has used none.
size_t hephaestus_cuda_peak_memory(int index) {
  try {
    if (!at::hasCUDA()) return 0;
    auto *allocator = c10::getDeviceAllocator(at::kCUDA);
    if (!allocator->initialized()) return 0;
    const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    return static_cast<size_t>(stats.allocated_bytes[0].peak);
  } catch (const std::exception &) {
    return 0;
  }
}
