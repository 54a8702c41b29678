// groups.h: groups, by c10d's own backends: Gloo between CPUs, NCCL between GPUs. Beyond the making of a group nothing here
// depends on which it is, but that Gloo has no mean.
#define USE_DISTRIBUTED
#define USE_C10D_GLOO
#ifdef HEPHAESTUS_NCCL
#define USE_C10D_NCCL
#endif

#include "groups.h"
#include "guarded.h"
#include "store.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef HEPHAESTUS_NCCL
#include <torch/csrc/cuda/nccl.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <chrono>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

using Pending = c10::intrusive_ptr<c10d::Work>;

struct hephaestus_group {
  c10::intrusive_ptr<c10d::Backend> backend;
  at::Device device;
  // Collectives of a group are one sequence, the same on all ranks; held while one is begun.
  std::mutex sequence;
};

// What a group's backend has found out by itself. Keeps no group.
struct hephaestus_health {
  c10::weak_intrusive_ptr<c10d::Backend> backend;
};

struct hephaestus_work {
  std::vector<Pending> pending;
  at::Device device;
};

namespace {

using Tensors = std::vector<at::Tensor>;

void describe(c10d::Backend::Options &options, const hephaestus_membership &membership) {
  options.timeout = std::chrono::milliseconds(membership.timeout_ms);
  options.group_name = membership.prefix;
  options.group_desc = membership.name;
  options.global_ranks_in_group.assign(membership.members, membership.members + membership.size);
}

c10::intrusive_ptr<c10d::Backend> between_cpus(const c10::intrusive_ptr<c10d::Store> &store,
                                               const hephaestus_membership &membership) {
  auto options = c10d::ProcessGroupGloo::Options::create_default(std::chrono::milliseconds(membership.timeout_ms));
  describe(*options, membership);
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, membership.rank, membership.size, std::move(options));
}

#ifdef HEPHAESTUS_NCCL

// A setting that NCCL's backend reads from the environment, unless the user has set it under any of its names.
void by_default(const char *name, const char *value, const char *other_name) {
  if (std::getenv(other_name) == nullptr) setenv(name, value, /*overwrite=*/0);
}

c10::intrusive_ptr<c10d::Backend> between_gpus(const c10::intrusive_ptr<c10d::Store> &store,
                                               const hephaestus_membership &membership, at::Device device) {
  static std::once_flag once;
  std::call_once(once, [] {
    // A collective that fails or never ends takes the process down; before that, what the last ones were is written.
    by_default("TORCH_NCCL_ASYNC_ERROR_HANDLING", "3", "NCCL_ASYNC_ERROR_HANDLING");
    by_default("TORCH_FR_BUFFER_SIZE", "2000", "TORCH_NCCL_TRACE_BUFFER_SIZE");
    by_default("TORCH_NCCL_TRACE_BUFFER_SIZE", "2000", "TORCH_FR_BUFFER_SIZE");
    by_default("TORCH_NCCL_DUMP_ON_TIMEOUT", "1", "TORCH_NCCL_DUMP_ON_TIMEOUT");
  });
  // Options hold NCCL's configuration by value: it must be as large here as where libtorch was compiled.
  const auto theirs = torch::cuda::nccl::version(), major = theirs >> 32, minor = theirs >> 16 & 0xffff;
  TORCH_CHECK(major == NCCL_MAJOR && minor == NCCL_MINOR, "built with the nccl.h of NCCL ", NCCL_MAJOR, ".", NCCL_MINOR,
              ", and libtorch is of NCCL ", major, ".", minor, ": build again beside this libtorch");
  auto options = c10d::ProcessGroupNCCL::Options::create();
  describe(*options, membership);
  auto made = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, membership.rank, membership.size, std::move(options));
  made->setBoundDeviceId(device);
  return made;
}

#else

c10::intrusive_ptr<c10d::Backend> between_gpus(const c10::intrusive_ptr<c10d::Store> &, const hephaestus_membership &,
                                               at::Device) {
  TORCH_CHECK(false, "built without NCCL: build where a CUDA libtorch, nvcc and nccl.h are");
}

#endif

c10d::ReduceOp reduction(const c10d::Backend &backend, int op) {
  constexpr c10d::ReduceOp::RedOpType OPS[] = {c10d::ReduceOp::SUM, c10d::ReduceOp::AVG, c10d::ReduceOp::MIN,
                                               c10d::ReduceOp::MAX};
  // Gloo itself says so only where the work is waited for.
  TORCH_CHECK(OPS[op] != c10d::ReduceOp::AVG || backend.getBackendName() != c10d::GLOO_BACKEND_NAME,
              "Gloo has no mean: divide the sum");
  return OPS[op];
}

// Backends read and write what lies between the first element and the last, whatever the strides say. Where they write no
// version is counted, as in PyTorch's FSDP: a graph that has saved a weight finds it again when that is gathered again.
Tensors list(const hephaestus_group &group, at::Tensor *const *tensors, size_t count) {
  Tensors out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const auto &x = *tensors[i];
    TORCH_CHECK(x.device() == group.device, "a tensor on ", x.device(), " in a group on ", group.device);
    TORCH_CHECK(x.is_contiguous(), "a tensor of strides ", x.strides(), ", expected a contiguous one");
    TORCH_CHECK(x.scalar_type() == tensors[0]->scalar_type(), "tensors of ", tensors[0]->scalar_type(), " and ",
                x.scalar_type(), " in one collective");
    out.push_back(x.variable_data());
  }
  TORCH_CHECK(count > 0, "no tensors");
  return out;
}

// Of each pair the larger is `size` times the smaller; what shapes they have is all the same, of which Gloo has other ideas.
void check_pairs(Tensors &larger, Tensors &smaller, int size) {
  for (size_t i = 0; i < larger.size(); ++i) {
    TORCH_CHECK(larger[i].scalar_type() == smaller[i].scalar_type(), "tensors of ", larger[i].scalar_type(), " and ",
                smaller[i].scalar_type(), " in one collective");
    TORCH_CHECK(larger[i].numel() == smaller[i].numel() * size, "tensors of ", larger[i].numel(), " and ",
                smaller[i].numel(), " elements, expected ", size, " times as many in the one as in the other");
    larger[i] = larger[i].view(-1);
    smaller[i] = smaller[i].view(-1);
  }
}

// Begins what `body` does, next in the group's sequence and without recording gradients.
template <class Body> const char *begun(hephaestus_group *group, hephaestus_work **work, Body body) {
  return guarded([&] {
    const c10::NoGradGuard no_grad;
    const c10::DeviceGuard guard(group->device);
    auto made = std::make_unique<hephaestus_work>(hephaestus_work{{}, group->device});
    {
      const std::lock_guard<std::mutex> lock(group->sequence);
      body(made->pending);
    }
    *work = made.release();
  });
}

} // namespace

bool hephaestus_has_nccl() {
#ifdef HEPHAESTUS_NCCL
  return true;
#else
  return false;
#endif
}

// Returns when all members have opened it.
const char *hephaestus_group_open(hephaestus_store *store, const hephaestus_membership *membership,
                                  hephaestus_group **group) {
  return guarded([&] {
    const bool cpu = membership->device < 0;
    const auto index = static_cast<c10::DeviceIndex>(membership->device);
    const auto device = cpu ? at::Device(at::kCPU) : at::Device(at::kCUDA, index);
    const c10::DeviceGuard guard(device);
    auto keys = c10::make_intrusive<c10d::PrefixStore>(membership->prefix, store->store);
    keys->setTimeout(std::chrono::milliseconds(membership->timeout_ms));
    auto backend = cpu ? between_cpus(keys, *membership) : between_gpus(keys, *membership, device);
    backend->setGroupUid(membership->prefix);
    backend->setGroupDesc(membership->name);
    backend->setSequenceNumberForGroup();
    // Connects now, not in the first collective, where the backend does not do so by itself.
    backend->eagerConnectSingleDevice(device);
    *group = new hephaestus_group{std::move(backend), device, {}};
  });
}

// Ends it when everything begun in it has ended.
const char *hephaestus_group_close(hephaestus_group *group) {
  return guarded([&] {
    const std::unique_ptr<hephaestus_group> owned(group);
    owned->backend->shutdown();
  });
}

// Gives it up with whatever is under way in it, without waiting for anything: the process is about to end. Gloo's threads
// wait for others who may wait for this process, so they are left behind. NCCL's abort would itself wait for the GPU, and
// groups aborted one by one for each other: its connections close with the process.
void hephaestus_group_abandon(hephaestus_group *group) {
  if (group->device.is_cpu()) guarded([&] { group->backend->abort(); });
  group->backend.release();
  delete group;
}

hephaestus_health *hephaestus_group_health(const hephaestus_group *group) {
  return new hephaestus_health{c10::weak_intrusive_ptr<c10d::Backend>(group->backend)};
}

// 0 where nothing is known, else c10d's `ErrorType`: 1 a collective that did not end in time, 2 one that failed, 3 another
// rank's. Of NCCL's backend, whose own thread finds it out some time before it ends the process; Gloo tells who waits.
int hephaestus_health_error(const hephaestus_health *health) {
  const auto backend = health->backend.lock();
  if (!backend || backend->getBackendName() == c10d::GLOO_BACKEND_NAME) return 0;
  return static_cast<int>(backend->getError());
}

void hephaestus_health_drop(hephaestus_health *health) { delete health; }

const char *hephaestus_all_reduce(hephaestus_group *group, at::Tensor *const *tensors, size_t count, int op,
                                  hephaestus_work **work) {
  return begun(group, work, [&](std::vector<Pending> &pending) {
    auto all = list(*group, tensors, count);
    auto &backend = *group->backend;
    c10d::AllreduceCoalescedOptions options;
    options.reduceOp = reduction(backend, op);
    pending.push_back(count == 1 ? backend.allreduce(all, options) : backend.allreduce_coalesced(all, options));
  });
}

// Each rank gets its part of the reduced inputs, rank by rank.
const char *hephaestus_reduce_scatter(hephaestus_group *group, at::Tensor *const *outputs, at::Tensor *const *inputs,
                                      size_t count, int op, hephaestus_work **work) {
  return begun(group, work, [&](std::vector<Pending> &pending) {
    auto to = list(*group, outputs, count), from = list(*group, inputs, count);
    auto &backend = *group->backend;
    check_pairs(from, to, backend.getSize());
    c10d::ReduceScatterOptions options;
    options.reduceOp = reduction(backend, op);
    pending.push_back(count == 1 ? backend._reduce_scatter_base(to[0], from[0], options)
                                 : backend.reduce_scatter_tensor_coalesced(to, from, options));
  });
}

// Each rank gets the inputs of all, rank by rank.
const char *hephaestus_all_gather(hephaestus_group *group, at::Tensor *const *outputs, at::Tensor *const *inputs,
                                  size_t count, hephaestus_work **work) {
  return begun(group, work, [&](std::vector<Pending> &pending) {
    auto to = list(*group, outputs, count), from = list(*group, inputs, count);
    auto &backend = *group->backend;
    check_pairs(to, from, backend.getSize());
    pending.push_back(count == 1 ? backend._allgather_base(to[0], from[0])
                                 : backend.allgather_into_tensor_coalesced(to, from));
  });
}

// All ranks get what `root`, a rank of the group, has.
const char *hephaestus_broadcast(hephaestus_group *group, at::Tensor *const *tensors, size_t count, int root,
                                 hephaestus_work **work) {
  return begun(group, work, [&](std::vector<Pending> &pending) {
    auto all = list(*group, tensors, count);
    auto &backend = *group->backend;
    TORCH_CHECK(root >= 0 && root < backend.getSize(), "rank ", root, " of ", backend.getSize(), " is to broadcast");
    c10d::BroadcastOptions options;
    options.rootRank = root;
    const bool together = count > 1 && backend.supportsCoalescing();
    if (together) backend.startCoalescing();
    for (auto &x : all) {
      Tensors one{x};
      auto begun = backend.broadcast(one, options);
      if (!together) pending.push_back(std::move(begun));
    }
    if (together) pending.push_back(backend.endCoalescing());
  });
}

const char *hephaestus_barrier(hephaestus_group *group, hephaestus_work **work) {
  return begun(group, work, [&](std::vector<Pending> &pending) {
    c10d::BarrierOptions options;
    options.device = group->device;
    if (group->device.is_cuda()) options.device_ids = {group->device.index()};
    pending.push_back(group->backend->barrier(options));
  });
}

// On the CPU, waits for it. On a CUDA device only the current stream will wait, but in a barrier, which is for the host.
const char *hephaestus_work_wait(hephaestus_work *work) {
  return guarded([&] {
    const c10::NoGradGuard no_grad;
    const c10::DeviceGuard guard(work->device);
    for (const auto &pending : work->pending) {
      TORCH_CHECK(pending->wait(), "it was aborted");
    }
  });
}

void hephaestus_work_drop(hephaestus_work *work) { delete work; }
