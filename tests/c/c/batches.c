// Calls of several batches from C: operands that are not there, whatever their strides say, and outputs whose batches overlap.
#include "check.h"

const char *c_batches(void);

// No matrix, though its strides say something.
static const pk_matrix nowhere = {.row_stride = 3, .column_stride = 5, .batch_stride = 1};

static pk_matrix of_batches(void *data, int64_t rows, int64_t columns, int64_t batch_stride) {
  pk_matrix result = matrix(data, rows, columns);
  result.batch_stride = batch_stride;
  return result;
}

// Two batches of m = 1, n = k = 2, rank 2, of which the second rank is zeros: a layer under a row scale, and one of W alone.
typedef struct Layers {
  float x[4], dy[4], w[4], a[4], b[4], g[2], ones[4];
  float dx[4], db[8], more[8];
  pk_queue queue;
  pk_lora_gradient_target targets[2];
  pk_lora_backward_descriptor backward;
  _Alignas(256) float workspace[2048];
} Layers;

static void fill_layers(Layers *call) {
  static const float x[4] = {1, 2, 3, 4}, dy[4] = {1, -1, 2, 1}, w[4] = {1, 2, 3, 4}, a[4] = {1, 1, 0, 0}, b[4] = {1, 0, 3, 0}, g[2] = {2, 0.5f};
  memset(call, 0, sizeof *call);
  memcpy(call->x, x, sizeof x), memcpy(call->dy, dy, sizeof dy), memcpy(call->w, w, sizeof w);
  memcpy(call->a, a, sizeof a), memcpy(call->b, b, sizeof b), memcpy(call->g, g, sizeof g);
  for (int i = 0; i < 4; ++i) call->ones[i] = 1.0f;
  for (int i = 0; i < 4; ++i) call->dx[i] = -7.0f;
  for (int i = 0; i < 8; ++i) call->db[i] = call->more[i] = -7.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  const pk_lora_middle no_middle = {.scale = nowhere, .gate = nowhere, .core = nowhere};
  call->targets[0] = (pk_lora_gradient_target){.base = PK_LORA_BASE_DENSE,
                                               .adapter_element_type = PK_F32,
                                               .w = matrix(call->w, 2, 2),
                                               .dy = of_batches(call->dy, 1, 2, 2),
                                               .a = matrix(call->a, 2, 2),
                                               .b = matrix(call->b, 2, 2),
                                               .scale = 0.5f,
                                               .h = nowhere,
                                               .b_gradient = PK_GRADIENT_OVERWRITE,
                                               .da = nowhere,
                                               .db = matrix(call->db, 2, 2),
                                               .dbias = nowhere,
                                               .middle = no_middle,
                                               .dscale = nowhere,
                                               .dgate = nowhere,
                                               .dcore = nowhere,
                                               .row_scale = matrix(call->g, 1, 2)};
  call->targets[1] = (pk_lora_gradient_target){.base = PK_LORA_BASE_DENSE,
                                               .adapter_element_type = PK_F32,
                                               .w = matrix(call->w, 2, 2),
                                               .dy = of_batches(call->dy, 1, 2, 2),
                                               .a = nowhere,
                                               .b = nowhere,
                                               .h = nowhere,
                                               .da = nowhere,
                                               .db = nowhere,
                                               .dbias = nowhere,
                                               .middle = no_middle,
                                               .dscale = nowhere,
                                               .dgate = nowhere,
                                               .dcore = nowhere,
                                               .row_scale = nowhere};
  call->backward = (pk_lora_backward_descriptor){.size = sizeof(pk_lora_backward_descriptor),
                                                 .target_size = sizeof(pk_lora_gradient_target),
                                                 .batch_count = 2,
                                                 .x = of_batches(call->x, 1, 2, 2),
                                                 .dx = of_batches(call->dx, 1, 2, 2),
                                                 .targets = call->targets,
                                                 .target_count = 2,
                                                 .x_gradient = PK_GRADIENT_OVERWRITE,
                                                 .workspace = call->workspace,
                                                 .workspace_bytes = sizeof call->workspace};
}

static int are(const float *got, const float *expected, int count) {
  for (int i = 0; i < count; ++i) {
    if (got[i] != expected[i]) return 0;
  }
  return 1;
}

// g .* dy = {2, -1/2}, {4, 1/2}; x * A^T = 3, 7.
static const char *backward(void) {
  static const float dx[4] = {-1.25f, 0.25f, 13.25f, 20.75f}, db[8] = {17, 0, 1, 0, -7, -7, -7, -7}, apart[8] = {3, 0, 14, 0, -0.75f, 0, 1.75f, 0};
  Layers call;
  for (int32_t algorithm = 0; algorithm <= 3; ++algorithm) {
    fill_layers(&call);
    call.backward.algorithm = algorithm;
    CHECK(pk_lora_backward(&call.queue, &call.backward) == PK_OK);
    CHECK(are(call.dx, dx, 4) && are(call.db, db, 8));
    // A gradient of each batch, whose rows lie among the other's.
    fill_layers(&call);
    call.backward.algorithm = algorithm;
    call.targets[0].db.row_stride = 4, call.targets[0].db.batch_stride = 2;
    CHECK(pk_lora_backward(&call.queue, &call.backward) == PK_OK);
    CHECK(are(call.dx, dx, 4) && are(call.db, apart, 8));
  }
  return NULL;
}

// After `change`, a backward call is refused, says `text`, and writes nothing.
#define REFUSED(change, text)                                                                            \
  do {                                                                                                   \
    fill_layers(&call);                                                                                  \
    change;                                                                                              \
    CHECK(pk_lora_backward(&call.queue, &call.backward) == PK_ERROR_ARGUMENT);                           \
    char said[512];                                                                                      \
    pk_last_error(said, sizeof said);                                                                    \
    CHECK(strcmp(said, "pk_lora_backward: " text " with 2 batches: they would overlap") == 0);           \
    CHECK(are(call.dx, untouched, 4) && are(call.db, untouched, 8) && are(call.more, untouched, 8));     \
  } while (0)

static const char *overlapping_gradients(void) {
  static const float untouched[8] = {-7, -7, -7, -7, -7, -7, -7, -7};
  Layers call;
  pk_lora_gradient_target *const target = call.targets;
  REFUSED(call.backward.dx.batch_stride = 0, "dx has batch stride 0");
  REFUSED(call.backward.dx.batch_stride = 1, "dx has batch stride 1");
  REFUSED(target->db.batch_stride = 3, "db has batch stride 3");
  REFUSED((target->db.row_stride = 4, target->db.batch_stride = 5), "db has batch stride 5");
  REFUSED((target->a_gradient = PK_GRADIENT_ACCUMULATE, target->da = of_batches(call.more, 2, 2, 2)), "da has batch stride 2");
  REFUSED((target->bias_gradient = PK_GRADIENT_OVERWRITE, target->dbias = of_batches(call.more, 1, 2, 1)), "dbias has batch stride 1");
  REFUSED((target->middle.has = PK_LORA_MIDDLE_SCALE, target->middle.scale = matrix(call.ones, 1, 2), target->scale_gradient = PK_GRADIENT_OVERWRITE,
           target->dscale = of_batches(call.more, 1, 2, 1)),
          "dscale has batch stride 1");
  REFUSED((target->middle.has = PK_LORA_MIDDLE_GATE, target->middle.gate = matrix(call.ones, 1, 2), target->gate_gradient = PK_GRADIENT_OVERWRITE,
           target->dgate = of_batches(call.more, 1, 2, 0)),
          "dgate has batch stride 0");
  REFUSED((target->middle.has = PK_LORA_MIDDLE_GATE, target->middle.gate = matrix(call.ones, 1, 2), target->gate_gradient = PK_GRADIENT_OVERWRITE,
           target->dgate = of_batches(call.more, 1, 2, 1)),
          "dgate has batch stride 1");
  REFUSED((target->middle.has = PK_LORA_MIDDLE_CORE, target->middle.core = matrix(call.ones, 2, 2), target->core_gradient = PK_GRADIENT_OVERWRITE,
           target->dcore = of_batches(call.more, 2, 2, 1)),
          "dcore has batch stride 1");
  return NULL;
}

// x * W^T = {5, 11}, {11, 25}.
static const char *forward(void) {
  static const float y[4] = {5, 11, 11, 25}, untouched[4] = {-7, -7, -7, -7};
  Layers call;
  for (int32_t algorithm = 0; algorithm <= 4; ++algorithm) {
    fill_layers(&call);
    const pk_lora_middle no_middle = {.scale = nowhere, .gate = nowhere, .core = nowhere};
    pk_lora_target target = {.base = PK_LORA_BASE_DENSE,
                             .adapter_element_type = PK_F32,
                             .w = matrix(call.w, 2, 2),
                             .y = of_batches(call.dx, 1, 2, 2),
                             .bias = nowhere,
                             .a = nowhere,
                             .b = nowhere,
                             .saved_h = nowhere,
                             .row_scale = nowhere,
                             .middle = no_middle};
    const pk_lora_forward_descriptor forward = {.size = sizeof forward,
                                                .target_size = sizeof target,
                                                .algorithm = algorithm,
                                                .batch_count = 2,
                                                .x = call.backward.x,
                                                .targets = &target,
                                                .target_count = 1,
                                                .workspace = call.workspace,
                                                .workspace_bytes = sizeof call.workspace};
    CHECK(pk_lora_forward(&call.queue, &forward) == PK_OK && are(call.dx, y, 4));
    fill_layers(&call);
    target.y.batch_stride = 1;
    CHECK(pk_lora_forward(&call.queue, &forward) == PK_ERROR_ARGUMENT && are(call.dx, untouched, 4));
    char said[512];
    pk_last_error(said, sizeof said);
    CHECK(strcmp(said, "pk_lora_forward: y has batch stride 1 with 2 batches: they would overlap") == 0);
  }
  return NULL;
}

static const char *merge(void) {
  Layers call;
  fill_layers(&call);
  const pk_lora_merge_descriptor merge = {.size = sizeof merge,
                                          .source = matrix(call.w, 2, 2),
                                          .destination = matrix(call.dx, 2, 2),
                                          .adapter_element_type = PK_F32,
                                          .residual = nowhere,
                                          .row_scale = nowhere};
  CHECK(pk_lora_merge(&call.queue, &merge) == PK_OK && are(call.dx, call.w, 4));
  call.dx[3] = -7.0f;
  CHECK(pk_lora_unmerge(&call.queue, &merge) == PK_OK && are(call.dx, call.w, 4));
  return NULL;
}

const char *c_batches(void) {
  const char *(*const checks[])(void) = {backward, overlapping_gradients, forward, merge};
  for (size_t i = 0; i < sizeof checks / sizeof *checks; ++i) {
    const char *failure = checks[i]();
    if (failure != NULL) return failure;
  }
  return NULL;
}
