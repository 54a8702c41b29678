// What tensors take: on the CPU counted as libtorch's allocator gives memory out and takes it back; on a GPU how its
// allocator asks the driver for it.
#include "guarded.h"
#include "native.h"

#include <ATen/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

// What libtorch's allocators report to, in the place of a profiler.
struct Counter : c10::MemoryReportingInfoBase {
  int64_t now = 0, most = 0;

  void reportMemoryUsage(void *, int64_t bytes, size_t, size_t, c10::Device device) override {
    if (!device.is_cpu()) return;
    now += bytes;
    most = std::max(most, now);
  }
  void reportOutOfMemory(int64_t, size_t, size_t, c10::Device) override {}
  bool memoryProfilingEnabled() const override { return true; }
};

thread_local std::shared_ptr<Counter> counter;

constexpr auto PLACE = c10::DebugInfoKind::PROFILER_STATE;

} // namespace

// Begins to count the CPU memory of tensors that this thread makes, its backward passes included.
const char *hephaestus_count_memory() {
  return guarded([&] {
    TORCH_CHECK(!counter && c10::ThreadLocalDebugInfo::get(PLACE) == nullptr, "this thread counts or profiles already");
    counter = std::make_shared<Counter>();
    c10::ThreadLocalDebugInfo::_push(PLACE, counter);
  });
}

// The most bytes that were there at once since counting began or this was last asked; what is there now begins the next.
size_t hephaestus_counted_memory() {
  if (!counter) return 0;
  const auto most = std::max<int64_t>(counter->most, 0);
  counter->most = counter->now;
  return static_cast<size_t>(most);
}

void hephaestus_count_no_more() {
  if (counter) c10::ThreadLocalDebugInfo::_pop(PLACE);
  counter.reset();
}

// CUDA's allocator maps memory into segments that grow, instead of asking the driver for blocks of fixed sizes: what one
// step frees in other sizes than the next one asks for then fits it nevertheless. Left as they are where the environment
// has settings of its own. Returns whether segments grow.
bool hephaestus_grow_segments() {
  try {
    const auto is_set = [](const char *name) { return std::getenv(name) != nullptr; };
    if (!is_set("PYTORCH_ALLOC_CONF") && !is_set("PYTORCH_CUDA_ALLOC_CONF"))
      c10::CachingAllocator::setAllocatorSettings("expandable_segments:True");
    return c10::CachingAllocator::AcceleratorAllocatorConfig::use_expandable_segments();
  } catch (const std::exception &) {
    return false;
  }
}

// Gives memory that was freed and kept back, to the driver and to the system; what GPUs have in use at most is counted anew.
void hephaestus_empty_cache() {
  try {
    auto *allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    if (allocator->initialized()) {
      allocator->emptyCache();
      const c10::impl::VirtualGuardImpl devices(c10::DeviceType::CUDA);
      for (c10::DeviceIndex index = 0; index < devices.deviceCount(); ++index) allocator->resetPeakStats(index);
    }
  } catch (const std::exception &) {
    // Without CUDA there is none.
  }
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// The memory behind a tensor goes; its shape stays, and so do its views. As in PyTorch's FSDP, graphs that have saved one of
// them find it again when there is memory again: versions are not counted on.
void hephaestus_free_storage(at::Tensor *tensor) {
  auto *storage = tensor->storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(at::DataPtr(nullptr, tensor->device()));
  storage->set_nbytes(0);
}

const char *hephaestus_allocate_storage(at::Tensor *tensor) {
  return guarded([&] {
    const c10::DeviceGuard guard(tensor->device());
    auto *storage = tensor->storage().unsafeGetStorageImpl();
    TORCH_CHECK(storage->allocator() != nullptr, "a tensor whose memory is not libtorch's own");
    const auto bytes = static_cast<size_t>(tensor->numel()) * tensor->itemsize();
    storage->set_data_ptr_noswap(storage->allocator()->allocate(bytes));
    storage->set_nbytes(bytes);
  });
}
