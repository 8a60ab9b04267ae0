// Tables of adapters that rows choose from: what is checked of them.
#include "lora_tables.h"

#include <algorithm>

#include "check.h"

namespace peft_kernels_api {
namespace {

bool makes_gradients(const pk_lora_gradient_target& target) { return target.a_gradient != PK_GRADIENT_NONE || target.b_gradient != PK_GRADIENT_NONE; }

}  // namespace

int32_t check_row_choice(const char* operation, const int32_t* row_adapter, const pk_lora_segment* segments) {
  if (row_adapter != nullptr && segments != nullptr) return fail(PK_ERROR_ARGUMENT, "%s: both row_adapter and segments are given, expected at most one", operation);
  return PK_OK;
}

int32_t check_table(const char* operation, const pk_lora_adapter* adapters, int64_t count, int64_t max_rank, int64_t rank, bool by_row) {
  const bool one = adapters == nullptr;
  if (one && by_row && rank != 0) return fail(PK_ERROR_ARGUMENT, "%s: row_adapter or segments choose from a table, but a target has no table", operation);
  if (!one && !by_row) return fail(PK_ERROR_ARGUMENT, "%s: a target has a table of adapters, but neither row_adapter nor segments chooses from it", operation);
  if (!one && (count < 0 || max_rank < 0 || max_rank > INT32_MAX)) {
    return fail(PK_ERROR_ARGUMENT, "%s: a table of %" PRId64 " adapters of rank at most %" PRId64 ", expected neither below 0", operation, count, max_rank);
  }
  return PK_OK;
}

int32_t read_table(const char* operation, const pk_lora_backward_descriptor& descriptor, bool needs_data, pk_lora_gradient_target* target) {
  if (target->adapters == nullptr) return PK_OK;
  if (target->middle.has != 0) return fail(PK_ERROR_ARGUMENT, "%s: a target has both a table of adapters and a middle, expected at most one", operation);
  const int64_t count = target->adapter_count, rank = target->max_rank, k = descriptor.x.columns, n = target->dy.columns;
  if (count > INT32_MAX || static_cast<double>(count) * static_cast<double>(std::max(k, n)) * static_cast<double>(std::max<int64_t>(rank, 1)) > static_cast<double>(INT64_C(1) << 52)) {
    return fail(PK_ERROR_ARGUMENT, "%s: a table of %" PRId64 " adapters of rank at most %" PRId64 ", expected less than 2^31 of them, and gradients of at most 2^52 elements", operation, count, rank);
  }
  PK_TRY_API(check_pointer(operation, "adapters", target->adapters, alignof(pk_lora_adapter)));
  PK_TRY_API(check_pointer(operation, "gradients", target->gradients, alignof(pk_lora_adapter_gradient)));
  if (needs_data && count > 0 && makes_gradients(*target) && target->gradients == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: gradients is null", operation);
  target->a = {nullptr, rank, k, 0, 1, 0, target->adapter_element_type, 0};
  target->b = {nullptr, n, rank, 0, 1, 0, target->adapter_element_type, 0};
  target->da = target->db = pk_matrix{};
  return PK_OK;
}

void add_row_choice(Operands& operands, const int32_t* row_adapter, const pk_lora_segment* segments, int64_t segment_count, int64_t rows) {
  if (row_adapter != nullptr) operands.input_bytes("row_adapter", row_adapter, static_cast<uint64_t>(rows) * sizeof(int32_t));
  operands.input_bytes("segments", segments, static_cast<uint64_t>(segment_count) * sizeof(pk_lora_segment));
}

void add_tables(Operands& operands, const pk_lora_gradient_target& target) {
  const auto count = static_cast<uint64_t>(target.adapter_count);
  operands.input_bytes("adapters", target.adapters, count * sizeof(pk_lora_adapter));
  if (makes_gradients(target)) operands.input_bytes("gradients", target.gradients, count * sizeof(pk_lora_adapter_gradient));
}

}  // namespace peft_kernels_api
