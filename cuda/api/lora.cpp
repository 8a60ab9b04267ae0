// The C interface of the LoRA family: checks, workspace, choice of kernel, dispatch.
#include <algorithm>
#include <vector>

#include "../core/operations.h"
#include "../lora/merge_plan.h"
#include "adapters.h"
#include "check.h"
#include "lora_middle.h"
#include "lora_plan.h"
#include "lora_tables.h"
#include "overlap.h"
#include "quantized.h"

using namespace peft_kernels_api;

namespace {

constexpr int64_t kLargest = INT64_C(1) << 48;  // extents and strides beyond it are mistakes, and would overflow offsets

int32_t check_target(const char* operation, const pk_lora_forward_descriptor& descriptor, const pk_lora_target& target, bool needs_data) {
  const int64_t m = descriptor.x.rows, k = descriptor.x.columns, n = target.y.columns;
  const bool by_row = descriptor.row_adapter != nullptr || descriptor.segments != nullptr;
  PK_TRY_API(check_element_types(operation, descriptor.x.element_type, target.adapter_element_type));
  if (target.base < PK_LORA_BASE_NONE || target.base > PK_LORA_BASE_QUANTIZED) {
    return fail(PK_ERROR_ARGUMENT, "%s: base is %d, expected %d (none), %d (dense), %d (in y) or %d (quantised)", operation, target.base, PK_LORA_BASE_NONE, PK_LORA_BASE_DENSE,
                PK_LORA_BASE_IN_Y, PK_LORA_BASE_QUANTIZED);
  }
  struct Operand {
    const char* name;
    const pk_matrix& matrix;
    int64_t rows, columns;
    int32_t element_type;
    bool used;
  };
  const int64_t rank = target.a.rows;
  const bool one = target.adapters == nullptr, core = (target.middle.has & PK_LORA_MIDDLE_CORE) != 0;
  const bool adapter = one && (rank != 0 || target.b.columns != 0 || lora_lists_ranks(target.middle));  // a list is of ranks, be there any or none
  const Operand operands[] = {
      {"y", target.y, m, -1, descriptor.x.element_type, true},
      {"w", target.w, n, k, descriptor.x.element_type, target.base == PK_LORA_BASE_DENSE},
      {"bias", target.bias, 1, n, descriptor.x.element_type, target.bias.data != nullptr},
      {"row_scale", target.row_scale, 1, n, PK_F32, target.row_scale.data != nullptr},
      {"a", target.a, -1, k, target.adapter_element_type, adapter},
      {"b", target.b, n, core ? -1 : rank, target.adapter_element_type, adapter},
  };
  for (const Operand& operand : operands) {
    if (!operand.used) continue;
    if (operand.matrix.element_type != operand.element_type) {
      return fail(PK_ERROR_ELEMENT_TYPE, "%s: %s has element type %d (%s), expected %s", operation, operand.name, operand.matrix.element_type,
                  element_type_name(operand.matrix.element_type), element_type_name(operand.element_type));
    }
    PK_TRY_API(check_matrix(operation, operand.name, operand.matrix, operand.rows, operand.columns));
    if (needs_data) PK_TRY_API(check_data(operation, operand.name, operand.matrix));
  }
  if (target.base == PK_LORA_BASE_QUANTIZED) PK_TRY_API(check_quantized(operation, "w", n, k, target.quantized, false, needs_data));
  PK_TRY_API(check_output(operation, "y", target.y));
  PK_TRY_API(check_pointer(operation, "adapters", target.adapters, alignof(pk_lora_adapter)));
  if (descriptor.batch_count > 1 && target.y.batch_stride == 0 && m > 0 && n > 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: y has batch stride 0 with %" PRId64 " batches: they would overlap", operation, descriptor.batch_count);
  }
  if (target.middle.has != 0) {
    if (!one) return fail(PK_ERROR_ARGUMENT, "%s: a target has both a table of adapters and a middle, expected at most one", operation);
    PK_TRY_API(check_middle(operation, target.middle, target.a, target.b, descriptor.batch_count, m, target.adapter_element_type, needs_data));
  }
  return check_table(operation, target.adapters, target.adapter_count, target.max_rank, lora_rank(target), by_row);
}

int32_t check_saved_h(const char* operation, const pk_lora_forward_descriptor& descriptor, const pk_lora_target& target, bool needs_data) {
  if (target.saved_h.data == nullptr) return PK_OK;
  if (target.saved_h.element_type != descriptor.x.element_type && target.saved_h.element_type != PK_F32) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: saved_h has element type %d (%s), expected %s or f32", operation, target.saved_h.element_type, element_type_name(target.saved_h.element_type),
                element_type_name(descriptor.x.element_type));
  }
  PK_TRY_API(check_matrix(operation, "saved_h", target.saved_h, descriptor.x.rows, target.adapters == nullptr ? lora_rank(target) : target.max_rank));
  PK_TRY_API(check_output(operation, "saved_h", target.saved_h));
  if (descriptor.batch_count > 1 && target.saved_h.batch_stride == 0 && target.saved_h.rows > 0 && target.saved_h.columns > 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: saved_h has batch stride 0 with %" PRId64 " batches: they would overlap", operation, descriptor.batch_count);
  }
  return needs_data ? check_data(operation, "saved_h", target.saved_h) : PK_OK;
}

// Reads and checks a descriptor. Without `needs_data` its pointers may be null: workspace and choice depend on shapes alone.
int32_t read_forward(const char* operation, const pk_lora_forward_descriptor* given, bool needs_data, Forward* forward) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  pk_lora_forward_descriptor& descriptor = forward->descriptor;
  PK_TRY_API(read_descriptor(operation, given, given->size, &descriptor));
  PK_TRY_API(check_flags(operation, descriptor.flags));
  if (descriptor.batch_count == 0) descriptor.batch_count = 1;
  if (descriptor.batch_count < 0 || descriptor.target_count < 0 || descriptor.segment_count < 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches, %" PRId64 " targets and %" PRId64 " segments, expected none below 0", operation, descriptor.batch_count,
                descriptor.target_count, descriptor.segment_count);
  }
  PK_TRY_API(check_slab_bytes(operation, descriptor.slab_bytes));
  if (descriptor.target_count > 0 && descriptor.targets == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: targets is null", operation);
  PK_TRY_API(check_row_choice(operation, descriptor.row_adapter, descriptor.segments));
  PK_TRY_API(check_matrix(operation, "x", descriptor.x, -1, -1));
  if (needs_data) PK_TRY_API(check_data(operation, "x", descriptor.x));
  PK_TRY_API(check_dropout(operation, descriptor.dropout, descriptor.batch_count, descriptor.x));
  PK_TRY_API(check_pointer(operation, "row_adapter", descriptor.row_adapter, alignof(int32_t)));
  PK_TRY_API(check_pointer(operation, "segments", descriptor.segments, alignof(pk_lora_segment)));
  PK_TRY_API(check_pointer(operation, "status", descriptor.status, alignof(pk_status_record)));
  if (descriptor.x.rows > kLargest / descriptor.batch_count || descriptor.x.columns > kLargest) {
    return fail(PK_ERROR_ARGUMENT, "%s: x is %" PRId64 " batches of [%" PRId64 ", %" PRId64 "], expected at most 2^48 rows and columns", operation, descriptor.batch_count,
                descriptor.x.rows, descriptor.x.columns);
  }
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const auto* source = reinterpret_cast<const char*>(descriptor.targets) + static_cast<uint64_t>(i) * descriptor.target_size;
    pk_lora_target target;
    PK_TRY_API(read_descriptor(operation, source, descriptor.target_size, &target));
    PK_TRY_API(check_target(operation, descriptor, target, needs_data));
    PK_TRY_API(check_saved_h(operation, descriptor, target, needs_data));
    if (target.adapters == nullptr) {
      target.max_rank = lora_rank(target);
      target.adapter_count = 1;
    }
    // The larger of the columns of H and of what a middle makes of it.
    const int64_t most_rank = std::max(target.max_rank, lora_has_middle(target.middle) ? lora_rank_after(target) : 0);
    if (most_rank <= INT32_MAX) forward->total_rank += most_rank;
    const int64_t rows = std::max<int64_t>(descriptor.batch_count * descriptor.x.rows, 1);
    if (most_rank > INT32_MAX || forward->total_rank > kLargest / rows) {
      return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " rows with ranks that add up to %" PRId64 ", expected ranks of at most 2^31 - 1 and a product of at most 2^48", operation, rows,
                  forward->total_rank);
    }
    forward->targets.push_back(target);
  }
  descriptor.targets = forward->targets.data();
  descriptor.target_size = sizeof(pk_lora_target);
  return PK_OK;
}

// y, workspace and status against everything else. Adapters of a table are in device memory: that they are disjoint is the caller's promise.
int32_t check_disjoint(const char* operation, const Forward& forward) {
  const pk_lora_forward_descriptor& descriptor = forward.descriptor;
  const int64_t batches = descriptor.batch_count;
  Operands operands;
  operands.output_bytes("workspace", descriptor.workspace, forward_workspace_bytes(forward));
  operands.output_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  operands.input("x", descriptor.x, batches);
  add_row_choice(operands, descriptor.row_adapter, descriptor.segments, descriptor.segment_count, batches * descriptor.x.rows);
  for (const pk_lora_target& target : forward.targets) {
    operands.output("y", target.y, batches);
    if (target.saved_h.data != nullptr) operands.output("saved_h", target.saved_h, batches);
    if (target.base == PK_LORA_BASE_DENSE) operands.input("w", target.w, batches);
    if (target.base == PK_LORA_BASE_QUANTIZED) add_quantized(operands, target.quantized);
    if (target.bias.data != nullptr) operands.input("bias", target.bias, batches);
    if (target.row_scale.data != nullptr) operands.input("row_scale", target.row_scale, batches);
    add_middle(operands, target.middle, batches);
    if (target.adapters == nullptr) {
      operands.input("a", target.a, batches);
      operands.input("b", target.b, batches);
    } else {
      operands.input_bytes("adapters", target.adapters, static_cast<uint64_t>(target.adapter_count) * sizeof(pk_lora_adapter));
    }
  }
  return operands.check_disjoint(operation);
}

AdapterList adapter_list(const pk_lora_merge_descriptor& descriptor) {
  return {descriptor.adapters, descriptor.adapter_count, descriptor.adapter_element_type, descriptor.source.rows, descriptor.source.columns, descriptor.middles};
}

int32_t check_disjoint(const char* operation, const pk_lora_merge_descriptor& descriptor) {
  const pk_matrix &source = descriptor.source, &destination = descriptor.destination;
  const bool in_place = source.data == destination.data && source.row_stride == destination.row_stride && source.column_stride == destination.column_stride;
  Operands operands;
  operands.output("destination", destination, 1);
  if (!in_place) operands.input("source", source, 1);
  if (descriptor.residual.data != nullptr) {
    pk_matrix residual = descriptor.residual;
    residual.element_type = source.element_type;  // sixteen bits as well
    operands.output("residual", residual, 1);
  }
  operands.output_bytes("workspace", descriptor.workspace, static_cast<uint64_t>(lora_merge_workspace_bytes(descriptor)));
  operands.output_bytes("status", descriptor.status, descriptor.status != nullptr ? sizeof(pk_status_record) : 0);
  if (lora_merge_scales_rows(descriptor)) operands.input("row_scale", descriptor.row_scale, 1);
  adapter_list(descriptor).add_inputs(operands);
  return operands.check_disjoint(operation);
}

int32_t check_residual(const char* operation, const pk_lora_merge_descriptor& descriptor, bool needs_data) {
  if (descriptor.residual.data == nullptr && descriptor.residual.rows == 0) return PK_OK;
  if (element_size(descriptor.source.element_type) != 2) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: a residual with weights of element type %s, expected f16 or bf16", operation, element_type_name(descriptor.source.element_type));
  }
  pk_matrix residual = descriptor.residual;
  residual.element_type = descriptor.source.element_type;  // sixteen bits as well
  PK_TRY_API(check_matrix(operation, "residual", residual, descriptor.source.rows, descriptor.source.columns));
  PK_TRY_API(check_output(operation, "residual", residual));
  return needs_data ? check_data(operation, "residual", residual) : PK_OK;
}

int32_t read_merge(const char* operation, const pk_lora_merge_descriptor* given, bool needs_data, pk_lora_merge_descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  PK_TRY_API(check_element_types(operation, descriptor->source.element_type, descriptor->adapter_element_type));
  const pk_matrix& source = descriptor->source;
  PK_TRY_API(check_matrix(operation, "source", source, -1, -1));
  PK_TRY_API(check_matrix(operation, "destination", descriptor->destination, source.rows, source.columns));
  PK_TRY_API(check_output(operation, "destination", descriptor->destination));
  PK_TRY_API(check_residual(operation, *descriptor, needs_data));
  if (descriptor->row_scale.data != nullptr || descriptor->row_scale.columns != 0) PK_TRY_API(check_input(operation, "row_scale", descriptor->row_scale, 1, source.rows, PK_F32, needs_data));
  PK_TRY_API(check_pointer(operation, "status", descriptor->status, alignof(pk_status_record)));
  if (descriptor->destination.element_type != source.element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: destination has element type %s, expected %s", operation, element_type_name(descriptor->destination.element_type),
                element_type_name(source.element_type));
  }
  if (needs_data) {
    PK_TRY_API(check_data(operation, "source", source));
    PK_TRY_API(check_data(operation, "destination", descriptor->destination));
  }
  return adapter_list(*descriptor).check(operation, needs_data);
}

int32_t merge(const char* operation, const pk_queue* queue, const pk_lora_merge_descriptor* given, int32_t direction) {
  pk_queue known_queue;
  pk_lora_merge_descriptor descriptor;
  pk_kernel_choice choice;
  pk_chip chip;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_merge(operation, given, true, &descriptor));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(pick_merge(operation, descriptor, chip, &choice));
  descriptor.algorithm = choice.algorithm;
  PK_TRY_API(check_workspace(operation, descriptor.workspace, descriptor.workspace_bytes, static_cast<uint64_t>(lora_merge_workspace_bytes(descriptor))));
  PK_TRY_API(check_disjoint(operation, descriptor));
  return PK_DISPATCH(known_queue, lora_merge(&known_queue, &descriptor, direction));
}

}  // namespace

extern "C" {

int32_t pk_lora_forward(const pk_queue* queue, const pk_lora_forward_descriptor* given) {
  const char* operation = "pk_lora_forward";
  pk_queue known_queue;
  Forward forward;
  LoraForwardPlan plan;
  pk_kernel_choice choice;
  pk_chip chip;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_forward(operation, given, true, &forward));
  PK_TRY_API(chip_of(known_queue, &chip));
  PK_TRY_API(plan_forward(operation, forward, chip, &plan, &choice));
  const uint64_t needed = forward_workspace_bytes(forward);
  PK_TRY_API(check_workspace(operation, forward.descriptor.workspace, forward.descriptor.workspace_bytes, needed));
  PK_TRY_API(check_disjoint(operation, forward));
  return PK_DISPATCH(known_queue, lora_forward(&known_queue, &forward.descriptor, &plan));
}

int32_t pk_lora_forward_workspace(const pk_lora_forward_descriptor* given, uint64_t* bytes) {
  Forward forward;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_forward_workspace: bytes is null");
  PK_TRY_API(read_forward("pk_lora_forward_workspace", given, false, &forward));
  *bytes = forward_workspace_bytes(forward);
  return PK_OK;
}

int32_t pk_lora_forward_pick(const pk_chip* chip, const pk_lora_forward_descriptor* given, pk_kernel_choice* choice) {
  Forward forward;
  LoraForwardPlan plan;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_forward_pick: choice is null");
  PK_TRY_API(check_chip("pk_lora_forward_pick", chip));
  PK_TRY_API(read_forward("pk_lora_forward_pick", given, false, &forward));
  return plan_forward("pk_lora_forward_pick", forward, *chip, &plan, choice);
}

int32_t pk_lora_merge(const pk_queue* queue, const pk_lora_merge_descriptor* descriptor) { return merge("pk_lora_merge", queue, descriptor, +1); }

int32_t pk_lora_unmerge(const pk_queue* queue, const pk_lora_merge_descriptor* descriptor) { return merge("pk_lora_unmerge", queue, descriptor, -1); }

int32_t pk_lora_merge_workspace(const pk_lora_merge_descriptor* given, uint64_t* bytes) {
  pk_lora_merge_descriptor descriptor;
  if (bytes == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_merge_workspace: bytes is null");
  PK_TRY_API(read_merge("pk_lora_merge_workspace", given, false, &descriptor));
  *bytes = static_cast<uint64_t>(lora_merge_workspace_bytes(descriptor));
  return PK_OK;
}

int32_t pk_lora_merge_pick(const pk_chip* chip, const pk_lora_merge_descriptor* given, pk_kernel_choice* choice) {
  pk_lora_merge_descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "pk_lora_merge_pick: choice is null");
  PK_TRY_API(check_chip("pk_lora_merge_pick", chip));
  PK_TRY_API(read_merge("pk_lora_merge_pick", given, false, &descriptor));
  return pick_merge("pk_lora_merge_pick", descriptor, *chip, choice);
}

}  // extern "C"
