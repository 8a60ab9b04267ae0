// Calls that are refused: the status, the text, and nothing written.
#include <limits.h>

#include "check.h"

const char *c_last_error(void);
const char *c_refusals(void);

const char *c_last_error(void) {
  const char *expected = "pk_lora_forward: the queue is null";
  CHECK(pk_lora_forward(NULL, NULL) == PK_ERROR_ARGUMENT);
  char buffer[64];
  memset(buffer, '#', sizeof buffer);
  CHECK(pk_last_error(NULL, 0) == strlen(expected) && pk_last_error(NULL, 64) == strlen(expected));
  CHECK(pk_last_error(buffer, 0) == strlen(expected) && buffer[0] == '#');
  CHECK(pk_last_error(buffer, 1) == strlen(expected) && buffer[0] == '\0' && buffer[1] == '#');
  CHECK(pk_last_error(buffer, 6) == strlen(expected) && strcmp(buffer, "pk_lo") == 0 && buffer[6] == '#');
  CHECK(pk_last_error(buffer, strlen(expected)) == strlen(expected) && strlen(buffer) == strlen(expected) - 1);
  CHECK(pk_last_error(buffer, strlen(expected) + 1) == strlen(expected) && strcmp(buffer, expected) == 0);
  CHECK(buffer[strlen(expected) + 1] == '#');
  CHECK(pk_last_error(buffer, sizeof buffer) == strlen(expected) && strcmp(buffer, expected) == 0);
  return NULL;
}

// After `change`, a forward call returns `status`, says `text`, and writes nothing.
#define REFUSED(change, status_expected, text_expected)                                    \
  do {                                                                                     \
    fill(&call);                                                                           \
    change;                                                                                \
    CHECK(pk_lora_forward(&call.queue, &call.forward) == status_expected);                 \
    char said[512];                                                                        \
    pk_last_error(said, sizeof said);                                                      \
    CHECK(strncmp(said, text_expected, strlen(text_expected)) == 0);                       \
    CHECK(is_untouched(&call) && call.status.failure == 0 && call.workspace[0] == 0.0f);   \
  } while (0)

static const char *forward_refusals(void) {
  Call call;
  static const int32_t rows[2] = {0, 0};
  static const pk_lora_segment segments[1] = {{0, 2, 0, 0}};
  static const pk_lora_adapter adapter = {.rank = 1};

  REFUSED(call.queue.kind = 0, PK_ERROR_ARGUMENT, "pk_lora_forward: the queue's kind is 0, expected 1 (emulator) or 2 (CUDA)");
  REFUSED(call.queue.kind = 77, PK_ERROR_ARGUMENT, "pk_lora_forward: the queue's kind is 77, expected 1 (emulator) or 2 (CUDA)");
  REFUSED(call.queue.device = 75, PK_ERROR_NO_DEVICE, "");
  if (!pk_has_queue(PK_QUEUE_CUDA)) REFUSED(call.queue.kind = PK_QUEUE_CUDA, PK_ERROR_NOT_BUILT, "this library was built without CUDA");
  REFUSED(call.forward.flags = 8, PK_ERROR_ARGUMENT, "pk_lora_forward: flags are 0x8, expected a subset of 0x7");
  REFUSED(call.forward.batch_count = -1, PK_ERROR_ARGUMENT, "pk_lora_forward: -1 batches, 1 targets and 0 segments, expected none below 0");
  REFUSED(call.forward.target_count = -1, PK_ERROR_ARGUMENT, "pk_lora_forward: 1 batches, -1 targets and 0 segments, expected none below 0");
  REFUSED(call.forward.targets = NULL, PK_ERROR_ARGUMENT, "pk_lora_forward: targets is null");
  REFUSED((call.forward.row_adapter = rows, call.forward.segments = segments), PK_ERROR_ARGUMENT, "pk_lora_forward: both row_adapter and segments are given, expected at most one");
  REFUSED(call.forward.row_adapter = rows, PK_ERROR_ARGUMENT, "pk_lora_forward: row_adapter or segments choose from a table, but a target has no table");
  REFUSED((call.target.adapters = &adapter, call.target.adapter_count = 1), PK_ERROR_ARGUMENT, "pk_lora_forward: a target has a table of adapters, but neither");
  REFUSED((call.forward.row_adapter = rows, call.target.adapters = &adapter, call.target.adapter_count = -1), PK_ERROR_ARGUMENT,
          "pk_lora_forward: a table of -1 adapters of rank at most 0, expected neither below 0");
  REFUSED((call.forward.row_adapter = rows, call.target.adapters = &adapter, call.target.max_rank = -1), PK_ERROR_ARGUMENT,
          "pk_lora_forward: a table of 0 adapters of rank at most -1, expected neither below 0");
  REFUSED(call.forward.algorithm = 1000, PK_ERROR_ALGORITHM, "pk_lora_forward: algorithm 1000 does not exist");
  REFUSED(call.forward.workspace_bytes = 7, PK_ERROR_WORKSPACE, "pk_lora_forward: the workspace has 7 bytes at ");
  REFUSED(call.forward.workspace = NULL, PK_ERROR_WORKSPACE, "pk_lora_forward: the workspace has 256 bytes at ");
  REFUSED(call.forward.workspace = call.workspace + 1, PK_ERROR_WORKSPACE, "pk_lora_forward: the workspace is at ");
  // Operands.
  REFUSED(call.forward.x.data = NULL, PK_ERROR_ARGUMENT, "pk_lora_forward: x is at address ");
  REFUSED(call.forward.x.rows = -2, PK_ERROR_ARGUMENT, "pk_lora_forward: x is [-2, 3], expected [0, 3]");
  REFUSED(call.forward.x.columns = 4, PK_ERROR_ARGUMENT, "pk_lora_forward: w is [2, 3], expected [2, 4]");
  REFUSED(call.forward.x.row_stride = -3, PK_ERROR_ARGUMENT, "pk_lora_forward: x has row stride -3, column stride 1 and batch stride 0, expected none below 0");
  REFUSED((call.forward.x.row_stride = 3, call.forward.x.column_stride = 2), PK_ERROR_ARGUMENT, "pk_lora_forward: x has row stride 3, column stride 2 and batch stride 0");
  REFUSED(call.forward.x.element_type = PK_F64, PK_ERROR_ELEMENT_TYPE, "pk_lora_forward: element type 4 (f64), expected f32, f16 or bf16");
  REFUSED(call.forward.x.element_type = 0, PK_ERROR_ELEMENT_TYPE, "pk_lora_forward: ");
  REFUSED(call.target.adapter_element_type = PK_F16, PK_ERROR_ELEMENT_TYPE, "pk_lora_forward: adapters of element type 2 (f16), expected f32 or f32");
  REFUSED(call.target.w.element_type = PK_BF16, PK_ERROR_ELEMENT_TYPE, "pk_lora_forward: w has element type 3 (bf16), expected f32");
  REFUSED(call.target.base = 4, PK_ERROR_ARGUMENT, "pk_lora_forward: base is 4, expected 0 (none), 1 (dense), 2 (in y) or 3 (quantised)");
  REFUSED(call.target.base = PK_LORA_BASE_QUANTIZED, PK_ERROR_ARGUMENT, "pk_lora_forward: block is 0, expected a power of two from 16 to 4096");
  REFUSED((call.target.base = PK_LORA_BASE_QUANTIZED, call.target.quantized.block = 64), PK_ERROR_ARGUMENT, "pk_lora_forward: block is 64, expected one that divides 6 elements, or short_block");
  REFUSED((call.target.base = PK_LORA_BASE_QUANTIZED, call.target.quantized.block = 64, call.target.quantized.short_block = 1), PK_ERROR_ARGUMENT,
          "pk_lora_forward: book has codes of 0 bits, expected 2, 3, 4 or 8");
  REFUSED((call.target.base = PK_LORA_BASE_QUANTIZED, call.target.quantized.block = 64, call.target.quantized.short_block = 1, call.target.quantized.book.bits = 4), PK_ERROR_ARGUMENT,
          "pk_lora_forward: book has no values");
  REFUSED(call.forward.slab_bytes = -1, PK_ERROR_ARGUMENT, "pk_lora_forward: slab_bytes is -1, expected at least 0");
  REFUSED(call.forward.algorithm = 5, PK_ERROR_ALGORITHM, "pk_lora_forward: algorithm 5 (lora_forward_quantized_small) is for a quantised W, this call has none");
  REFUSED(call.target.y.rows = 3, PK_ERROR_ARGUMENT, "pk_lora_forward: y is [3, 2], expected [2, 2]");
  REFUSED(call.target.y.data = NULL, PK_ERROR_ARGUMENT, "pk_lora_forward: y is at address ");
  REFUSED(call.target.y.data = (char *)call.y + 2, PK_ERROR_ARGUMENT, "pk_lora_forward: y is at address ");
  REFUSED(call.target.a.rows = -1, PK_ERROR_ARGUMENT, "pk_lora_forward: a is [-1, 3], expected [0, 3]");
  REFUSED(call.target.b.columns = 2, PK_ERROR_ARGUMENT, "pk_lora_forward: b is [2, 2], expected [2, 1]");
  REFUSED(call.target.bias.columns = 3, PK_ERROR_ARGUMENT, "pk_lora_forward: bias is [1, 3], expected [1, 2]");
  REFUSED(call.forward.batch_count = 2, PK_ERROR_ARGUMENT, "pk_lora_forward: y has batch stride 0 with 2 batches: they would overlap");
  // More elements of x * A^T than 64 bits count, on memory of a few bytes: strides are 0.
  REFUSED((call.forward.x.rows = call.target.y.rows = INT64_C(1) << 40, call.forward.x.row_stride = 0, call.target.y.columns = call.target.w.rows = call.target.b.rows = 0,
           call.target.bias.columns = 0, call.target.a.rows = call.target.b.columns = 1 << 24, call.target.a.row_stride = 0),
          PK_ERROR_ARGUMENT, "pk_lora_forward: 1099511627776 rows with ranks that add up to 16777216, expected ");
  REFUSED(call.forward.size = UINT64_MAX, PK_ERROR_VERSION, "pk_lora_forward: the descriptor says that it has 18446744073709551615 bytes");
  REFUSED((call.forward.x.rows = INT64_MAX, call.target.y.rows = INT64_MAX), PK_ERROR_ARGUMENT, "pk_lora_forward: x is [9223372036854775807, 3] with strides 3 and 1 and batch stride 0, expected at most 2^48 each");
  REFUSED(call.target.y.row_stride = 1, PK_ERROR_ARGUMENT, "pk_lora_forward: y is [2, 2] with row stride 1 and column stride 1, expected every element in a place of its own");
  // What lies between A [1, 3] and B [2, 1].
  static const int32_t beyond[1] = {1}, twice[2] = {0, 0};
  REFUSED(call.target.middle.has = 32, PK_ERROR_ARGUMENT, "pk_lora_forward: middle.has is 0x20, expected a subset of 0x1f with at most one of 0x1 and 0x2");
  REFUSED(call.target.middle.has = 3, PK_ERROR_ARGUMENT, "pk_lora_forward: middle.has is 0x3, expected ");
  REFUSED(call.target.middle.has = PK_LORA_MIDDLE_RANKS | PK_LORA_MIDDLE_CORE, PK_ERROR_ARGUMENT, "pk_lora_forward: a middle has both a list of ranks and a core, expected at most one");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_RANKS, call.target.middle.rank_count = -1), PK_ERROR_ARGUMENT, "pk_lora_forward: a list of -1 ranks of 3 elements, expected at least 0");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_RANKS, call.target.middle.rank_count = 1), PK_ERROR_ARGUMENT, "pk_lora_forward: the list of ranks is null");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_HOST_RANKS, call.target.middle.ranks = beyond, call.target.middle.rank_count = 1), PK_ERROR_ARGUMENT,
          "pk_lora_forward: entry 0 of the list of ranks is 1, expected 0 to 0");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_HOST_RANKS, call.target.middle.ranks = twice, call.target.middle.rank_count = 2), PK_ERROR_ARGUMENT,
          "pk_lora_forward: a list of 2 ranks of an adapter of rank 1, expected each rank once");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_HOST_RANKS, call.target.middle.ranks = twice, call.target.middle.rank_count = 2, call.target.a.rows = call.target.b.columns = 3,
           call.target.a.row_stride = 0, call.target.b.row_stride = 0),
          PK_ERROR_ARGUMENT, "pk_lora_forward: the list of ranks has 0 more than once, expected each rank once");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_SCALE, call.target.middle.scale = matrix(call.a, 1, 2)), PK_ERROR_ARGUMENT, "pk_lora_forward: middle.scale is [1, 2], expected [1, 1]");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_SCALE, call.target.middle.scale = matrix(NULL, 1, 1)), PK_ERROR_ARGUMENT, "pk_lora_forward: middle.scale is at address ");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_GATE, call.target.middle.gate = matrix(call.a, 1, 1)), PK_ERROR_ARGUMENT, "pk_lora_forward: middle.gate is [1, 1], expected [2, 1]");
  REFUSED((call.target.middle.has = PK_LORA_MIDDLE_CORE, call.target.middle.core = matrix(call.a, 2, 1)), PK_ERROR_ARGUMENT, "pk_lora_forward: middle.core is [2, 1], expected [1, 1]");
  REFUSED((call.forward.row_adapter = rows, call.target.adapters = &adapter, call.target.adapter_count = 1, call.target.middle.has = PK_LORA_MIDDLE_SCALE), PK_ERROR_ARGUMENT,
          "pk_lora_forward: a target has both a table of adapters and a middle, expected at most one");
  REFUSED(call.forward.status = (pk_status_record *)((char *)&call + 4), PK_ERROR_ARGUMENT, "pk_lora_forward: status is at address ");
  return NULL;
}

static const char *merge_refusals(void) {
  Call call;
  fill(&call);
  pk_lora_adapter adapter = {.a = call.a, .b = call.b, .a_row_stride = 3, .a_column_stride = 1, .b_row_stride = 1, .b_column_stride = 1, .rank = 1, .scale = 2.0f};
  const pk_lora_merge_descriptor right = {.size = sizeof right,
                                          .source = matrix(call.x, 2, 3),
                                          .destination = matrix(call.w, 2, 3),
                                          .adapters = &adapter,
                                          .adapter_count = 1,
                                          .adapter_element_type = PK_F32};
  pk_lora_merge_descriptor merge = right;
  CHECK(pk_lora_merge(NULL, &merge) == PK_ERROR_ARGUMENT && pk_lora_merge(&call.queue, NULL) == PK_ERROR_ARGUMENT);
  adapter.rank = -1;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  adapter.rank = 1;
  merge.adapter_count = 65;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge.adapter_count = -1;
  CHECK(pk_lora_unmerge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge = right;
  merge.adapters = NULL;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge = right;
  merge.residual = matrix(call.workspace, 2, 3);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ELEMENT_TYPE);
  // A residual of sixteen bits that is nowhere, or between two elements.
  merge = right;
  merge.source.element_type = merge.destination.element_type = PK_F16;
  merge.residual = matrix(NULL, 2, 3);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge.residual = matrix((char *)call.workspace + 1, 2, 3);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge = right;
  merge.destination.rows = 1;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge = right;
  merge.algorithm = -4;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ALGORITHM);
  // A gate belongs to tokens; a row scale of other rows, a status between two; a middle needs a workspace.
  pk_lora_middle middle = {.has = PK_LORA_MIDDLE_GATE, .gate = matrix(call.x, 0, 1)};
  char text[512];
  merge = right;
  merge.middles = &middle;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  pk_last_error(text, sizeof text);
  CHECK(strstr(text, "pk_lora_merge: the middle of adapter 0 has a gate, which belongs to tokens, expected none") == text);
  middle = (pk_lora_middle){.has = PK_LORA_MIDDLE_SCALE, .scale = matrix(call.b, 1, 2)};
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  middle.scale = matrix(call.b, 1, 1);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_WORKSPACE);
  merge.workspace = call.workspace;
  merge.workspace_bytes = 255;
  CHECK(pk_lora_unmerge(&call.queue, &merge) == PK_ERROR_WORKSPACE);
  merge.workspace_bytes = 256;
  merge.row_scale = matrix(call.b, 1, 3);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge.row_scale = matrix(call.w, 1, 2);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  merge.row_scale = (pk_matrix){.rows = 0};
  merge.status = (pk_status_record *)(void *)((char *)&call.status + 4);
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_ERROR_ARGUMENT);
  CHECK(pk_lora_merge_workspace(&right, NULL) == PK_ERROR_ARGUMENT && pk_lora_merge_workspace(NULL, &call.forward.workspace_bytes) == PK_ERROR_ARGUMENT);
  for (int i = 0; i < 6; ++i) CHECK(call.w[i] == (float)(i % 3 == i / 3));
  merge = right;
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_OK && call.w[0] == 3.0f);
  return NULL;
}

const char *c_refusals(void) {
  Call call;
  fill(&call);
  CHECK(pk_lora_forward(&call.queue, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_status_read(&call.queue, NULL, &call.status) == PK_ERROR_ARGUMENT);
  CHECK(pk_status_read(&call.queue, &call.status, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_prepare(NULL) == PK_ERROR_ARGUMENT && pk_queue_chip(NULL, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_queue_chip(&call.queue, NULL) == PK_ERROR_VERSION);
  pk_chip chip = {.size = sizeof chip};
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK);
  CHECK(pk_lora_forward_workspace(&call.forward, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_lora_forward_pick(&chip, &call.forward, NULL) == PK_ERROR_ARGUMENT);
  const char *failure = forward_refusals();
  return failure != NULL ? failure : merge_refusals();
}
