// The size of every struct of the header and the offset of every field, as the C compiler sees them.
#include <peft_kernels.h>
#include <stddef.h>

typedef struct Entry {
  const char *name;
  uint64_t value;
} Entry;

#define SIZE(type) {#type, sizeof(type)}
#define FIELD(type, field) {#type "::" #field, offsetof(type, field)}

static const Entry entries[] = {
    SIZE(pk_queue),
    FIELD(pk_queue, size),
    FIELD(pk_queue, kind),
    FIELD(pk_queue, device),
    FIELD(pk_queue, stream),
    SIZE(pk_matrix),
    FIELD(pk_matrix, data),
    FIELD(pk_matrix, rows),
    FIELD(pk_matrix, columns),
    FIELD(pk_matrix, row_stride),
    FIELD(pk_matrix, column_stride),
    FIELD(pk_matrix, batch_stride),
    FIELD(pk_matrix, element_type),
    FIELD(pk_matrix, reserved),
    SIZE(pk_status_record),
    FIELD(pk_status_record, failure),
    FIELD(pk_status_record, reserved),
    SIZE(pk_kernel_choice),
    FIELD(pk_kernel_choice, algorithm),
    FIELD(pk_kernel_choice, reserved),
    FIELD(pk_kernel_choice, rounding_steps),
    FIELD(pk_kernel_choice, name),
    SIZE(pk_chip),
    FIELD(pk_chip, size),
    FIELD(pk_chip, compute_capability),
    FIELD(pk_chip, multiprocessors),
    FIELD(pk_chip, shared_memory_per_block),
    SIZE(pk_lora_adapter),
    FIELD(pk_lora_adapter, a),
    FIELD(pk_lora_adapter, b),
    FIELD(pk_lora_adapter, a_row_stride),
    FIELD(pk_lora_adapter, a_column_stride),
    FIELD(pk_lora_adapter, b_row_stride),
    FIELD(pk_lora_adapter, b_column_stride),
    FIELD(pk_lora_adapter, rank),
    FIELD(pk_lora_adapter, scale),
    SIZE(pk_lora_segment),
    FIELD(pk_lora_segment, row_begin),
    FIELD(pk_lora_segment, row_end),
    FIELD(pk_lora_segment, adapter),
    FIELD(pk_lora_segment, reserved),
    SIZE(pk_lora_target),
    FIELD(pk_lora_target, base),
    FIELD(pk_lora_target, adapter_element_type),
    FIELD(pk_lora_target, w),
    FIELD(pk_lora_target, y),
    FIELD(pk_lora_target, bias),
    FIELD(pk_lora_target, a),
    FIELD(pk_lora_target, b),
    FIELD(pk_lora_target, scale),
    FIELD(pk_lora_target, reserved),
    FIELD(pk_lora_target, adapters),
    FIELD(pk_lora_target, adapter_count),
    FIELD(pk_lora_target, max_rank),
    SIZE(pk_lora_forward_descriptor),
    FIELD(pk_lora_forward_descriptor, size),
    FIELD(pk_lora_forward_descriptor, target_size),
    FIELD(pk_lora_forward_descriptor, algorithm),
    FIELD(pk_lora_forward_descriptor, flags),
    FIELD(pk_lora_forward_descriptor, batch_count),
    FIELD(pk_lora_forward_descriptor, x),
    FIELD(pk_lora_forward_descriptor, targets),
    FIELD(pk_lora_forward_descriptor, target_count),
    FIELD(pk_lora_forward_descriptor, row_adapter),
    FIELD(pk_lora_forward_descriptor, segments),
    FIELD(pk_lora_forward_descriptor, segment_count),
    FIELD(pk_lora_forward_descriptor, workspace),
    FIELD(pk_lora_forward_descriptor, workspace_bytes),
    FIELD(pk_lora_forward_descriptor, status),
    SIZE(pk_lora_merge_descriptor),
    FIELD(pk_lora_merge_descriptor, size),
    FIELD(pk_lora_merge_descriptor, algorithm),
    FIELD(pk_lora_merge_descriptor, flags),
    FIELD(pk_lora_merge_descriptor, source),
    FIELD(pk_lora_merge_descriptor, destination),
    FIELD(pk_lora_merge_descriptor, adapters),
    FIELD(pk_lora_merge_descriptor, adapter_count),
    FIELD(pk_lora_merge_descriptor, adapter_element_type),
    FIELD(pk_lora_merge_descriptor, reserved),
    FIELD(pk_lora_merge_descriptor, residual),
};

const Entry *c_layout(uint64_t *count);

const Entry *c_layout(uint64_t *count) {
  *count = sizeof entries / sizeof *entries;
  return entries;
}
