// What the C interface checks on the host before it hands a descriptor to a build. The functions fail with a text that names operation, argument, expected and got.
#pragma once

#include <cinttypes>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../include/peft_kernels.h"

namespace peft_kernels_api {

// Stores the text as the thread's last error and returns the status.
__attribute__((format(printf, 2, 3))) int32_t fail(int32_t status, const char* format, ...);

// Copies a descriptor of any known size: a shorter one is extended by zeros, a longer one must be zero where this version knows nothing.
template <class Descriptor>
int32_t read_descriptor(const char* operation, const void* source, uint64_t size, Descriptor* destination) {
  if (size < sizeof(uint64_t)) {
    return fail(PK_ERROR_VERSION, "%s: the descriptor says that it has %" PRIu64 " bytes, expected %zu", operation, size, sizeof(Descriptor));
  }
  // A size that nobody set must not lead through all of memory.
  constexpr uint64_t kLargestSize = 4096;
  if (size > kLargestSize) {
    return fail(PK_ERROR_VERSION, "%s: the descriptor says that it has %" PRIu64 " bytes, expected %zu, and at most %" PRIu64 " of a later version", operation, size,
                sizeof(Descriptor), kLargestSize);
  }
  const auto* bytes = static_cast<const unsigned char*>(source);
  for (uint64_t i = sizeof(Descriptor); i < size; ++i) {
    if (bytes[i] != 0) {
      return fail(PK_ERROR_VERSION, "%s: the descriptor has %" PRIu64 " bytes with byte %" PRIu64 " in use, but this library (version %d) knows %zu", operation, size, i,
                  PK_ABI_VERSION, sizeof(Descriptor));
    }
  }
  std::memset(destination, 0, sizeof(Descriptor));
  std::memcpy(destination, source, size < sizeof(Descriptor) ? static_cast<std::size_t>(size) : sizeof(Descriptor));
  return PK_OK;
}

// Extents at least 0, expected ones where not negative, strides at least 0 with one of them 1 (or along an extent of at most 1).
int32_t check_matrix(const char* operation, const char* argument, const pk_matrix& matrix, int64_t rows, int64_t columns);

// No two elements of an output lie in the same place.
int32_t check_output(const char* operation, const char* argument, const pk_matrix& matrix);

// A pointer that is null or a multiple of what kernels load at once.
int32_t check_pointer(const char* operation, const char* argument, const void* pointer, uintptr_t alignment);

// A pointer to at least one element, aligned to it.
int32_t check_data(const char* operation, const char* argument, const pk_matrix& matrix);

// At least so many bytes, aligned.
int32_t check_workspace(const char* operation, const void* workspace, uint64_t bytes, uint64_t needed);

int32_t check_queue(const char* operation, const pk_queue* queue, pk_queue* known);
int32_t check_flags(const char* operation, uint32_t flags);

const char* element_type_name(int32_t element_type);
int64_t element_size(int32_t element_type);  // 0 for an unknown type

// f32, f16 or bf16, and adapters of the same type or f32.
int32_t check_element_types(const char* operation, int32_t element_type, int32_t adapter_element_type);

}  // namespace peft_kernels_api

#define PK_TRY_API(call)                          \
  do {                                            \
    const int32_t pk_try_status = (call);         \
    if (pk_try_status != PK_OK) return pk_try_status; \
  } while (0)

// Runs the operation in the build that the queue leads to, if it was compiled in.
#if defined(PK_WITH_EMULATOR)
#define PK_CALL_EMULATOR(call) pk_emulator_##call
#else
#define PK_CALL_EMULATOR(call) peft_kernels_api::fail(PK_ERROR_NOT_BUILT, "this library was built without the emulator")
#endif
#if defined(PK_WITH_CUDA)
#define PK_CALL_DEVICE(call) pk_device_##call
#else
#define PK_CALL_DEVICE(call) peft_kernels_api::fail(PK_ERROR_NOT_BUILT, "this library was built without CUDA")
#endif
#define PK_DISPATCH(queue, call) ((queue).kind == PK_QUEUE_CUDA ? PK_CALL_DEVICE(call) : PK_CALL_EMULATOR(call))
