// Processes that work together, by libtorch's c10d: a store that all of them reach, groups of them, and what a group does
// together.
//
// Collectives are asynchronous: each returns work to be waited on. c10d itself keeps the tensors of a collective until that
// has ended, waited on or not.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

extern "C" {
struct hephaestus_store;
const char *hephaestus_store_open(const char *host, uint16_t port, bool serves, int64_t timeout_ms,
                                  hephaestus_store **store);
const char *hephaestus_store_share(hephaestus_store *store, hephaestus_store **shared);
void hephaestus_store_drop(hephaestus_store *store);
const char *hephaestus_store_set(hephaestus_store *store, const char *key, const char *value);
const char *hephaestus_store_get(hephaestus_store *store, const char *key, int64_t timeout_ms,
                                 void (*see)(void *to, const char *value, size_t length), void *to);
const char *hephaestus_store_has(hephaestus_store *store, const char *key, bool *has);
const char *hephaestus_store_delete(hephaestus_store *store, const char *key);
const char *hephaestus_store_add(hephaestus_store *store, const char *key, int64_t number, int64_t *sum);

struct hephaestus_group;
struct hephaestus_work;
// A group as one of its members sees it.
struct hephaestus_membership {
  // What its keys in the store begin with: nobody else's.
  const char *prefix;
  // What debuggers call it.
  const char *name;
  // The rank of this process in it.
  int rank;
  // Its members by their ranks among all processes, in the order of their ranks in it.
  const uint64_t *members;
  int size;
  // The CUDA device of its tensors; below 0, the CPU.
  int device;
  int64_t timeout_ms;
};
bool hephaestus_has_nccl();
const char *hephaestus_group_open(hephaestus_store *store, const hephaestus_membership *membership,
                                  hephaestus_group **group);
const char *hephaestus_group_close(hephaestus_group *group);
void hephaestus_group_abandon(hephaestus_group *group);

struct hephaestus_health;
hephaestus_health *hephaestus_group_health(const hephaestus_group *group);
int hephaestus_health_error(const hephaestus_health *health);
void hephaestus_health_drop(hephaestus_health *health);

// `op` is 0 for the sum, 1 the mean, 2 the least, 3 the greatest.
const char *hephaestus_all_reduce(hephaestus_group *group, at::Tensor *const *tensors, size_t count, int op,
                                  hephaestus_work **work);
const char *hephaestus_reduce_scatter(hephaestus_group *group, at::Tensor *const *outputs, at::Tensor *const *inputs,
                                      size_t count, int op, hephaestus_work **work);
const char *hephaestus_all_gather(hephaestus_group *group, at::Tensor *const *outputs, at::Tensor *const *inputs,
                                  size_t count, hephaestus_work **work);
const char *hephaestus_broadcast(hephaestus_group *group, at::Tensor *const *tensors, size_t count, int root,
                                 hephaestus_work **work);
const char *hephaestus_barrier(hephaestus_group *group, hephaestus_work **work);
const char *hephaestus_work_wait(hephaestus_work *work);
void hephaestus_work_drop(hephaestus_work *work);
}
