// The C interface of the magnitude's gradient: checks, workspace, choice of kernel, dispatch.
#include <cstdio>

#include "../core/operations.h"
#include "../lora/backward_plan.h"
#include "check.h"
#include "lora_plan.h"
#include "overlap.h"

using namespace peft_kernels_api;

namespace {

using Descriptor = pk_lora_magnitude_gradient_descriptor;

int64_t blocks_of_columns(const Descriptor& descriptor) { return lora_up(descriptor.dy.columns, kLoraOuterColumns); }

int32_t read(const char* operation, const Descriptor* given, bool needs_data, Descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  if (descriptor->batch_count == 0) descriptor->batch_count = 1;
  if (descriptor->batch_count < 0) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches, expected none below 0", operation, descriptor->batch_count);
  if (descriptor->mode != PK_GRADIENT_OVERWRITE && descriptor->mode != PK_GRADIENT_ACCUMULATE) {
    return fail(PK_ERROR_ARGUMENT, "%s: mode is %d, expected %d (overwrite) or %d (accumulate)", operation, descriptor->mode, PK_GRADIENT_OVERWRITE, PK_GRADIENT_ACCUMULATE);
  }
  const int64_t m = descriptor->dy.rows, n = descriptor->dy.columns;
  const int32_t type = descriptor->dy.element_type;
  PK_TRY_API(check_element_types(operation, type, type));
  PK_TRY_API(check_input(operation, "dy", descriptor->dy, -1, -1, type, needs_data));
  PK_TRY_API(check_input(operation, "y", descriptor->y, m, n, type, needs_data));
  if (descriptor->bias.data != nullptr || descriptor->bias.columns != 0) PK_TRY_API(check_input(operation, "bias", descriptor->bias, 1, n, type, needs_data));
  PK_TRY_API(check_input(operation, "magnitude", descriptor->magnitude, 1, n, PK_F32, needs_data));
  PK_TRY_API(check_input(operation, "dmagnitude", descriptor->dmagnitude, 1, n, PK_F32, needs_data));
  PK_TRY_API(check_output(operation, "dmagnitude", descriptor->dmagnitude));
  if (descriptor->batch_count > 1 && descriptor->magnitude.batch_stride != 0 && descriptor->dmagnitude.batch_stride == 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: dmagnitude is one for all batches, expected one for each of %" PRId64 ", as magnitude is", operation, descriptor->batch_count);
  }
  const LoraOuterPlan plan = lora_magnitude_plan(*descriptor);
  const double rows = static_cast<double>(descriptor->batch_count) * static_cast<double>(m);
  const double blocks = static_cast<double>(plan.groups) * static_cast<double>(plan.parts) * static_cast<double>(blocks_of_columns(*descriptor));
  if (blocks > INT32_MAX || rows > static_cast<double>(INT64_C(1) << 48)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches of [%" PRId64 ", %" PRId64 "], expected at most 2^48 rows and fewer than 2^31 parts of them with %d columns", operation,
                descriptor->batch_count, m, n, kLoraOuterColumns);
  }
  return check_pointer(operation, "status", descriptor->status, alignof(pk_status_record));
}

uint64_t workspace_bytes(const Descriptor& descriptor) {
  const LoraOuterPlan plan = lora_magnitude_plan(descriptor);
  return static_cast<uint64_t>(plan.groups * plan.parts * descriptor.dy.columns) * sizeof(float);
}

int32_t check_disjoint(const char* operation, const Descriptor& descriptor) {
  const int64_t batches = descriptor.batch_count;
  Operands operands;
  operands.output("dmagnitude", descriptor.dmagnitude, descriptor.dmagnitude.batch_stride == 0 ? 1 : batches);
  operands.output_bytes("workspace", descriptor.workspace, workspace_bytes(descriptor));
  operands.output_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  operands.input("dy", descriptor.dy, batches);
  operands.input("y", descriptor.y, batches);
  if (descriptor.bias.columns > 0) operands.input("bias", descriptor.bias, batches);
  operands.input("magnitude", descriptor.magnitude, batches);
  return operands.check_disjoint(operation);
}

int32_t pick(const char* operation, const Descriptor& descriptor, pk_kernel_choice* choice) {
  constexpr const char* kName = "lora_magnitude_gradient_simt";
  if (descriptor.algorithm != 0 && descriptor.algorithm != PK_LORA_MAGNITUDE_GRADIENT_SIMT) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (%s)", operation, descriptor.algorithm, PK_LORA_MAGNITUDE_GRADIENT_SIMT, kName);
  }
  *choice = pk_kernel_choice{PK_LORA_MAGNITUDE_GRADIENT_SIMT, 0, lora_magnitude_rounding_steps(descriptor), {}};
  std::snprintf(choice->name, sizeof choice->name, "%s", kName);
  return PK_OK;
}

}  // namespace

extern "C" {

int32_t pk_lora_magnitude_gradient(const pk_queue* queue, const pk_lora_magnitude_gradient_descriptor* given) {
  const char* operation = "pk_lora_magnitude_gradient";
  pk_queue known_queue;
  Descriptor descriptor;
  pk_kernel_choice choice;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read(operation, given, true, &descriptor));
  PK_TRY_API(pick(operation, descriptor, &choice));
  PK_TRY_API(check_workspace(operation, descriptor.workspace, descriptor.workspace_bytes, workspace_bytes(descriptor)));
  PK_TRY_API(check_disjoint(operation, descriptor));
  return PK_DISPATCH(known_queue, lora_magnitude_gradient(&known_queue, &descriptor));
}

int32_t pk_lora_magnitude_gradient_workspace(const pk_lora_magnitude_gradient_descriptor* given, uint64_t* bytes) {
  const char* operation = "pk_lora_magnitude_gradient_workspace";
  Descriptor descriptor;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: bytes is null", operation);
  PK_TRY_API(read(operation, given, false, &descriptor));
  *bytes = workspace_bytes(descriptor);
  return PK_OK;
}

int32_t pk_lora_magnitude_gradient_pick(const pk_chip* chip, const pk_lora_magnitude_gradient_descriptor* given, pk_kernel_choice* choice) {
  const char* operation = "pk_lora_magnitude_gradient_pick";
  Descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  PK_TRY_API(check_chip(operation, chip));
  PK_TRY_API(read(operation, given, false, &descriptor));
  return pick(operation, descriptor, choice);
}

}  // extern "C"
