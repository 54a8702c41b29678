// The few of Gloo's types that libtorch's ProcessGroupGloo.hpp names. libtorch has Gloo inside, but its distributions come
// without Gloo's headers. Nothing here is made or looked into on this side, only handed on; where Gloo's own headers lie
// beside libtorch's, build.rs takes those.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {
public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace rendezvous {

class Store {
public:
  virtual ~Store() = default;
  virtual void set(const std::string &key, const std::vector<char> &data) = 0;
  virtual std::vector<char> get(const std::string &key) = 0;
  virtual void wait(const std::vector<std::string> &keys) = 0;
  virtual void wait(const std::vector<std::string> &keys, const std::chrono::milliseconds &timeout) = 0;
};

} // namespace rendezvous

namespace transport {

class Device;
class UnboundBuffer {
public:
  virtual ~UnboundBuffer() = default;
};

} // namespace transport

} // namespace gloo
