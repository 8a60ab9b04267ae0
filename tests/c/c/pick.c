// Which kernel `pick` names, on chips that are described: no memory is touched, so operands have shapes alone.
#include "check.h"

const char *c_pick(void);

typedef struct Row {
  int32_t compute_capability;
  int64_t m, n, k, rank;
  int32_t element_type;
  uint32_t flags;
  const char *name;
} Row;

static const Row rows[] = {
    {80, 1, 4096, 4096, 16, PK_BF16, 0, "lora_forward_mma_decode"},
    {90, 16, 4096, 4096, 16, PK_F32, 0, "lora_forward_mma_decode"},
    {120, 17, 4096, 4096, 16, PK_F16, 0, "lora_forward_mma_small"},
    {100, 128, 4096, 4096, 0, PK_F16, 0, "lora_forward_mma_small"},
    {86, 129, 128, 4096, 16, PK_BF16, 0, "lora_forward_mma_small"},
    {89, 129, 129, 1, 300, PK_F32, PK_FLAG_ALLOW_TF32, "lora_forward_mma_large"},
    {90, 4096, 4096, 4096, 16, PK_BF16, PK_FLAG_ALLOW_ATOMICS, "lora_forward_mma_large"},
    {90, 1, 4096, 4096, 16, PK_BF16, PK_FLAG_BATCH_INVARIANT, "lora_forward_mma_small"},
    {90, 4096, 4096, 4096, 16, PK_BF16, PK_FLAG_BATCH_INVARIANT, "lora_forward_mma_small"},
    // Chips before 8.0, and more tiles than a grid has blocks.
    {75, 1, 4096, 4096, 16, PK_BF16, 0, "lora_forward_simt"},
    {75, 4096, 4096, 4096, 16, PK_F32, PK_FLAG_ALLOW_TF32, "lora_forward_simt"},
    {70, 64, 64, 64, 8, PK_F16, PK_FLAG_BATCH_INVARIANT, "lora_forward_simt"},
    {90, INT64_C(1) << 36, 64, 1, 0, PK_F32, 0, "lora_forward_simt"},
};

static pk_chip chip_of(int32_t compute_capability) {
  return (pk_chip){.size = sizeof(pk_chip), .compute_capability = compute_capability, .multiprocessors = 40, .shared_memory_per_block = 99 * 1024};
}

static pk_matrix shape(int64_t row_count, int64_t columns, int32_t element_type) {
  pk_matrix shape = matrix(NULL, row_count, columns);
  shape.element_type = element_type;
  return shape;
}

static const char *forward_picks(void) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; ++i) {
    const Row *row = &rows[i];
    const pk_lora_target target = {.base = PK_LORA_BASE_DENSE,
                                   .adapter_element_type = row->element_type,
                                   .w = shape(row->n, row->k, row->element_type),
                                   .y = shape(row->m, row->n, row->element_type),
                                   .a = shape(row->rank, row->k, row->element_type),
                                   .b = shape(row->n, row->rank, row->element_type),
                                   .scale = 1.0f};
    pk_lora_forward_descriptor forward = {.size = sizeof forward,
                                          .target_size = sizeof target,
                                          .flags = row->flags,
                                          .x = shape(row->m, row->k, row->element_type),
                                          .targets = &target,
                                          .target_count = 1};
    pk_chip chip = chip_of(row->compute_capability);
    pk_kernel_choice choice, again;
    // Without the shared memory of the smallest chips from 8.0 on.
    chip.shared_memory_per_block -= 1;
    CHECK(pk_lora_forward_pick(&chip, &forward, &choice) == PK_OK && strcmp(choice.name, "lora_forward_simt") == 0);
    chip.shared_memory_per_block += 1;
    CHECK(pk_lora_forward_pick(&chip, &forward, &choice) == PK_OK);
    CHECK(strcmp(choice.name, row->name) == 0);
    // Asked for by its number, it is the same kernel.
    forward.algorithm = choice.algorithm;
    CHECK(pk_lora_forward_pick(&chip, &forward, &again) == PK_OK && memcmp(&choice, &again, sizeof choice) == 0);
    if (row->compute_capability >= 80) continue;
    char text[160];
    for (forward.algorithm = 2; forward.algorithm <= 4; ++forward.algorithm) {
      CHECK(pk_lora_forward_pick(&chip, &forward, &choice) == PK_ERROR_ALGORITHM);
      pk_last_error(text, sizeof text);
      CHECK(strstr(text, "pk_lora_forward_pick: algorithm ") == text && strstr(text, "(lora_forward_mma_") != NULL && strstr(text, ") needs compute capability 8.0 and 101376 bytes of shared memory a block, this chip has 7.") != NULL);
    }
  }
  return NULL;
}

static const char *merge_picks(void) {
  pk_lora_adapter adapter = {.a_row_stride = 48, .a_column_stride = 1, .b_row_stride = 4, .b_column_stride = 1, .rank = 4, .scale = 1.0f};
  pk_lora_merge_descriptor merge = {.size = sizeof merge,
                                    .source = shape(32, 48, PK_BF16),
                                    .destination = shape(32, 48, PK_BF16),
                                    .adapters = &adapter,
                                    .adapter_count = 1,
                                    .adapter_element_type = PK_BF16};
  pk_chip chip = chip_of(80);
  const pk_chip old = chip_of(75);
  pk_kernel_choice choice;
  char text[200];
  CHECK(pk_lora_merge_pick(&chip, &merge, &choice) == PK_OK && strcmp(choice.name, "lora_merge_mma") == 0);
  CHECK(pk_lora_merge_pick(&old, &merge, &choice) == PK_OK && strcmp(choice.name, "lora_merge_simt") == 0);
  merge.algorithm = 2;
  CHECK(pk_lora_merge_pick(&old, &merge, &choice) == PK_ERROR_ALGORITHM);
  pk_last_error(text, sizeof text);
  CHECK(strstr(text, "pk_lora_merge_pick: algorithm 2 (lora_merge_mma) needs compute capability 8.0 and no residual, this chip has 7.5, and there is no residual") == text);
  // The bits of a residual are those of one kernel; and a rank of 0 is nothing to multiply.
  merge.algorithm = 0;
  merge.residual = shape(32, 48, PK_BF16);
  CHECK(pk_lora_merge_pick(&chip, &merge, &choice) == PK_OK && strcmp(choice.name, "lora_merge_simt") == 0);
  merge.residual = (pk_matrix){.rows = 0};
  adapter.rank = 0;
  CHECK(pk_lora_merge_pick(&chip, &merge, &choice) == PK_OK && strcmp(choice.name, "lora_merge_simt") == 0);
  return NULL;
}

const char *c_pick(void) {
  const char *failure = forward_picks();
  return failure != NULL ? failure : merge_picks();
}
