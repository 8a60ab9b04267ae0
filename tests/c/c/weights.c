// Quantisation, row norms and the magnitude's gradient from C: what they compute, and what is refused with which text and nothing written.
#include <math.h>

#include "check.h"

const char *c_quantize(void);
const char *c_weight_norm(void);
const char *c_magnitude_gradient(void);

typedef struct Quantize {
  float values[4], boundaries[3], weights[32], absmax[2], offset;
  float wide_values[256], wide_boundaries[255];
  uint8_t order[4], codes[8], absmax_codes[2];
  pk_queue queue;
  pk_lora_quantize_descriptor descriptor;
  _Alignas(256) float workspace[128];
} Quantize;

// 32 weights in two blocks of 16, two bits each: -1, 0, 1/2 and 1 of 2 and of 4.
static void fill_quantize(Quantize *call) {
  memset(call, 0, sizeof *call);
  static const float values[4] = {-1.0f, 0.0f, 0.5f, 1.0f}, boundaries[3] = {-0.5f, 0.25f, 0.75f};
  memcpy(call->values, values, sizeof values);
  memcpy(call->boundaries, boundaries, sizeof boundaries);
  for (int i = 0; i < 32; ++i) call->weights[i] = values[i % 4] * (i < 16 ? 2.0f : 4.0f);
  for (uint8_t i = 0; i < 4; ++i) call->order[i] = i;
  for (int i = 0; i < 256; ++i) call->wide_values[i] = (float)i / 128.0f - 1.0f;
  for (int i = 0; i < 255; ++i) call->wide_boundaries[i] = call->wide_values[i] + 1.0f / 256.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 5};
  call->descriptor = (pk_lora_quantize_descriptor){.size = sizeof(pk_lora_quantize_descriptor),
                                                   .matrix = matrix(call->weights, 4, 8),
                                                   .codes = call->codes,
                                                   .code_bytes = 8,
                                                   .absmax = call->absmax,
                                                   .absmax_count = 2,
                                                   .book = {.values = call->values, .boundaries = call->boundaries, .codes = call->order, .bits = 2},
                                                   .block = 16,
                                                   .workspace = call->workspace,
                                                   .workspace_bytes = sizeof call->workspace};
}

static void nest(Quantize *call) {
  call->descriptor.absmax_codes = call->absmax_codes;
  call->descriptor.absmax_code_count = 2;
  call->descriptor.absmax_offset = &call->offset;
  call->descriptor.absmax_count = 1;
  call->descriptor.absmax_book = (pk_lora_code_book){.values = call->wide_values, .boundaries = call->wide_boundaries, .bits = 8};
  call->descriptor.absmax_block = 16;
}

// After `change`, both directions, or quantize alone, return `status`, say `text` after their name, and write nothing.
#define REFUSED_IN(function, name, change, status, text)                                                        \
  do {                                                                                                          \
    fill_quantize(&call);                                                                                       \
    change;                                                                                                     \
    CHECK(function(&call.queue, &call.descriptor) == status);                                                   \
    char said[512];                                                                                             \
    pk_last_error(said, sizeof said);                                                                           \
    CHECK(strncmp(said, name ": " text, strlen(name ": " text)) == 0);                                          \
    CHECK(call.codes[0] == 0 && call.absmax[0] == 0.0f && call.offset == 0.0f && call.weights[0] == -2.0f);     \
  } while (0)
#define REFUSED(change, status, text)                                                \
  do {                                                                               \
    REFUSED_IN(pk_lora_quantize, "pk_lora_quantize", change, status, text);          \
    REFUSED_IN(pk_lora_dequantize, "pk_lora_dequantize", change, status, text);      \
  } while (0)
#define QUANTIZE_REFUSED(change, status, text) REFUSED_IN(pk_lora_quantize, "pk_lora_quantize", change, status, text)

static const char *quantize_refusals(void) {
  Quantize call;
  REFUSED(call.descriptor.size = 0, PK_ERROR_VERSION, "the descriptor says");
  REFUSED(call.descriptor.flags = 8, PK_ERROR_ARGUMENT, "flags are 0x8");
  REFUSED(call.descriptor.matrix.element_type = PK_F64, PK_ERROR_ELEMENT_TYPE, "element type 4 (f64), expected f32, f16 or bf16");
  REFUSED(call.descriptor.matrix.rows = -1, PK_ERROR_ARGUMENT, "matrix is [-1, 8]");
  REFUSED((call.descriptor.matrix.rows = INT64_C(1) << 40, call.descriptor.matrix.row_stride = 0), PK_ERROR_ARGUMENT, "matrix is [1099511627776, 8]");
  REFUSED(call.descriptor.block = 24, PK_ERROR_ARGUMENT, "block is 24, expected a power of two from 16 to 4096");
  REFUSED(call.descriptor.block = 64, PK_ERROR_ARGUMENT, "block is 64, expected one that divides 32 elements, or short_block");
  REFUSED(call.descriptor.short_block = 2, PK_ERROR_ARGUMENT, "short_block is 2, expected 0 or 1");
  REFUSED(call.descriptor.book.bits = 5, PK_ERROR_ARGUMENT, "book has codes of 5 bits, expected 2, 3, 4 or 8");
  REFUSED(call.descriptor.code_bytes = 7, PK_ERROR_ARGUMENT, "code_bytes is 7, expected 8");
  REFUSED(call.descriptor.absmax_count = 3, PK_ERROR_ARGUMENT, "absmax_count is 3, expected 2");
  REFUSED(call.descriptor.codes = NULL, PK_ERROR_ARGUMENT, "codes is null");
  REFUSED(call.descriptor.absmax = NULL, PK_ERROR_ARGUMENT, "absmax is null");
  REFUSED(call.descriptor.absmax = (float *)(void *)((char *)call.absmax + 2), PK_ERROR_ARGUMENT, "absmax is at address");
  REFUSED(call.descriptor.matrix.data = NULL, PK_ERROR_ARGUMENT, "matrix is at address");
  REFUSED(call.descriptor.algorithm = 2, PK_ERROR_ALGORITHM, "algorithm 2 does not exist");
  QUANTIZE_REFUSED(call.descriptor.book.boundaries = NULL, PK_ERROR_ARGUMENT, "book has no boundaries or no codes");
  QUANTIZE_REFUSED(call.descriptor.book.codes = NULL, PK_ERROR_ARGUMENT, "book has no boundaries or no codes");
  QUANTIZE_REFUSED(call.boundaries[1] = -0.75f, PK_ERROR_ARGUMENT, "boundary 1 of book is -0.75, expected numbers in ascending order");
  QUANTIZE_REFUSED(call.boundaries[0] = NAN, PK_ERROR_ARGUMENT, "boundary 0 of book is");
  QUANTIZE_REFUSED(call.boundaries[2] = NAN, PK_ERROR_ARGUMENT, "boundary 2 of book is");
  QUANTIZE_REFUSED(call.order[3] = 4, PK_ERROR_ARGUMENT, "code 3 of book is 4, expected one below 2^bits");
  QUANTIZE_REFUSED(call.descriptor.codes = (uint8_t *)call.weights + 127, PK_ERROR_ARGUMENT, "codes and matrix share the byte at address");
  QUANTIZE_REFUSED(call.descriptor.codes = (uint8_t *)call.absmax + 1, PK_ERROR_ARGUMENT, "codes and absmax share the byte at address");
  REFUSED_IN(pk_lora_dequantize, "pk_lora_dequantize", call.descriptor.book.values = NULL, PK_ERROR_ARGUMENT, "book has no values");
  REFUSED_IN(pk_lora_dequantize, "pk_lora_dequantize", call.descriptor.matrix.row_stride = 0, PK_ERROR_ARGUMENT, "matrix is [4, 8] with row stride 0");
  // Nested.
  REFUSED((nest(&call), call.descriptor.absmax_book.bits = 4), PK_ERROR_ARGUMENT, "absmax_book has codes of 4 bits, expected 8");
  REFUSED((nest(&call), call.descriptor.absmax_block = 0), PK_ERROR_ARGUMENT, "absmax_block is 0");
  REFUSED((nest(&call), call.descriptor.absmax_code_count = 1), PK_ERROR_ARGUMENT, "absmax_code_count is 1, expected 2");
  REFUSED((nest(&call), call.descriptor.absmax_codes = NULL), PK_ERROR_ARGUMENT, "absmax_codes is null");
  REFUSED((nest(&call), call.descriptor.absmax_offset = NULL), PK_ERROR_ARGUMENT, "absmax_offset is null");
  QUANTIZE_REFUSED((nest(&call), call.wide_boundaries[200] = 0.0f), PK_ERROR_ARGUMENT, "boundary 200 of absmax_book is 0");
  QUANTIZE_REFUSED((nest(&call), call.descriptor.workspace = NULL), PK_ERROR_WORKSPACE, "the workspace has 512 bytes at");
  QUANTIZE_REFUSED((nest(&call), call.descriptor.workspace_bytes = 8), PK_ERROR_WORKSPACE, "the workspace has 8 bytes at");
  QUANTIZE_REFUSED((nest(&call), call.descriptor.workspace = call.workspace + 1), PK_ERROR_WORKSPACE, "the workspace is at");
  QUANTIZE_REFUSED((nest(&call), call.descriptor.absmax_offset = call.workspace), PK_ERROR_ARGUMENT, "absmax_offset and workspace share the byte");
  return NULL;
}

const char *c_quantize(void) {
  Quantize call;
  uint64_t bytes = 0;
  pk_kernel_choice choice;
  pk_chip chip = {.size = sizeof chip};
  fill_quantize(&call);
  CHECK(pk_lora_quantize_workspace(&call.descriptor, &bytes) == PK_OK && bytes == 0);
  CHECK(pk_lora_quantize_workspace(&call.descriptor, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK);
  CHECK(pk_lora_quantize_pick(&chip, &call.descriptor, 1, &choice) == PK_OK && strcmp(choice.name, "lora_dequantize") == 0 && choice.algorithm == 1);
  CHECK(pk_lora_quantize_pick(&chip, &call.descriptor, 0, NULL) == PK_ERROR_ARGUMENT && pk_lora_quantize_pick(NULL, &call.descriptor, 0, &choice) == PK_ERROR_VERSION);
  CHECK(pk_lora_quantize(&call.queue, NULL) == PK_ERROR_ARGUMENT && pk_lora_quantize(NULL, &call.descriptor) == PK_ERROR_ARGUMENT);
  CHECK(pk_lora_quantize(&call.queue, &call.descriptor) == PK_OK);
  CHECK(call.absmax[0] == 2.0f && call.absmax[1] == 4.0f);
  for (int i = 0; i < 8; ++i) CHECK(call.codes[i] == 0x1b);
  float weights[32];
  memcpy(weights, call.weights, sizeof weights);
  memset(call.weights, 0, sizeof call.weights);
  CHECK(pk_lora_dequantize(&call.queue, &call.descriptor) == PK_OK && memcmp(weights, call.weights, sizeof weights) == 0);
  // Nested: absmax 2 and 4 are 3 -+ 1.
  nest(&call);
  CHECK(pk_lora_quantize_workspace(&call.descriptor, &bytes) == PK_OK && bytes == 256 + 8);
  CHECK(pk_lora_quantize(&call.queue, &call.descriptor) == PK_OK);
  CHECK(call.offset == 3.0f && call.absmax[0] == 1.0f && call.absmax_codes[0] == 0 && call.absmax_codes[1] == 255);
  CHECK(pk_lora_dequantize(&call.queue, &call.descriptor) == PK_OK && call.weights[0] == -2.0f && call.weights[19] == 3.0f + 127.0f / 128.0f);
  return quantize_refusals();
}

typedef struct Norm {
  float w[6], a[3], b[2], norm[2];
  pk_queue queue;
  pk_lora_adapter adapter;
  pk_lora_weight_norm_descriptor descriptor;
  pk_status_record status;
  _Alignas(256) float workspace[64];
} Norm;

// W = {3 0 0; 0 0 0}, B * A = {0 4 0; 0 0 0}.
static void fill_norm(Norm *call) {
  memset(call, 0, sizeof *call);
  call->w[0] = 3.0f;
  call->a[1] = 2.0f;
  call->b[0] = 1.0f;
  call->norm[0] = call->norm[1] = -7.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  call->adapter = (pk_lora_adapter){call->a, call->b, 3, 1, 1, 1, 1, 2.0f};
  call->descriptor = (pk_lora_weight_norm_descriptor){.size = sizeof(pk_lora_weight_norm_descriptor),
                                                      .w = matrix(call->w, 2, 3),
                                                      .adapters = &call->adapter,
                                                      .adapter_count = 1,
                                                      .adapter_element_type = PK_F32,
                                                      .norm = call->norm,
                                                      .norm_count = 2,
                                                      .workspace = call->workspace,
                                                      .workspace_bytes = sizeof call->workspace,
                                                      .status = &call->status};
}

#define NORM_REFUSED(change, expected, text)                                                                      \
  do {                                                                                                            \
    fill_norm(&call);                                                                                             \
    change;                                                                                                       \
    CHECK(pk_lora_weight_norm(&call.queue, &call.descriptor) == expected);                                        \
    char said[512];                                                                                               \
    pk_last_error(said, sizeof said);                                                                             \
    CHECK(strncmp(said, "pk_lora_weight_norm: " text, strlen("pk_lora_weight_norm: " text)) == 0);                \
    CHECK(call.norm[0] == -7.0f && call.norm[1] == -7.0f && call.status.failure == 0 && call.workspace[0] == 0.0f); \
  } while (0)

const char *c_weight_norm(void) {
  Norm call;
  uint64_t bytes = 0;
  pk_kernel_choice choice;
  fill_norm(&call);
  CHECK(pk_lora_weight_norm_workspace(&call.descriptor, &bytes) == PK_OK && bytes == 8);
  CHECK(pk_lora_weight_norm(&call.queue, &call.descriptor) == PK_OK && call.norm[0] == 5.0f && call.norm[1] == 0.0f);
  // Row 1 has norm 0.
  CHECK(call.status.failure == (~UINT64_C(1) << 8 | PK_FAILURE_ZERO_NORM));
  fill_norm(&call);
  call.descriptor.eps = 0.5f;
  CHECK(pk_lora_weight_norm(&call.queue, &call.descriptor) == PK_OK && call.norm[0] == 5.5f && call.norm[1] == 0.5f && call.status.failure == 0);

  NORM_REFUSED(call.descriptor.flags = 16, PK_ERROR_ARGUMENT, "flags are 0x10");
  NORM_REFUSED(call.descriptor.norm_count = 3, PK_ERROR_ARGUMENT, "norm_count is 3, expected 2");
  NORM_REFUSED(call.descriptor.norm = NULL, PK_ERROR_ARGUMENT, "norm is null");
  NORM_REFUSED(call.descriptor.norm = (float *)(void *)((char *)call.norm + 1), PK_ERROR_ARGUMENT, "norm is at address");
  NORM_REFUSED(call.descriptor.norm = call.w + 5, PK_ERROR_ARGUMENT, "norm and w share the byte at address");
  NORM_REFUSED(call.descriptor.eps = -1.0f, PK_ERROR_ARGUMENT, "eps is -1, expected a number that is at least 0");
  NORM_REFUSED(call.descriptor.eps = NAN, PK_ERROR_ARGUMENT, "eps is");
  NORM_REFUSED(call.descriptor.eps = INFINITY, PK_ERROR_ARGUMENT, "eps is inf");
  NORM_REFUSED(call.descriptor.w.element_type = PK_F64, PK_ERROR_ELEMENT_TYPE, "element type 4 (f64)");
  NORM_REFUSED(call.descriptor.adapter_element_type = PK_BF16, PK_ERROR_ELEMENT_TYPE, "adapters of element type 3 (bf16)");
  NORM_REFUSED(call.descriptor.adapter_count = 65, PK_ERROR_ARGUMENT, "65 adapters, expected 0 to 64");
  NORM_REFUSED(call.descriptor.adapters = NULL, PK_ERROR_ARGUMENT, "adapters is null");
  NORM_REFUSED(call.adapter.rank = -2, PK_ERROR_ARGUMENT, "adapter 0 has rank -2, expected at least 0");
  NORM_REFUSED(call.adapter.a = NULL, PK_ERROR_ARGUMENT, "a is at address");
  NORM_REFUSED(call.descriptor.w.data = NULL, PK_ERROR_ARGUMENT, "w is at address");
  NORM_REFUSED((call.descriptor.w.rows = INT64_C(1) << 33, call.descriptor.w.row_stride = 0), PK_ERROR_ARGUMENT, "w is [8589934592, 3], expected less than 2^31 rows");
  NORM_REFUSED(call.descriptor.workspace = NULL, PK_ERROR_WORKSPACE, "the workspace has 256 bytes at");
  NORM_REFUSED(call.descriptor.workspace_bytes = 7, PK_ERROR_WORKSPACE, "the workspace has 7 bytes at");
  NORM_REFUSED(call.descriptor.workspace = call.workspace + 1, PK_ERROR_WORKSPACE, "the workspace is at");
  NORM_REFUSED(call.descriptor.status = (pk_status_record *)(void *)((char *)&call.status + 4), PK_ERROR_ARGUMENT, "status is at address");
  NORM_REFUSED(call.descriptor.algorithm = 7, PK_ERROR_ALGORITHM, "algorithm 7 does not exist");
  fill_norm(&call);
  const pk_chip old = {sizeof old, 75, 40, 64 * 1024};
  CHECK(pk_lora_weight_norm_pick(&old, &call.descriptor, &choice) == PK_ERROR_ALGORITHM);
  CHECK(pk_lora_weight_norm(&call.queue, NULL) == PK_ERROR_ARGUMENT && pk_lora_weight_norm_workspace(&call.descriptor, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_lora_weight_norm_pick(&old, &call.descriptor, NULL) == PK_ERROR_ARGUMENT && pk_lora_weight_norm_pick(NULL, &call.descriptor, &choice) == PK_ERROR_VERSION);
  return NULL;
}

typedef struct Magnitude {
  float dy[4], y[4], bias[2], magnitude[2], gradient[2];
  pk_queue queue;
  pk_lora_magnitude_gradient_descriptor descriptor;
  pk_status_record status;
  _Alignas(256) float workspace[64];
} Magnitude;

static void fill_magnitude(Magnitude *call) {
  static const float dy[4] = {1, 2, 3, -1}, y[4] = {5, 1, 7, 3};
  memset(call, 0, sizeof *call);
  memcpy(call->dy, dy, sizeof dy);
  memcpy(call->y, y, sizeof y);
  call->bias[0] = call->bias[1] = 1.0f;
  call->magnitude[0] = 2.0f, call->magnitude[1] = -4.0f;
  call->gradient[0] = call->gradient[1] = -7.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  call->descriptor = (pk_lora_magnitude_gradient_descriptor){.size = sizeof(pk_lora_magnitude_gradient_descriptor),
                                                             .dy = matrix(call->dy, 2, 2),
                                                             .y = matrix(call->y, 2, 2),
                                                             .bias = matrix(call->bias, 1, 2),
                                                             .magnitude = matrix(call->magnitude, 1, 2),
                                                             .dmagnitude = matrix(call->gradient, 1, 2),
                                                             .mode = PK_GRADIENT_OVERWRITE,
                                                             .workspace = call->workspace,
                                                             .workspace_bytes = sizeof call->workspace,
                                                             .status = &call->status};
}

#define MAGNITUDE_REFUSED(change, expected, text)                                                                              \
  do {                                                                                                                         \
    fill_magnitude(&call);                                                                                                     \
    change;                                                                                                                    \
    CHECK(pk_lora_magnitude_gradient(&call.queue, &call.descriptor) == expected);                                              \
    char said[512];                                                                                                            \
    pk_last_error(said, sizeof said);                                                                                          \
    CHECK(strncmp(said, "pk_lora_magnitude_gradient: " text, strlen("pk_lora_magnitude_gradient: " text)) == 0);               \
    CHECK(call.gradient[0] == -7.0f && call.gradient[1] == -7.0f && call.status.failure == 0 && call.workspace[0] == 0.0f);    \
  } while (0)

const char *c_magnitude_gradient(void) {
  Magnitude call;
  uint64_t bytes = 0;
  pk_kernel_choice choice;
  pk_chip chip = {.size = sizeof chip};
  fill_magnitude(&call);
  CHECK(pk_lora_magnitude_gradient_workspace(&call.descriptor, &bytes) == PK_OK && bytes == 8);
  CHECK(pk_lora_magnitude_gradient(&call.queue, &call.descriptor) == PK_OK && call.gradient[0] == 11.0f && call.gradient[1] == 0.5f && call.status.failure == 0);
  fill_magnitude(&call);
  call.descriptor.mode = PK_GRADIENT_ACCUMULATE;
  call.descriptor.bias = (pk_matrix){0};
  call.magnitude[1] = 0.0f;
  CHECK(pk_lora_magnitude_gradient(&call.queue, &call.descriptor) == PK_OK && call.gradient[0] == 6.0f && call.gradient[1] == -7.0f);
  CHECK(call.status.failure == (~UINT64_C(1) << 8 | PK_FAILURE_ZERO_MAGNITUDE));

  MAGNITUDE_REFUSED(call.descriptor.flags = 16, PK_ERROR_ARGUMENT, "flags are 0x10");
  MAGNITUDE_REFUSED(call.descriptor.mode = PK_GRADIENT_NONE, PK_ERROR_ARGUMENT, "mode is 0, expected 1 (overwrite) or 2 (accumulate)");
  MAGNITUDE_REFUSED(call.descriptor.batch_count = -1, PK_ERROR_ARGUMENT, "-1 batches, expected none below 0");
  MAGNITUDE_REFUSED(call.descriptor.dy.element_type = PK_F64, PK_ERROR_ELEMENT_TYPE, "element type 4 (f64)");
  MAGNITUDE_REFUSED(call.descriptor.y.element_type = PK_F16, PK_ERROR_ELEMENT_TYPE, "y has element type 2 (f16), expected f32");
  MAGNITUDE_REFUSED(call.descriptor.y.rows = 1, PK_ERROR_ARGUMENT, "y is [1, 2], expected [2, 2]");
  MAGNITUDE_REFUSED(call.descriptor.bias.columns = 1, PK_ERROR_ARGUMENT, "bias is [1, 1], expected [1, 2]");
  MAGNITUDE_REFUSED(call.descriptor.bias.columns = 0, PK_ERROR_ARGUMENT, "bias is [1, 0], expected [1, 2]");
  MAGNITUDE_REFUSED(call.descriptor.magnitude.columns = 1, PK_ERROR_ARGUMENT, "magnitude is [1, 1], expected [1, 2]");
  MAGNITUDE_REFUSED(call.descriptor.magnitude.data = NULL, PK_ERROR_ARGUMENT, "magnitude is at address");
  MAGNITUDE_REFUSED(call.descriptor.dmagnitude.column_stride = 0, PK_ERROR_ARGUMENT, "dmagnitude is [1, 2] with row stride 2 and column stride 0");
  MAGNITUDE_REFUSED(call.descriptor.dmagnitude.data = call.y + 3, PK_ERROR_ARGUMENT, "dmagnitude and y share the byte at address");
  MAGNITUDE_REFUSED((call.descriptor.batch_count = 2, call.descriptor.magnitude.batch_stride = 2), PK_ERROR_ARGUMENT, "dmagnitude is one for all batches, expected one for each of 2");
  MAGNITUDE_REFUSED((call.descriptor.batch_count = 2, call.descriptor.dmagnitude.batch_stride = 1), PK_ERROR_ARGUMENT, "dmagnitude has batch stride 1 with 2 batches: they would overlap");
  MAGNITUDE_REFUSED((call.descriptor.batch_count = INT64_C(1) << 50), PK_ERROR_ARGUMENT, "1125899906842624 batches of [2, 2], expected at most 2^48 rows");
  MAGNITUDE_REFUSED(call.descriptor.workspace = NULL, PK_ERROR_WORKSPACE, "the workspace has 256 bytes at");
  MAGNITUDE_REFUSED(call.descriptor.workspace_bytes = 7, PK_ERROR_WORKSPACE, "the workspace has 7 bytes at");
  MAGNITUDE_REFUSED(call.descriptor.status = (pk_status_record *)(void *)((char *)&call.status + 4), PK_ERROR_ARGUMENT, "status is at address");
  MAGNITUDE_REFUSED(call.descriptor.algorithm = 7, PK_ERROR_ALGORITHM, "algorithm 7 does not exist");
  fill_magnitude(&call);
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK);
  CHECK(pk_lora_magnitude_gradient_pick(&chip, &call.descriptor, &choice) == PK_OK && strcmp(choice.name, "lora_magnitude_gradient_simt") == 0 && choice.algorithm == 1);
  CHECK(pk_lora_magnitude_gradient_pick(&chip, &call.descriptor, NULL) == PK_ERROR_ARGUMENT && pk_lora_magnitude_gradient_pick(NULL, &call.descriptor, &choice) == PK_ERROR_VERSION);
  CHECK(pk_lora_magnitude_gradient(&call.queue, NULL) == PK_ERROR_ARGUMENT && pk_lora_magnitude_gradient_workspace(&call.descriptor, NULL) == PK_ERROR_ARGUMENT);
  return NULL;
}
