// libtorch's profiler (Kineto), begun and ended between two steps.
#include "guarded.h"
#include "native.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <set>

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

// Names every operation for Nsight Systems and Nsight Compute from now on, by NVTX ranges.
const char *hephaestus_ranges_begin() {
  return guarded([] {
    const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::NVTX);
    profiler::enableProfiler(config, {});
  });
}

void hephaestus_ranges_end() {
  guarded([] { profiler::disableProfiler(); });
}

// Begins to record operations of this thread and, with `gpu`, what they launch.
const char *hephaestus_profile_begin(bool gpu) {
  return guarded([&] {
    std::set<ActivityType> activities{ActivityType::CPU};
    if (gpu) activities.insert(ActivityType::CUDA);
    const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(config, activities);
  });
}

// Ends it: writes a Chrome trace to `path` and calls `see` with every operation, in no order.
const char *hephaestus_profile_end(const char *path,
                                   void (*see)(void *to, const char *name, uint64_t begin, uint64_t duration,
                                               uint64_t thread, bool on_gpu),
                                   void *to) {
  return guarded([&] {
    const auto result = profiler::disableProfiler();
    result->save(path);
    for (const auto &event : result->events())
      see(to, event.name().c_str(), event.startNs(), event.durationNs(), event.startThreadId(),
          event.deviceType() == c10::DeviceType::CUDA);
  });
}
