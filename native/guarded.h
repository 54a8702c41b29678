// How a C function reports what C++ threw.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <string>

// Runs `body`; what it throws becomes text, which stays valid until this thread's next failure.
template <class Body> const char *guarded(Body body) {
  thread_local std::string message;
  try {
    body();
    return nullptr;
  } catch (const c10::Error &error) {
    message = error.what_without_backtrace();
  } catch (const std::exception &error) {
    message = error.what();
  }
  return message.c_str();
}
