// The text of this thread's last failed call.
#include <cstdarg>
#include <cstdint>
#include <cstdio>

namespace {
thread_local char text[4096];
}

extern "C" int32_t pk_internal_fail(int32_t status, const char* format, va_list arguments) {
  std::vsnprintf(text, sizeof text, format, arguments);
  return status;
}

extern "C" const char* emulator_test_last_error() { return text; }
