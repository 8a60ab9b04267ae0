// How a failed call leaves its text: the thread's last error, kept once for all builds (api.cpp).
#pragma once

#include <cstdarg>
#include <cstdint>

#include "../include/peft_kernels.h"
#include "build.h"

extern "C" int32_t pk_internal_fail(int32_t status, const char* format, va_list arguments);

namespace PK_BUILD {

// Stores the text and returns the status.
__attribute__((format(printf, 2, 3))) inline int32_t fail(int32_t status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  pk_internal_fail(status, format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace PK_BUILD

// Returns from the calling function when the call failed.
#define PK_TRY(call)                          \
  do {                                        \
    const int32_t pk_try_status = (call);     \
    if (pk_try_status != PK_OK) return pk_try_status; \
  } while (0)
