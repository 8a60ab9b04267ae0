#include "check.h"

#include <algorithm>

namespace peft_kernels_api {

const char* element_type_name(int32_t element_type) {
  switch (element_type) {
    case PK_F32: return "f32";
    case PK_F16: return "f16";
    case PK_BF16: return "bf16";
    case PK_F64: return "f64";
    default: return "unknown";
  }
}

int64_t element_size(int32_t element_type) {
  switch (element_type) {
    case PK_F16:
    case PK_BF16: return 2;
    case PK_F32: return 4;
    case PK_F64: return 8;
    default: return 0;
  }
}

int32_t check_matrix(const char* operation, const char* argument, const pk_matrix& matrix, int64_t rows, int64_t columns) {
  if (matrix.rows < 0 || matrix.columns < 0 || (rows >= 0 && matrix.rows != rows) || (columns >= 0 && matrix.columns != columns)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %s is [%" PRId64 ", %" PRId64 "], expected [%" PRId64 ", %" PRId64 "]", operation, argument, matrix.rows, matrix.columns,
                rows >= 0 ? rows : (matrix.rows < 0 ? 0 : matrix.rows), columns >= 0 ? columns : (matrix.columns < 0 ? 0 : matrix.columns));
  }
  // What is beyond it is a mistake, and would overflow offsets.
  constexpr int64_t kLargest = INT64_C(1) << 48;
  if (std::max({matrix.rows, matrix.columns, matrix.row_stride, matrix.column_stride, matrix.batch_stride}) > kLargest) {
    return fail(PK_ERROR_ARGUMENT, "%s: %s is [%" PRId64 ", %" PRId64 "] with strides %" PRId64 " and %" PRId64 " and batch stride %" PRId64 ", expected at most 2^48 each", operation, argument,
                matrix.rows, matrix.columns, matrix.row_stride, matrix.column_stride, matrix.batch_stride);
  }
  const bool contiguous = matrix.row_stride == 1 || matrix.column_stride == 1 || matrix.rows <= 1 || matrix.columns <= 1;
  if (matrix.row_stride < 0 || matrix.column_stride < 0 || matrix.batch_stride < 0 || !contiguous) {
    return fail(PK_ERROR_ARGUMENT, "%s: %s has row stride %" PRId64 ", column stride %" PRId64 " and batch stride %" PRId64 ", expected none below 0 and one of the first two to be 1", operation,
                argument, matrix.row_stride, matrix.column_stride, matrix.batch_stride);
  }
  return PK_OK;
}

int32_t check_output(const char* operation, const char* argument, const pk_matrix& matrix) {
  if (matrix.rows == 0 || matrix.columns == 0) return PK_OK;
  const bool rows_lie_apart = matrix.rows <= 1 || (matrix.column_stride == 1 || matrix.columns <= 1 ? matrix.row_stride >= matrix.columns : matrix.row_stride == 1);
  const bool columns_lie_apart = matrix.columns <= 1 || (matrix.row_stride == 1 && matrix.rows > 1 && matrix.column_stride != 1 ? matrix.column_stride >= matrix.rows : matrix.column_stride >= 1);
  if (rows_lie_apart && columns_lie_apart) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: %s is [%" PRId64 ", %" PRId64 "] with row stride %" PRId64 " and column stride %" PRId64 ", expected every element in a place of its own", operation,
              argument, matrix.rows, matrix.columns, matrix.row_stride, matrix.column_stride);
}

int32_t check_pointer(const char* operation, const char* argument, const void* pointer, uintptr_t alignment) {
  if (reinterpret_cast<uintptr_t>(pointer) % alignment == 0) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: %s is at address %p, expected a multiple of %zu", operation, argument, pointer, static_cast<size_t>(alignment));
}

int32_t check_data(const char* operation, const char* argument, const pk_matrix& matrix) {
  if (matrix.rows == 0 || matrix.columns == 0) return PK_OK;
  const auto address = reinterpret_cast<uintptr_t>(matrix.data);
  const int64_t size = element_size(matrix.element_type);
  if (size == 0) return fail(PK_ERROR_ELEMENT_TYPE, "%s: %s has element type %d (unknown)", operation, argument, matrix.element_type);
  if (matrix.data == nullptr || address % static_cast<uintptr_t>(size) != 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: %s is at address %p, expected a multiple of %" PRId64 " that is not null", operation, argument, matrix.data, size);
  }
  return PK_OK;
}

int32_t check_workspace(const char* operation, const void* workspace, uint64_t bytes, uint64_t needed) {
  if (bytes < needed || (needed > 0 && workspace == nullptr)) {
    return fail(PK_ERROR_WORKSPACE, "%s: the workspace has %" PRIu64 " bytes at %p, expected %" PRIu64, operation, bytes, workspace, needed);
  }
  if (needed == 0 || reinterpret_cast<uintptr_t>(workspace) % PK_WORKSPACE_ALIGNMENT == 0) return PK_OK;
  return fail(PK_ERROR_WORKSPACE, "%s: the workspace is at %p, expected a multiple of %d", operation, workspace, PK_WORKSPACE_ALIGNMENT);
}

int32_t check_queue(const char* operation, const pk_queue* queue, pk_queue* known) {
  if (queue == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the queue is null", operation);
  PK_TRY_API(read_descriptor(operation, queue, queue->size, known));
  if (known->kind != PK_QUEUE_EMULATOR && known->kind != PK_QUEUE_CUDA) {
    return fail(PK_ERROR_ARGUMENT, "%s: the queue's kind is %d, expected %d (emulator) or %d (CUDA)", operation, known->kind, PK_QUEUE_EMULATOR, PK_QUEUE_CUDA);
  }
  return PK_OK;
}

int32_t check_flags(const char* operation, uint32_t flags) {
  const uint32_t known = PK_FLAG_ALLOW_TF32 | PK_FLAG_ALLOW_ATOMICS | PK_FLAG_BATCH_INVARIANT;
  if ((flags & ~known) != 0) return fail(PK_ERROR_ARGUMENT, "%s: flags are %#x, expected a subset of %#x", operation, flags, known);
  return PK_OK;
}

int32_t check_element_types(const char* operation, int32_t element_type, int32_t adapter_element_type) {
  if (element_type != PK_F32 && element_type != PK_F16 && element_type != PK_BF16) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: element type %d (%s), expected f32, f16 or bf16", operation, element_type, element_type_name(element_type));
  }
  if (adapter_element_type != element_type && adapter_element_type != PK_F32) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: adapters of element type %d (%s), expected %s or f32", operation, adapter_element_type, element_type_name(adapter_element_type),
                element_type_name(element_type));
  }
  return PK_OK;
}

}  // namespace peft_kernels_api
