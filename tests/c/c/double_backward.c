// Second derivatives from C: what they are, and what is refused with which text and nothing written.
#include "check.h"

const char *c_double_backward(void);

// m = 1, n = k = 2, rank 1.
typedef struct Double {
  float x[2], dy[2], w[4], a[2], b[2], ux[2], ua[2], ub[2];
  float gradients[8]; // of dy, x, a and b
  pk_queue queue;
  pk_lora_double_backward_descriptor descriptor;
  _Alignas(256) float workspace[64];
} Double;

static void fill_double(Double *call) {
  static const float x[2] = {1, 2}, dy[2] = {1, -1}, w[4] = {1, 2, 3, 4}, a[2] = {1, 1}, b[2] = {1, 3}, ux[2] = {1, 1}, ua[2] = {2, 1}, ub[2] = {1, 0};
  memset(call, 0, sizeof *call);
  memcpy(call->x, x, sizeof x), memcpy(call->dy, dy, sizeof dy), memcpy(call->w, w, sizeof w), memcpy(call->a, a, sizeof a), memcpy(call->b, b, sizeof b);
  memcpy(call->ux, ux, sizeof ux), memcpy(call->ua, ua, sizeof ua), memcpy(call->ub, ub, sizeof ub);
  for (int i = 0; i < 8; ++i) call->gradients[i] = -7.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  call->descriptor = (pk_lora_double_backward_descriptor){.size = sizeof(pk_lora_double_backward_descriptor),
                                                          .base = PK_LORA_BASE_DENSE,
                                                          .adapter_element_type = PK_F32,
                                                          .x = matrix(call->x, 1, 2),
                                                          .dy = matrix(call->dy, 1, 2),
                                                          .w = matrix(call->w, 2, 2),
                                                          .a = matrix(call->a, 1, 2),
                                                          .b = matrix(call->b, 2, 1),
                                                          .scale = 0.5f,
                                                          .cotangents = PK_LORA_COTANGENT_X | PK_LORA_COTANGENT_A | PK_LORA_COTANGENT_B,
                                                          .ux = matrix(call->ux, 1, 2),
                                                          .ua = matrix(call->ua, 1, 2),
                                                          .ub = matrix(call->ub, 2, 1),
                                                          .dy_gradient = PK_GRADIENT_OVERWRITE,
                                                          .x_gradient = PK_GRADIENT_OVERWRITE,
                                                          .a_gradient = PK_GRADIENT_OVERWRITE,
                                                          .b_gradient = PK_GRADIENT_ACCUMULATE,
                                                          .ddy = matrix(call->gradients, 1, 2),
                                                          .dx = matrix(call->gradients + 2, 1, 2),
                                                          .da = matrix(call->gradients + 4, 1, 2),
                                                          .db = matrix(call->gradients + 6, 2, 1),
                                                          .workspace = call->workspace,
                                                          .workspace_bytes = sizeof call->workspace};
}

static int gradients_are(const Double *call, const float expected[8]) {
  for (int i = 0; i < 8; ++i) {
    if (call->gradients[i] != expected[i]) return 0;
  }
  return 1;
}

#define DOUBLE_REFUSED(change, expected, text)                                                               \
  do {                                                                                                       \
    fill_double(&call);                                                                                      \
    change;                                                                                                  \
    CHECK(pk_lora_double_backward(&call.queue, &call.descriptor) == expected);                               \
    char said[512];                                                                                          \
    pk_last_error(said, sizeof said);                                                                        \
    CHECK(strncmp(said, "pk_lora_double_backward: " text, strlen("pk_lora_double_backward: " text)) == 0);   \
    CHECK(gradients_are(&call, untouched) && call.workspace[0] == 0.0f);                                     \
  } while (0)

const char *c_double_backward(void) {
  // ux * A^T + x * ua^T = 6, x * A^T = 3, dy * B = -2, dy * ub = 1, ux * W^T = {3, 7}.
  static const float all[8] = {7.5f, 16.0f, -1.5f, -0.5f, -0.5f, 0.0f, -4.0f, -10.0f}, untouched[8] = {-7, -7, -7, -7, -7, -7, -7, -7};
  static const float of_x_alone[8] = {4.0f, 10.0f, 0.0f, 0.0f, -1.0f, -1.0f, -6.0f, -8.0f};
  Double call;
  uint64_t bytes = 0;
  pk_kernel_choice choice;
  pk_chip chip = {.size = sizeof chip};
  fill_double(&call);
  CHECK(pk_lora_double_backward_workspace(&call.descriptor, &bytes) == PK_OK && bytes == 36);
  for (int32_t algorithm = 0; algorithm <= 3; ++algorithm) {
    fill_double(&call);
    call.descriptor.algorithm = algorithm;
    CHECK(pk_lora_double_backward(&call.queue, &call.descriptor) == PK_OK && gradients_are(&call, all));
  }
  // A cotangent that is not there counts as 0, whatever its matrix says.
  fill_double(&call);
  call.descriptor.cotangents = PK_LORA_COTANGENT_X;
  call.descriptor.ua = call.descriptor.ub = (pk_matrix){0};
  CHECK(pk_lora_double_backward(&call.queue, &call.descriptor) == PK_OK && gradients_are(&call, of_x_alone));

  DOUBLE_REFUSED(call.descriptor.flags = 16, PK_ERROR_ARGUMENT, "flags are 0x10");
  DOUBLE_REFUSED(call.descriptor.batch_count = -1, PK_ERROR_ARGUMENT, "-1 batches, expected none below 0");
  DOUBLE_REFUSED(call.descriptor.base = PK_LORA_BASE_IN_Y, PK_ERROR_ARGUMENT, "base is 2, expected 0 (none) or 1 (dense)");
  DOUBLE_REFUSED(call.descriptor.cotangents = 8, PK_ERROR_ARGUMENT, "cotangents are 0x8, expected a subset of 0x7");
  DOUBLE_REFUSED(call.descriptor.adapter_element_type = PK_F16, PK_ERROR_ELEMENT_TYPE, "adapters of element type 2 (f16), expected f32 or f32");
  DOUBLE_REFUSED(call.descriptor.dy.element_type = PK_F16, PK_ERROR_ELEMENT_TYPE, "dy has element type 2 (f16), expected f32");
  DOUBLE_REFUSED(call.descriptor.dy.rows = 2, PK_ERROR_ARGUMENT, "dy is [2, 2], expected [1, 2]");
  DOUBLE_REFUSED(call.descriptor.w.rows = 1, PK_ERROR_ARGUMENT, "w is [1, 2], expected [2, 2]");
  DOUBLE_REFUSED(call.descriptor.a.columns = 1, PK_ERROR_ARGUMENT, "a is [1, 1], expected [1, 2]");
  DOUBLE_REFUSED(call.descriptor.b.rows = 1, PK_ERROR_ARGUMENT, "b is [1, 1], expected [2, 1]");
  DOUBLE_REFUSED(call.descriptor.ux.columns = 1, PK_ERROR_ARGUMENT, "ux is [1, 1], expected [1, 2]");
  DOUBLE_REFUSED(call.descriptor.ua.rows = 2, PK_ERROR_ARGUMENT, "ua is [2, 2], expected [1, 2]");
  DOUBLE_REFUSED(call.descriptor.ub.data = NULL, PK_ERROR_ARGUMENT, "ub is at address");
  DOUBLE_REFUSED(call.descriptor.dy_gradient = 3, PK_ERROR_ARGUMENT, "what becomes of ddy is 3, expected 0 (none), 1 (overwrite) or 2 (accumulate)");
  DOUBLE_REFUSED(call.descriptor.dx.columns = 1, PK_ERROR_ARGUMENT, "dx is [1, 1], expected [1, 2]");
  DOUBLE_REFUSED(call.descriptor.db.row_stride = 0, PK_ERROR_ARGUMENT, "db is [2, 1] with row stride 0 and column stride 1");
  DOUBLE_REFUSED(call.descriptor.batch_count = 2, PK_ERROR_ARGUMENT, "ddy has batch stride 0 with 2 batches: they would overlap");
  DOUBLE_REFUSED((call.descriptor.batch_count = 2, call.descriptor.ddy.batch_stride = 1, call.descriptor.dx.batch_stride = 2), PK_ERROR_ARGUMENT, "ddy has batch stride 1 with 2 batches: they would overlap");
  DOUBLE_REFUSED(call.descriptor.da.data = call.ux, PK_ERROR_ARGUMENT, "da and ux share the byte at address");
  DOUBLE_REFUSED(call.descriptor.ddy.data = call.gradients + 3, PK_ERROR_ARGUMENT, "ddy and dx share the byte at address");
  DOUBLE_REFUSED(call.descriptor.workspace = NULL, PK_ERROR_WORKSPACE, "the workspace has 256 bytes at");
  DOUBLE_REFUSED(call.descriptor.workspace_bytes = 35, PK_ERROR_WORKSPACE, "the workspace has 35 bytes at");
  DOUBLE_REFUSED(call.descriptor.algorithm = 7, PK_ERROR_ALGORITHM, "algorithm 7 does not exist");
  fill_double(&call);
  CHECK(pk_queue_chip(&call.queue, &chip) == PK_OK);
  CHECK(pk_lora_double_backward_pick(&chip, &call.descriptor, &choice) == PK_OK && strcmp(choice.name, "lora_input_gradient_mma_small") == 0 && choice.algorithm == 3);
  CHECK(pk_lora_double_backward_pick(&chip, &call.descriptor, NULL) == PK_ERROR_ARGUMENT && pk_lora_double_backward_pick(NULL, &call.descriptor, &choice) == PK_ERROR_VERSION);
  CHECK(pk_lora_double_backward(&call.queue, NULL) == PK_ERROR_ARGUMENT && pk_lora_double_backward_workspace(&call.descriptor, NULL) == PK_ERROR_ARGUMENT);
  return NULL;
}
