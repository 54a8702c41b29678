// streams.h, by libtorch's streams, events and graphs of CUDA.
#include "streams.h"
#include "guarded.h"

#include <ATen/ATen.h>

#ifdef HEPHAESTUS_KERNELS
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <optional>

struct hephaestus_graph {
  at::cuda::CUDAGraph graph;
  c10::DeviceIndex device;
  // While it is recorded.
  std::optional<c10::cuda::CUDAStreamGuard> recording;
};

namespace {

// The stream on which copies to a device go, beside the one that computes.
c10::cuda::CUDAStream copies(c10::DeviceIndex device) {
  thread_local std::optional<c10::cuda::CUDAStream> stream;
  if (!stream || stream->device_index() != device) stream = c10::cuda::getStreamFromPool(false, device);
  return *stream;
}

// Graphs share their memory: none of what one leaves in it is read after another has run, but what is held.
c10::MempoolId_t pool() {
  static const auto id = at::cuda::graph_pool_handle();
  return id;
}

} // namespace

// A copy of x, which lies on the CPU, on a device: through pinned memory, beside whatever the device computes. What is
// computed from now on waits for it; the host does not.
const char *hephaestus_send(const at::Tensor *x, int device, at::Tensor **sent) {
  return guarded([&] {
    TORCH_CHECK(x->is_cpu(), "a tensor on ", x->device(), ", expected the CPU");
    const auto index = static_cast<c10::DeviceIndex>(device);
    const c10::cuda::CUDAGuard guard(index);
    const auto computing = c10::cuda::getCurrentCUDAStream(index), copying = copies(index);
    at::Tensor there;
    at::cuda::CUDAEvent done;
    {
      const c10::cuda::CUDAStreamGuard on(copying);
      there = x->pin_memory().to(at::Device(at::kCUDA, index), /*non_blocking=*/true);
      done.record(copying);
    }
    done.block(computing);
    there.record_stream(computing);
    *sent = new at::Tensor(std::move(there));
  });
}

// Begins to record what this thread computes on a device, on a stream of its own; nothing is computed meanwhile.
const char *hephaestus_graph_begin(int device, hephaestus_graph **graph) {
  return guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    const c10::cuda::CUDAGuard guard(index);
    auto made = std::make_unique<hephaestus_graph>();
    made->device = index;
    c10::cuda::device_synchronize();
    // What plain micro-batches left cached is of no use to the recording, which has memory of its own.
    c10::cuda::CUDACachingAllocator::emptyCache();
    made->recording.emplace(c10::cuda::getStreamFromPool(false, index));
    made->graph.capture_begin(pool(), cudaStreamCaptureModeThreadLocal);
    *graph = made.release();
  });
}

const char *hephaestus_graph_end(hephaestus_graph *graph) {
  return guarded([&] {
    const c10::cuda::CUDAGuard guard(graph->device);
    graph->graph.capture_end();
    graph->recording.reset();
  });
}

// Computes what was recorded, on the current stream, where it was recorded: it reads and writes the same memory.
const char *hephaestus_graph_replay(hephaestus_graph *graph) {
  return guarded([&] { graph->graph.replay(); });
}

// Also in the middle of recording, when that failed.
void hephaestus_graph_drop(hephaestus_graph *graph) {
  const c10::cuda::CUDAGuard guard(graph->device);
  if (graph->recording) guarded([&] { graph->graph.capture_end(); });
  graph->recording.reset();
  delete graph;
}

// Makes libtorch throw wherever the host would wait for a GPU, or not any more.
const char *hephaestus_forbid_waiting(bool forbid) {
  return guarded([&] {
    c10::cuda::warning_state().set_sync_debug_mode(forbid ? c10::cuda::SyncDebugMode::L_ERROR
                                                          : c10::cuda::SyncDebugMode::L_DISABLED);
  });
}

#else

namespace {

const char *none() {
  return guarded([] { TORCH_CHECK(false, "built without CUDA: build where nvcc is (CUDA_HOME)"); });
}

} // namespace

struct hephaestus_graph {};
const char *hephaestus_send(const at::Tensor *x, int device, at::Tensor **sent) {
  return guarded([&] { *sent = new at::Tensor(x->to(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)))); });
}
const char *hephaestus_graph_begin(int, hephaestus_graph **) { return none(); }
const char *hephaestus_graph_end(hephaestus_graph *) { return none(); }
const char *hephaestus_graph_replay(hephaestus_graph *) { return none(); }
void hephaestus_graph_drop(hephaestus_graph *graph) { delete graph; }
const char *hephaestus_forbid_waiting(bool) { return none(); }

#endif
