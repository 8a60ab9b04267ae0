// The C interface of the row norms: checks, workspace, choice of kernel, dispatch.
#include <cmath>

#include "../core/operations.h"
#include "../lora/algorithms.h"
#include "adapters.h"
#include "check.h"

using namespace peft_kernels_api;

namespace {

using Descriptor = pk_lora_weight_norm_descriptor;

int64_t chunks_of(const Descriptor& descriptor) { return (descriptor.w.columns + kLoraNormColumns - 1) / kLoraNormColumns; }

uint64_t workspace_bytes(const Descriptor& descriptor) { return static_cast<uint64_t>(chunks_of(descriptor) * descriptor.w.rows) * sizeof(float); }

AdapterList adapter_list(const Descriptor& descriptor) {
  return {descriptor.adapters, descriptor.adapter_count, descriptor.adapter_element_type, descriptor.w.rows, descriptor.w.columns};
}

int32_t read(const char* operation, const Descriptor* given, bool needs_data, Descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  const pk_matrix& w = descriptor->w;
  PK_TRY_API(check_element_types(operation, w.element_type, descriptor->adapter_element_type));
  PK_TRY_API(check_matrix(operation, "w", w, -1, -1));
  const double blocks = std::ceil(static_cast<double>(w.rows) / kLoraMergeRows) * static_cast<double>(chunks_of(*descriptor));
  if (blocks > INT32_MAX || w.rows > INT32_MAX) {
    return fail(PK_ERROR_ARGUMENT, "%s: w is [%" PRId64 ", %" PRId64 "], expected less than 2^31 rows and parts of %d by %d", operation, w.rows, w.columns, kLoraMergeRows, kLoraNormColumns);
  }
  if (!(descriptor->eps >= 0.0f) || std::isinf(descriptor->eps)) {
    return fail(PK_ERROR_ARGUMENT, "%s: eps is %g, expected a number that is at least 0", operation, static_cast<double>(descriptor->eps));
  }
  if (descriptor->norm_count != w.rows) return fail(PK_ERROR_ARGUMENT, "%s: norm_count is %" PRId64 ", expected %" PRId64, operation, descriptor->norm_count, w.rows);
  PK_TRY_API(adapter_list(*descriptor).check(operation, needs_data));
  PK_TRY_API(check_pointer(operation, "status", descriptor->status, alignof(pk_status_record)));
  if ((descriptor->magnitude == nullptr) != (descriptor->row_scale == nullptr)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %s is null, expected magnitude and row_scale, or neither", operation, descriptor->magnitude == nullptr ? "magnitude" : "row_scale");
  }
  PK_TRY_API(check_pointer(operation, "magnitude", descriptor->magnitude, alignof(float)));
  PK_TRY_API(check_pointer(operation, "row_scale", descriptor->row_scale, alignof(float)));
  if (!needs_data) return PK_OK;
  PK_TRY_API(check_data(operation, "w", w));
  if (w.rows > 0 && descriptor->norm == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: norm is null", operation);
  return check_pointer(operation, "norm", descriptor->norm, alignof(float));
}

int32_t check_disjoint(const char* operation, const Descriptor& descriptor) {
  Operands operands;
  const uint64_t bytes = static_cast<uint64_t>(descriptor.norm_count) * sizeof(float);
  operands.output_bytes("norm", descriptor.norm, bytes);
  operands.output_bytes("row_scale", descriptor.row_scale, descriptor.row_scale != nullptr ? bytes : 0);
  if (descriptor.magnitude != nullptr) operands.input_bytes("magnitude", descriptor.magnitude, bytes);
  operands.output_bytes("workspace", descriptor.workspace, workspace_bytes(descriptor));
  operands.output_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  operands.input("w", descriptor.w, 1);
  adapter_list(descriptor).add_inputs(operands);
  return operands.check_disjoint(operation);
}

int32_t pick(const char* operation, const Descriptor& descriptor, const pk_chip& chip, pk_kernel_choice* choice) {
  if (descriptor.algorithm != 0 && descriptor.algorithm != PK_LORA_WEIGHT_NORM_MMA) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (lora_weight_norm_mma)", operation, descriptor.algorithm, PK_LORA_WEIGHT_NORM_MMA);
  }
  if (chip.compute_capability < 80 || chip.shared_memory_per_block < kLoraSharedBytes) {
    return fail(PK_ERROR_ALGORITHM, "%s: lora_weight_norm_mma needs compute capability 8.0 and %" PRId64 " bytes of shared memory a block, this chip has %d.%d and %" PRId64, operation,
                kLoraSharedBytes, chip.compute_capability / 10, chip.compute_capability % 10, chip.shared_memory_per_block);
  }
  const LoraMath math = descriptor.adapter_element_type == PK_F32 ? LoraMath::three_tf32 : LoraMath::exact16;
  const int64_t steps = lora_weight_norm_rounding_steps(math, adapter_list(descriptor).largest_rank(), descriptor.adapter_count);
  *choice = pk_kernel_choice{PK_LORA_WEIGHT_NORM_MMA, 0, steps, "lora_weight_norm_mma"};
  return PK_OK;
}

}  // namespace

extern "C" {

int32_t pk_lora_weight_norm(const pk_queue* queue, const pk_lora_weight_norm_descriptor* given) {
  const char* operation = "pk_lora_weight_norm";
  pk_queue known_queue;
  Descriptor descriptor;
  pk_kernel_choice choice;
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read(operation, given, true, &descriptor));
  PK_TRY_API(check_workspace(operation, descriptor.workspace, descriptor.workspace_bytes, workspace_bytes(descriptor)));
  PK_TRY_API(check_disjoint(operation, descriptor));
  PK_TRY_API(PK_DISPATCH(known_queue, queue_chip(&known_queue, &chip)));
  PK_TRY_API(pick(operation, descriptor, chip, &choice));
  return PK_DISPATCH(known_queue, lora_weight_norm(&known_queue, &descriptor));
}

int32_t pk_lora_weight_norm_workspace(const pk_lora_weight_norm_descriptor* given, uint64_t* bytes) {
  const char* operation = "pk_lora_weight_norm_workspace";
  Descriptor descriptor;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: bytes is null", operation);
  PK_TRY_API(read(operation, given, false, &descriptor));
  *bytes = workspace_bytes(descriptor);
  return PK_OK;
}

int32_t pk_lora_weight_norm_pick(const pk_chip* chip, const pk_lora_weight_norm_descriptor* given, pk_kernel_choice* choice) {
  const char* operation = "pk_lora_weight_norm_pick";
  Descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  if (chip == nullptr || chip->size < sizeof(pk_chip)) return fail(PK_ERROR_VERSION, "%s: chip is null or of fewer than %zu bytes", operation, sizeof(pk_chip));
  PK_TRY_API(read(operation, given, false, &descriptor));
  return pick(operation, descriptor, *chip, choice);
}

}  // extern "C"
