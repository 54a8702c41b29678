// groups.h: the store, over TCP. One process serves it, which is not always one of ours: torchrun brings its own.
#include "store.h"
#include "guarded.h"

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

using std::chrono::milliseconds;

namespace {

// Where a peer is gone, c10d throws, and besides logs a warning with a stack: the error is told by who catches it.
void warn_of_nothing() {
  constexpr int ERRORS = 2;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr && FLAGS_caffe2_log_level < ERRORS) FLAGS_caffe2_log_level = ERRORS;
}

} // namespace

// Does not wait for the others; `timeout_ms` is how long it takes at most to reach the server, and for any key to appear.
const char *hephaestus_store_open(const char *host, uint16_t port, bool serves, int64_t timeout_ms,
                                  hephaestus_store **store) {
  return guarded([&] {
    warn_of_nothing();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    auto made = std::make_unique<hephaestus_store>();
    made->store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *store = made.release();
  });
}

// The same store once more, which is served for as long as one of them is kept.
const char *hephaestus_store_share(hephaestus_store *store, hephaestus_store **shared) {
  return guarded([&] { *shared = std::make_unique<hephaestus_store>(*store).release(); });
}

void hephaestus_store_drop(hephaestus_store *store) { delete store; }

const char *hephaestus_store_set(hephaestus_store *store, const char *key, const char *value) {
  return guarded([&] { store->store->set(key, std::string(value)); });
}

// Waits until there is such a key and shows its value.
const char *hephaestus_store_get(hephaestus_store *store, const char *key, int64_t timeout_ms,
                                 void (*see)(void *to, const char *value, size_t length), void *to) {
  return guarded([&] {
    store->store->wait({key}, milliseconds(timeout_ms));
    const auto value = store->store->get(key);
    see(to, reinterpret_cast<const char *>(value.data()), value.size());
  });
}

const char *hephaestus_store_has(hephaestus_store *store, const char *key, bool *has) {
  return guarded([&] { *has = store->store->check({key}); });
}

const char *hephaestus_store_delete(hephaestus_store *store, const char *key) {
  return guarded([&] { store->store->deleteKey(key); });
}

// Adds to the number that a key holds, none being 0, and shows the sum: no two who add at once see the same.
const char *hephaestus_store_add(hephaestus_store *store, const char *key, int64_t number, int64_t *sum) {
  return guarded([&] { *sum = store->store->add(key, number); });
}
