// A check that fails its function with a text, and the call that the tests share.
#ifndef CHECK_H
#define CHECK_H

#include <peft_kernels.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                                                        \
  do {                                                                                                          \
    if (!(condition)) {                                                                                         \
      static char text[1024];                                                                                   \
      char error[512];                                                                                          \
      pk_last_error(error, sizeof error);                                                                       \
      snprintf(text, sizeof text, "%s:%d: %s (last error: %s)", __FILE__, __LINE__, #condition, error);         \
      return text;                                                                                              \
    }                                                                                                           \
  } while (0)

// y [2, 2] = x [2, 3] * W^T + 2 * (x * A^T) * B^T + bias, f32, rank 1.
typedef struct Call {
  float x[6], w[6], a[3], b[2], bias[2], y[4];
  pk_queue queue;
  pk_lora_target target;
  pk_lora_forward_descriptor forward;
  pk_status_record status;
  _Alignas(256) float workspace[64];
} Call;

static inline pk_matrix matrix(void *data, int64_t rows, int64_t columns) {
  return (pk_matrix){.data = data, .rows = rows, .columns = columns, .row_stride = columns, .column_stride = 1, .element_type = PK_F32};
}

static inline void fill(Call *call) {
  memset(call, 0, sizeof *call);
  for (int i = 0; i < 6; ++i) {
    call->x[i] = (float)(i + 1);
    call->w[i] = (float)(i % 3 == i / 3);
  }
  for (int i = 0; i < 3; ++i) call->a[i] = 1.0f;
  call->b[0] = 1.0f;
  call->b[1] = -1.0f;
  call->bias[0] = 100.0f;
  call->bias[1] = 200.0f;
  for (int i = 0; i < 4; ++i) call->y[i] = -7.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 3};
  call->target = (pk_lora_target){.base = PK_LORA_BASE_DENSE,
                                  .adapter_element_type = PK_F32,
                                  .w = matrix(call->w, 2, 3),
                                  .y = matrix(call->y, 2, 2),
                                  .bias = matrix(call->bias, 1, 2),
                                  .a = matrix(call->a, 1, 3),
                                  .b = matrix(call->b, 2, 1),
                                  .scale = 2.0f};
  call->forward = (pk_lora_forward_descriptor){.size = sizeof(pk_lora_forward_descriptor),
                                               .target_size = sizeof(pk_lora_target),
                                               .x = matrix(call->x, 2, 3),
                                               .targets = &call->target,
                                               .target_count = 1,
                                               .workspace = call->workspace,
                                               .workspace_bytes = sizeof call->workspace,
                                               .status = &call->status};
}

// x W^T = {1 2; 4 5}, x A^T = {6; 15}.
static inline int is_right(const Call *call) { return call->y[0] == 113.0f && call->y[1] == 190.0f && call->y[2] == 134.0f && call->y[3] == 175.0f; }

static inline int is_untouched(const Call *call) {
  for (int i = 0; i < 4; ++i) {
    if (call->y[i] != -7.0f) return 0;
  }
  return 1;
}

#endif
