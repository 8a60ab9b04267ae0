// Calls that are right: values, other sizes of descriptors, and what the library says of itself.
#include "check.h"

const char *c_forward(void);
const char *c_merge(void);
const char *c_versions(void);
const char *c_library(void);

const char *c_forward(void) {
  Call call;
  fill(&call);
  uint64_t bytes = 0;
  CHECK(pk_lora_forward_workspace(&call.forward, &bytes) == PK_OK && bytes == PK_WORKSPACE_ALIGNMENT);  // two floats, rounded up
  CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_OK);
  CHECK(is_right(&call) && call.status.failure == 0);

  // Through the algorithm that pick names, with a workspace of just the bytes asked for.
  pk_chip chip = {.size = sizeof chip};
  pk_kernel_choice choice = {0};
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK && chip.compute_capability == 90 && chip.multiprocessors > 0);
  CHECK(pk_lora_forward_pick(&chip, &call.forward, &choice) == PK_OK);
  CHECK(choice.algorithm > 0 && choice.rounding_steps >= 3 && strlen(choice.name) > 0);
  memset(call.y, 0, sizeof call.y);
  call.forward.algorithm = choice.algorithm;
  call.forward.workspace_bytes = bytes;
  CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_OK && is_right(&call));

  // A table, chosen from by rows; the second row names no adapter that there is.
  fill(&call);
  const pk_lora_adapter adapter = {.a = call.a, .b = call.b, .a_row_stride = 3, .a_column_stride = 1, .b_row_stride = 1, .b_column_stride = 1, .rank = 1, .scale = 2.0f};
  const int32_t rows[2] = {0, 5};
  call.target.adapters = &adapter;
  call.target.adapter_count = 1;
  call.target.max_rank = 1;
  call.forward.row_adapter = rows;
  CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_OK);
  CHECK(call.y[0] == 113.0f && call.y[1] == 190.0f && call.y[2] == 104.0f && call.y[3] == 205.0f);
  pk_status_record record = {0};
  CHECK(pk_status_read(&call.queue, &call.status, &record) == PK_OK);
  CHECK((record.failure & 0xff) == PK_FAILURE_ADAPTER_INDEX && (~record.failure & ~(uint64_t)0xff) >> 8 == 1);
  // A rank that the target does not expect.
  call.target.max_rank = 0;
  call.status.failure = 0;
  const int32_t first[2] = {-1, 0};
  call.forward.row_adapter = first;
  CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_OK && (call.status.failure & 0xff) == PK_FAILURE_ADAPTER_RANK);
  CHECK(call.y[0] == 101.0f && call.y[2] == 104.0f);
  return NULL;
}

const char *c_merge(void) {
  Call call;
  fill(&call);
  const pk_lora_adapter adapter = {.a = call.a, .b = call.b, .a_row_stride = 3, .a_column_stride = 1, .b_row_stride = 1, .b_column_stride = 1, .rank = 1, .scale = 0.5f};
  pk_lora_merge_descriptor merge = {.size = sizeof merge,
                                    .source = matrix(call.w, 2, 3),
                                    .destination = matrix(call.w, 2, 3),
                                    .adapters = &adapter,
                                    .adapter_count = 1,
                                    .adapter_element_type = PK_F32};
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_OK);
  for (int i = 0; i < 6; ++i) CHECK(call.w[i] == (float)(i % 3 == i / 3) + (i < 3 ? 0.5f : -0.5f));
  // An older caller, who knows no residual: what lies behind the struct does not matter.
  merge.size = offsetof(pk_lora_merge_descriptor, residual);
  memset(&merge.residual, 0x5a, sizeof merge.residual);
  CHECK(pk_lora_unmerge(&call.queue, &merge) == PK_OK);
  for (int i = 0; i < 6; ++i) CHECK(call.w[i] == (float)(i % 3 == i / 3));
  pk_kernel_choice choice;
  pk_chip chip = {.size = sizeof chip};
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK);
  CHECK(pk_lora_merge_pick(&chip, &merge, &choice) == PK_OK && choice.rounding_steps >= 2);

  // Under a row scale, with a scale of the rank between the factors.
  float of_rank[1] = {4.0f}, of_rows[2] = {2.0f, 0.5f};
  const pk_lora_middle middle = {.has = PK_LORA_MIDDLE_SCALE, .scale = matrix(of_rank, 1, 1)};
  uint64_t bytes = 1;
  merge.size = sizeof merge;
  merge.residual = (pk_matrix){.rows = 0};
  merge.row_scale = matrix(of_rows, 1, 2);
  CHECK(pk_lora_merge_workspace(&merge, &bytes) == PK_OK && bytes == 0);
  merge.middles = &middle;
  CHECK(pk_lora_merge_workspace(&merge, &bytes) == PK_OK && bytes == PK_WORKSPACE_ALIGNMENT);
  merge.workspace = call.workspace;
  merge.workspace_bytes = bytes;
  merge.status = &call.status;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_OK);
  for (int i = 0; i < 6; ++i) CHECK(call.w[i] == of_rows[i / 3] * ((float)(i % 3 == i / 3) + (i < 3 ? 2.0f : -2.0f)));
  CHECK(pk_lora_unmerge(&call.queue, &merge) == PK_OK && call.status.failure == 0);
  for (int i = 0; i < 6; ++i) CHECK(call.w[i] == (float)(i % 3 == i / 3));
  of_rows[1] = 0.0f;
  CHECK(pk_lora_unmerge(&call.queue, &merge) == PK_OK && call.status.failure == (~UINT64_C(1) << 8 | PK_FAILURE_ZERO_ROW_SCALE));
  return NULL;
}

const char *c_versions(void) {
  Call call;
  struct {
    pk_lora_forward_descriptor known;
    uint64_t tail[3];
  } newer;
  struct {
    pk_lora_target known;
    uint64_t tail[2];
  } target;
  struct {
    pk_queue known;
    uint64_t tail[2];
  } queue;

  // A newer caller: zeroes behind what this version knows mean nothing.
  fill(&call);
  memset(&newer, 0, sizeof newer);
  memset(&target, 0, sizeof target);
  memset(&queue, 0, sizeof queue);
  newer.known = call.forward;
  newer.known.size = sizeof newer;
  newer.known.targets = &target.known;
  newer.known.target_size = sizeof target;
  target.known = call.target;
  queue.known = call.queue;
  queue.known.size = sizeof queue;
  CHECK(pk_lora_forward(&queue.known, &newer.known) == PK_OK && is_right(&call));

  // And what is no zero is a feature that this version does not have.
  fill(&call);
  newer.tail[2] = (uint64_t)1 << 56;
  CHECK(pk_lora_forward(&queue.known, &newer.known) == PK_ERROR_VERSION && is_untouched(&call));
  newer.tail[2] = 0;
  target.tail[0] = 1;
  CHECK(pk_lora_forward(&queue.known, &newer.known) == PK_ERROR_VERSION && is_untouched(&call));
  target.tail[0] = 0;
  queue.tail[1] = 1;
  CHECK(pk_lora_forward(&queue.known, &newer.known) == PK_ERROR_VERSION && is_untouched(&call));

  // An older caller: no status, no table.
  fill(&call);
  call.forward.size = offsetof(pk_lora_forward_descriptor, status);
  call.forward.status = (pk_status_record *)(uintptr_t)8;
  call.forward.target_size = offsetof(pk_lora_target, adapters);
  call.target.adapters = (const pk_lora_adapter *)(uintptr_t)8;
  CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_OK && is_right(&call));

  const uint64_t too_small[] = {0, 1, 7};
  for (int i = 0; i < 3; ++i) {
    fill(&call);
    call.forward.size = too_small[i];
    CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_ERROR_VERSION && is_untouched(&call));
    fill(&call);
    call.forward.target_size = too_small[i];
    CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_ERROR_VERSION && is_untouched(&call));
    fill(&call);
    call.queue.size = too_small[i];
    CHECK(pk_lora_forward(&call.queue, &call.forward) == PK_ERROR_VERSION && is_untouched(&call));
  }
  pk_chip chip = {.size = 8};
  fill(&call);
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_ERROR_VERSION);
  return NULL;
}

const char *c_library(void) {
  CHECK(pk_abi_version() == PK_ABI_VERSION);
  CHECK(pk_has_queue(PK_QUEUE_EMULATOR) == 1 && pk_has_queue(0) == 0 && pk_has_queue(99) == 0);
  int32_t count = 0;
  if (!pk_has_queue(PK_QUEUE_CUDA)) CHECK(pk_device_count(&count) == PK_ERROR_NOT_BUILT);
  CHECK(pk_device_count(NULL) == PK_ERROR_ARGUMENT);
  Call call;
  fill(&call);
  CHECK(pk_prepare(&call.queue) == PK_OK);
  const int32_t chips[] = {80, 86, 89, 90, 100, 120};
  for (int i = 0; i < 6; ++i) {
    pk_chip chip = {.size = sizeof chip};
    call.queue.device = chips[i];
    CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK && chip.compute_capability == chips[i] && chip.shared_memory_per_block >= 99 * 1024);
  }
  return NULL;
}
