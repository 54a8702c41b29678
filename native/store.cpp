// groups.h: the store, over TCP. One process serves it, which is not always one of ours: torchrun brings its own.
#include "store.h"
#include "guarded.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

using std::chrono::milliseconds;

// Does not wait for the others; `timeout_ms` is how long it takes at most to reach the server, and for any key to appear.
const char *hephaestus_store_open(const char *host, uint16_t port, bool serves, int64_t timeout_ms,
                                  hephaestus_store **store) {
  return guarded([&] {
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
