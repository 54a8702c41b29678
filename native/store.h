// What groups.h calls a store.
#pragma once

#include "groups.h"

#include <torch/csrc/distributed/c10d/Store.hpp>

struct hephaestus_store {
  c10::intrusive_ptr<c10d::Store> store;
};
