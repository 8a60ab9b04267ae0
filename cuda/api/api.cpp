// The C interface's functions about the library itself, and the thread's last error.
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "../core/operations.h"
#include "check.h"

namespace {

thread_local std::string last_error;

int32_t store(int32_t status, const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, arguments);
  last_error.assign(length > 0 ? static_cast<std::size_t>(length) : 0, '\0');
  if (length > 0) std::vsnprintf(&last_error[0], last_error.size() + 1, format, again);
  va_end(again);
  return status;
}

}  // namespace

namespace peft_kernels_api {

int32_t fail(int32_t status, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  store(status, format, arguments);
  va_end(arguments);
  return status;
}

}  // namespace peft_kernels_api

using namespace peft_kernels_api;

extern "C" {

// For the builds, which keep no state of their own that the other could see.
int32_t pk_internal_fail(int32_t status, const char* format, va_list arguments) { return store(status, format, arguments); }

int32_t pk_abi_version(void) { return PK_ABI_VERSION; }

int32_t pk_has_queue(int32_t kind) {
#if defined(PK_WITH_EMULATOR)
  if (kind == PK_QUEUE_EMULATOR) return 1;
#endif
#if defined(PK_WITH_CUDA)
  if (kind == PK_QUEUE_CUDA) return 1;
#endif
  static_cast<void>(kind);
  return 0;
}

int32_t pk_device_count(int32_t* count) {
  if (count == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_device_count: count is null");
  return PK_CALL_DEVICE(device_count(count));
}

int32_t pk_queue_chip(const pk_queue* queue, pk_chip* chip) {
  pk_queue known;
  PK_TRY_API(check_queue("pk_queue_chip", queue, &known));
  if (chip == nullptr || chip->size < sizeof(pk_chip)) return fail(PK_ERROR_VERSION, "pk_queue_chip: chip is null or of fewer than %zu bytes", sizeof(pk_chip));
  return PK_DISPATCH(known, queue_chip(&known, chip));
}

int32_t pk_prepare(const pk_queue* queue) {
  pk_queue known;
  PK_TRY_API(check_queue("pk_prepare", queue, &known));
  return PK_DISPATCH(known, prepare(&known));
}

int32_t pk_status_read(const pk_queue* queue, const pk_status_record* status, pk_status_record* host) {
  pk_queue known;
  PK_TRY_API(check_queue("pk_status_read", queue, &known));
  if (status == nullptr || host == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_status_read: a null pointer");
  return PK_DISPATCH(known, status_read(&known, status, host));
}

uint64_t pk_last_error(char* buffer, uint64_t size) {
  if (buffer != nullptr && size > 0) {
    const std::size_t count = std::min<std::size_t>(last_error.size(), static_cast<std::size_t>(size - 1));
    last_error.copy(buffer, count);
    buffer[count] = '\0';
  }
  return last_error.size();
}

}  // extern "C"
