// The C interface of the samples' norms: checks, workspace, choice of kernel, dispatch.
#include <algorithm>
#include <vector>

#include "../core/operations.h"
#include "../lora/backward_plan.h"
#include "check.h"
#include "lora_plan.h"
#include "samples.h"

using namespace peft_kernels_api;

namespace {

// A checked descriptor.
struct SampleNormsCall {
  pk_lora_sample_norms_descriptor descriptor;
  std::vector<pk_lora_sample_norm_target> targets;
};

int32_t check_choice(const char* operation, const char* argument, int32_t choice) {
  if (choice == 0 || choice == 1) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: %s is %d, expected 0 or 1", operation, argument, choice);
}

// One for all batches: a sample's gradient is of all its rows, whichever batch they are of.
int32_t check_factor(const char* operation, const char* argument, const pk_matrix& matrix, int64_t rows, int64_t columns, int32_t element_type, bool needs_data) {
  if (matrix.batch_stride != 0) return fail(PK_ERROR_ARGUMENT, "%s: %s has batch stride %" PRId64 ", expected 0: one for all batches", operation, argument, matrix.batch_stride);
  return check_input(operation, argument, matrix, rows, columns, element_type, needs_data);
}

int32_t check_target(const char* operation, const pk_lora_sample_norms_descriptor& descriptor, const pk_lora_sample_norm_target& target, bool needs_data) {
  const int64_t m = descriptor.x.rows, k = descriptor.x.columns, n = target.dy.columns, rank = target.a.rows;
  const int32_t type = descriptor.x.element_type, of_adapter = target.adapter_element_type;
  PK_TRY_API(check_element_types(operation, type, of_adapter));
  PK_TRY_API(check_choice(operation, "a_counts", target.a_counts));
  PK_TRY_API(check_choice(operation, "b_counts", target.b_counts));
  PK_TRY_API(check_choice(operation, "bias_counts", target.bias_counts));
  PK_TRY_API(check_choice(operation, "h_saved", target.h_saved));
  PK_TRY_API(check_input(operation, "dy", target.dy, m, -1, type, needs_data));
  if (rank != 0 || target.b.columns != 0) {
    PK_TRY_API(check_factor(operation, "a", target.a, -1, k, of_adapter, needs_data));
    PK_TRY_API(check_factor(operation, "b", target.b, n, rank, of_adapter, needs_data));
  }
  if (target.h_saved == 0) return PK_OK;
  if (target.h.element_type != type && target.h.element_type != PK_F32) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: h has element type %d (%s), expected %s or f32", operation, target.h.element_type, element_type_name(target.h.element_type), element_type_name(type));
  }
  return check_input(operation, "h", target.h, m, rank, target.h.element_type, needs_data);
}

// Reads and checks a descriptor. Without `needs_data` its pointers may be null: workspace and choice depend on shapes alone.
int32_t read(const char* operation, const pk_lora_sample_norms_descriptor* given, bool needs_data, SampleNormsCall* call) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  pk_lora_sample_norms_descriptor& descriptor = call->descriptor;
  PK_TRY_API(read_descriptor(operation, given, given->size, &descriptor));
  PK_TRY_API(check_flags(operation, descriptor.flags));
  if (descriptor.batch_count == 0) descriptor.batch_count = 1;
  if (descriptor.batch_count < 0 || descriptor.target_count < 0 || descriptor.target_count > PK_LORA_BACKWARD_TARGETS) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches and %" PRId64 " targets, expected none below 0 and at most %d targets", operation, descriptor.batch_count, descriptor.target_count,
                PK_LORA_BACKWARD_TARGETS);
  }
  if (descriptor.target_count > 0 && descriptor.targets == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: targets is null", operation);
  if (descriptor.mode != PK_GRADIENT_OVERWRITE && descriptor.mode != PK_GRADIENT_ACCUMULATE) {
    return fail(PK_ERROR_ARGUMENT, "%s: mode is %d, expected %d (overwrite) or %d (accumulate)", operation, descriptor.mode, PK_GRADIENT_OVERWRITE, PK_GRADIENT_ACCUMULATE);
  }
  PK_TRY_API(check_element_types(operation, descriptor.x.element_type, descriptor.x.element_type));
  PK_TRY_API(check_input(operation, "x", descriptor.x, -1, -1, descriptor.x.element_type, needs_data));
  PK_TRY_API(check_dropout(operation, descriptor.dropout, descriptor.batch_count, descriptor.x));
  double largest = std::max(static_cast<double>(descriptor.batch_count) * static_cast<double>(descriptor.x.rows), static_cast<double>(descriptor.x.columns)), rank = 1;
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const auto* source = reinterpret_cast<const char*>(descriptor.targets) + static_cast<uint64_t>(i) * descriptor.target_size;
    pk_lora_sample_norm_target target;
    PK_TRY_API(read_descriptor(operation, source, descriptor.target_size, &target));
    PK_TRY_API(check_target(operation, descriptor, target, needs_data));
    rank = std::max(rank, static_cast<double>(target.a.rows));
    largest = std::max(largest, static_cast<double>(target.dy.columns));
    call->targets.push_back(target);
  }
  if (rank > INT32_MAX || largest * rank > static_cast<double>(INT64_C(1) << 48)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %.0f rows or columns with a rank of %.0f, expected a rank of at most 2^31 - 1 and a product of at most 2^48", operation, largest, rank);
  }
  PK_TRY_API(check_samples(operation, descriptor.samples, descriptor.batch_count, descriptor.x.rows, needs_data));
  // A block has a sample and some columns.
  double blocks = static_cast<double>(lora_up(descriptor.x.columns, kLoraSampleNormColumns));
  for (const pk_lora_sample_norm_target& target : call->targets) blocks = std::max(blocks, static_cast<double>(lora_up(target.dy.columns, kLoraSampleNormColumns)));
  if (blocks * static_cast<double>(descriptor.samples.count) > INT32_MAX) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " samples of %.0f times %d columns, expected a product of less than 2^31", operation, descriptor.samples.count, blocks, kLoraSampleNormColumns);
  }
  PK_TRY_API(check_pointer(operation, "status", descriptor.status, alignof(pk_status_record)));
  if (needs_data && descriptor.samples.count > 0 && descriptor.squares == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: squares is null", operation);
  PK_TRY_API(check_pointer(operation, "squares", descriptor.squares, alignof(float)));
  descriptor.targets = call->targets.data();
  descriptor.target_size = sizeof(pk_lora_sample_norm_target);
  return PK_OK;
}

int32_t pick(const char* operation, const SampleNormsCall& call, const pk_chip& chip, pk_kernel_choice* choice) {
  const pk_lora_sample_norms_descriptor& descriptor = call.descriptor;
  if (descriptor.algorithm != 0 && descriptor.algorithm != PK_LORA_SAMPLE_NORMS_SIMT) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic) or %d (lora_sample_norms_simt)", operation, descriptor.algorithm, PK_LORA_SAMPLE_NORMS_SIMT);
  }
  if (chip.compute_capability < 80) {
    return fail(PK_ERROR_ALGORITHM, "%s: lora_sample_norms_simt needs compute capability 8.0, this chip has %d.%d", operation, chip.compute_capability / 10, chip.compute_capability % 10);
  }
  int64_t n = 0, rank = 0;
  for (const pk_lora_sample_norm_target& target : call.targets) {
    n = std::max(n, target.dy.columns);
    rank = std::max(rank, target.a.rows);
  }
  const int64_t steps = lora_sample_norms_rounding_steps(descriptor.x.columns, n, rank, descriptor.batch_count * descriptor.x.rows);
  *choice = pk_kernel_choice{PK_LORA_SAMPLE_NORMS_SIMT, 0, steps, "lora_sample_norms_simt"};
  return PK_OK;
}

int32_t workspace_bytes(const char* operation, const SampleNormsCall& call, uint64_t* bytes) {
  const LoraSampleNormsLayout layout = lora_sample_norms_layout(call.descriptor);
  const double floats = layout.h + layout.dh + layout.blocks;
  if (floats > static_cast<double>(INT64_C(1) << 52)) return fail(PK_ERROR_ARGUMENT, "%s: sums of %.0f elements, expected at most 2^52", operation, floats);
  *bytes = (static_cast<uint64_t>(floats) * 4 + PK_WORKSPACE_ALIGNMENT - 1) / PK_WORKSPACE_ALIGNMENT * PK_WORKSPACE_ALIGNMENT;
  return PK_OK;
}

// Squares, workspace and status against everything else.
int32_t check_disjoint(const char* operation, const SampleNormsCall& call, uint64_t workspace) {
  const pk_lora_sample_norms_descriptor& descriptor = call.descriptor;
  const int64_t batches = descriptor.batch_count;
  Operands operands;
  operands.output_bytes("squares", descriptor.squares, static_cast<uint64_t>(descriptor.samples.count) * sizeof(float));
  operands.output_bytes("workspace", descriptor.workspace, workspace);
  operands.output_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  operands.input("x", descriptor.x, batches);
  add_samples(operands, descriptor.samples);
  for (const pk_lora_sample_norm_target& target : call.targets) {
    operands.input("dy", target.dy, batches);
    if (target.a.rows > 0) {
      operands.input("a", target.a, 1);
      operands.input("b", target.b, 1);
    }
    if (target.h_saved != 0) operands.input("h", target.h, batches);
  }
  return operands.check_disjoint(operation);
}

}  // namespace

extern "C" {

int32_t pk_lora_sample_norms(const pk_queue* queue, const pk_lora_sample_norms_descriptor* given) {
  const char* operation = "pk_lora_sample_norms";
  pk_queue known_queue;
  SampleNormsCall call;
  pk_kernel_choice choice;
  pk_chip chip;
  uint64_t needed = 0;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read(operation, given, true, &call));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(pick(operation, call, chip, &choice));
  PK_TRY_API(workspace_bytes(operation, call, &needed));
  PK_TRY_API(check_workspace(operation, call.descriptor.workspace, call.descriptor.workspace_bytes, needed));
  PK_TRY_API(check_disjoint(operation, call, needed));
  return PK_DISPATCH(known_queue, lora_sample_norms(&known_queue, &call.descriptor));
}

int32_t pk_lora_sample_norms_workspace(const pk_lora_sample_norms_descriptor* given, uint64_t* bytes) {
  SampleNormsCall call;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_sample_norms_workspace: bytes is null");
  PK_TRY_API(read("pk_lora_sample_norms_workspace", given, false, &call));
  return workspace_bytes("pk_lora_sample_norms_workspace", call, bytes);
}

int32_t pk_lora_sample_norms_pick(const pk_chip* chip, const pk_lora_sample_norms_descriptor* given, pk_kernel_choice* choice) {
  SampleNormsCall call;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_sample_norms_pick: choice is null");
  PK_TRY_API(check_chip("pk_lora_sample_norms_pick", chip));
  PK_TRY_API(read("pk_lora_sample_norms_pick", given, false, &call));
  return pick("pk_lora_sample_norms_pick", call, *chip, choice);
}

}  // extern "C"
