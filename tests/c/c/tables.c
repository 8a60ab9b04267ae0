// Tables of adapters in backward, and lists of ranks of adapters without any, from C: what they make, and what is refused with which text, nothing written.
#include "check.h"

const char *c_tables(void);

// Two rows of x [2, 3] and dY [2, 2], W [2, 3] and a table of one adapter of rank 1, which the first row has.
typedef struct Tables {
  float x[6], dy[4], w[6], a[3], b[2];
  float dx[6], da[3], db[2], dbias[2];
  int32_t rows[2];
  pk_lora_adapter adapter;
  pk_lora_adapter_gradient gradient;
  pk_queue queue;
  pk_lora_gradient_target targets[2];
  pk_lora_backward_descriptor descriptor;
  pk_status_record status;
  _Alignas(256) float workspace[1024];
} Tables;

static void fill_tables(Tables *call) {
  memset(call, 0, sizeof *call);
  for (int i = 0; i < 6; ++i) call->x[i] = (float)(i + 1), call->w[i] = (float)(i % 3 == i / 3), call->dx[i] = -7.0f;
  for (int i = 0; i < 4; ++i) call->dy[i] = (float)(i % 2 == i / 2);
  for (int i = 0; i < 3; ++i) call->a[i] = 1.0f, call->da[i] = -7.0f;
  for (int i = 0; i < 2; ++i) call->b[i] = (float)(1 - 2 * i), call->db[i] = call->dbias[i] = -7.0f;
  call->rows[1] = -1;
  call->adapter = (pk_lora_adapter){.a = call->a, .b = call->b, .a_row_stride = 3, .a_column_stride = 1, .b_row_stride = 1, .b_column_stride = 1};
  call->adapter.rank = 1, call->adapter.scale = 2.0f;
  call->gradient = (pk_lora_adapter_gradient){.da = call->da, .db = call->db, .da_row_stride = 3, .da_column_stride = 1};
  call->gradient.db_row_stride = call->gradient.db_column_stride = 1;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  call->targets[0] = (pk_lora_gradient_target){.base = PK_LORA_BASE_DENSE,
                                               .adapter_element_type = PK_F32,
                                               .w = matrix(call->w, 2, 3),
                                               .dy = matrix(call->dy, 2, 2),
                                               .a_gradient = PK_GRADIENT_OVERWRITE,
                                               .b_gradient = PK_GRADIENT_OVERWRITE,
                                               .bias_gradient = PK_GRADIENT_OVERWRITE,
                                               .dbias = matrix(call->dbias, 1, 2),
                                               .adapters = &call->adapter,
                                               .adapter_count = 1,
                                               .max_rank = 1,
                                               .gradients = &call->gradient};
  call->descriptor = (pk_lora_backward_descriptor){.size = sizeof(pk_lora_backward_descriptor),
                                                   .target_size = sizeof(pk_lora_gradient_target),
                                                   .x = matrix(call->x, 2, 3),
                                                   .dx = matrix(call->dx, 2, 3),
                                                   .targets = call->targets,
                                                   .target_count = 1,
                                                   .x_gradient = PK_GRADIENT_OVERWRITE,
                                                   .workspace = call->workspace,
                                                   .workspace_bytes = sizeof call->workspace,
                                                   .status = &call->status,
                                                   .row_adapter = call->rows};
}

static const int32_t list[2] = {0, 1};

// An adapter of rank 0 with a list of ranks in device memory: A [0, 3], B [2, 0].
static void list_ranks(Tables *call, pk_lora_gradient_target *target, int64_t count) {
  *target = call->targets[0];
  target->adapters = NULL, target->adapter_count = target->max_rank = 0, target->gradients = NULL;
  target->a = matrix(NULL, 0, 3), target->b = matrix(NULL, 2, 0), target->scale = 2.0f;
  target->da = matrix(call->da, 0, 3), target->db = matrix(call->db, 2, 0);
  target->middle = (pk_lora_middle){.has = PK_LORA_MIDDLE_RANKS, .ranks = list, .rank_count = count};
}

// The same in place of the table.
static void list_alone(Tables *call, int64_t count) {
  call->descriptor.row_adapter = NULL;
  list_ranks(call, call->targets, count);
}

// And beside the table.
static void list_beside(Tables *call) {
  call->descriptor.target_count = 2;
  list_ranks(call, call->targets + 1, 2);
  call->targets[1].bias_gradient = PK_GRADIENT_NONE;
}

// A table of so many, beside x with so many columns and no W.
static int32_t workspace_of(Tables *call, int64_t count, int64_t rank, int64_t columns) {
  uint64_t bytes = 0;
  fill_tables(call);
  call->targets[0].base = PK_LORA_BASE_NONE;
  call->targets[0].adapter_count = count, call->targets[0].max_rank = rank;
  call->descriptor.x = call->descriptor.dx = matrix(NULL, 2, columns);
  return pk_lora_backward_workspace(&call->descriptor, &bytes);
}

static int are(const float *values, const float *expected, int count) {
  for (int i = 0; i < count; ++i) {
    if (values[i] != expected[i]) return 0;
  }
  return 1;
}

static const float untouched[6] = {-7, -7, -7, -7, -7, -7};

#define TABLES_REFUSED(change, expected, text)                                               \
  do {                                                                                       \
    fill_tables(&call);                                                                      \
    change;                                                                                  \
    CHECK(pk_lora_backward(&call.queue, &call.descriptor) == expected);                      \
    char said[512];                                                                          \
    pk_last_error(said, sizeof said);                                                        \
    CHECK(strncmp(said, "pk_lora_backward: " text, strlen("pk_lora_backward: " text)) == 0); \
    CHECK(are(call.dx, untouched, 6) && are(call.da, untouched, 3));                         \
    CHECK(are(call.db, untouched, 2) && are(call.dbias, untouched, 2));                      \
    CHECK(call.status.failure == 0 && call.workspace[0] == 0.0f);                            \
  } while (0)

static const char *tables(void) {
  static const float dx[6] = {3, 2, 2, 0, 1, 0}, da[3] = {2, 4, 6}, db[2] = {12, 0}, dbias[2] = {1, 1};
  static const pk_lora_segment segments[1] = {{0, 1, 0, 0}};
  Tables call;
  for (int32_t algorithm = 0; algorithm <= 3; ++algorithm) {
    fill_tables(&call);
    call.descriptor.algorithm = algorithm;
    CHECK(pk_lora_backward(&call.queue, &call.descriptor) == PK_OK && call.status.failure == 0);
    CHECK(are(call.dx, dx, 6) && are(call.da, da, 3) && are(call.db, db, 2) && are(call.dbias, dbias, 2));
  }
  // Where nobody asks for gradients of factors, there need be no table of them, and nobody reads one.
  fill_tables(&call);
  call.targets[0].a_gradient = call.targets[0].b_gradient = PK_GRADIENT_NONE;
  call.targets[0].gradients = NULL;
  CHECK(pk_lora_backward(&call.queue, &call.descriptor) == PK_OK && are(call.dx, dx, 6) && are(call.da, untouched, 3) && are(call.db, untouched, 2));

  TABLES_REFUSED(call.descriptor.segment_count = -1, PK_ERROR_ARGUMENT, "-1 segments, expected at least 0");
  TABLES_REFUSED(call.descriptor.segments = segments, PK_ERROR_ARGUMENT, "both row_adapter and segments are given, expected at most one");
  TABLES_REFUSED(call.descriptor.row_adapter = NULL, PK_ERROR_ARGUMENT,
                 "a target has a table of adapters, but neither row_adapter nor segments chooses from it");
  TABLES_REFUSED((call.targets[0].adapters = NULL, call.targets[0].a = matrix(call.a, 1, 3), call.targets[0].b = matrix(call.b, 2, 1)), PK_ERROR_ARGUMENT,
                 "row_adapter or segments choose from a table, but a target has no table");
  TABLES_REFUSED(call.targets[0].adapter_count = -1, PK_ERROR_ARGUMENT, "a table of -1 adapters of rank at most 1, expected neither below 0");
  TABLES_REFUSED(call.targets[0].max_rank = -1, PK_ERROR_ARGUMENT, "a table of 1 adapters of rank at most -1, expected neither below 0");
  TABLES_REFUSED(call.targets[0].max_rank = INT64_C(1) << 31, PK_ERROR_ARGUMENT, "a table of 1 adapters of rank at most 2147483648");
  TABLES_REFUSED(call.targets[0].adapter_count = INT64_C(1) << 31, PK_ERROR_ARGUMENT,
                 "a table of 2147483648 adapters of rank at most 1, expected less than 2^31 of them, and gradients of at most 2^52");
  TABLES_REFUSED((call.targets[0].adapter_count = INT64_C(1) << 30, call.targets[0].max_rank = INT64_C(1) << 21), PK_ERROR_ARGUMENT,
                 "a table of 1073741824 adapters of rank at most 2097152, expected less than 2^31 of them, and gradients of at most 2^52");
  TABLES_REFUSED(call.targets[0].middle.has = PK_LORA_MIDDLE_SCALE, PK_ERROR_ARGUMENT,
                 "a target has both a table of adapters and a middle, expected at most one");
  TABLES_REFUSED(call.targets[0].gradients = NULL, PK_ERROR_ARGUMENT, "gradients is null");
  TABLES_REFUSED((call.targets[0].a_gradient = PK_GRADIENT_NONE, call.targets[0].gradients = NULL), PK_ERROR_ARGUMENT, "gradients is null");
  TABLES_REFUSED(call.targets[0].adapters = (const pk_lora_adapter *)(const void *)((const char *)&call.adapter + 4), PK_ERROR_ARGUMENT,
                 "adapters is at address");
  TABLES_REFUSED(call.targets[0].gradients = (const pk_lora_adapter_gradient *)(const void *)((const char *)&call.gradient + 4), PK_ERROR_ARGUMENT,
                 "gradients is at address");
  TABLES_REFUSED(call.targets[0].a_gradient = 3, PK_ERROR_ARGUMENT, "what becomes of da is 3");
  TABLES_REFUSED(call.descriptor.dx.data = &call.adapter, PK_ERROR_ARGUMENT, "dx and adapters share the byte at address");
  TABLES_REFUSED(call.descriptor.dx.data = &call.gradient, PK_ERROR_ARGUMENT, "dx and gradients share the byte at address");
  TABLES_REFUSED(call.targets[0].dbias.data = call.rows, PK_ERROR_ARGUMENT, "dbias and row_adapter share the byte at address");
  TABLES_REFUSED((call.descriptor.row_adapter = NULL, call.descriptor.segments = segments, call.descriptor.segment_count = 1,
                  call.descriptor.workspace_bytes = 1023),
                 PK_ERROR_WORKSPACE, "the workspace has 1023 bytes at");
  // The limits themselves.
  CHECK(workspace_of(&call, INT32_MAX, 1, 3) == PK_OK && workspace_of(&call, INT64_C(1) << 31, 1, 3) == PK_ERROR_ARGUMENT);
  CHECK(workspace_of(&call, 1 << 30, 1 << 20, 4) == PK_OK && workspace_of(&call, 1 << 30, 1 << 20, 5) == PK_ERROR_ARGUMENT);
  return NULL;
}

// Of no rank every entry of a list names none: ranks of zeros, which are reported.
static const char *listed_backward(void) {
  static const float dx[6] = {1, 0, 0, 0, 1, 0}, dbias[2] = {1, 1};
  Tables call;
  for (int32_t algorithm = 0; algorithm <= 3; ++algorithm) {
    fill_tables(&call);
    list_alone(&call, 2);
    call.descriptor.algorithm = algorithm;
    CHECK(pk_lora_backward(&call.queue, &call.descriptor) == PK_OK && call.status.failure == (~UINT64_C(0) << 8 | PK_FAILURE_RANK));
    CHECK(are(call.dx, dx, 6) && are(call.da, untouched, 3) && are(call.db, untouched, 2) && are(call.dbias, dbias, 2));
  }
  TABLES_REFUSED((list_alone(&call, 2), call.targets[0].a = (pk_matrix){0}), PK_ERROR_ELEMENT_TYPE, "a has element type 0 (unknown), expected f32");
  TABLES_REFUSED((list_alone(&call, 2), call.targets[0].a.columns = 0), PK_ERROR_ARGUMENT, "a is [0, 0], expected [0, 3]");
  TABLES_REFUSED((list_alone(&call, 2), call.targets[0].b = (pk_matrix){0}), PK_ERROR_ELEMENT_TYPE, "b has element type 0 (unknown), expected f32");
  TABLES_REFUSED((list_alone(&call, 2), call.targets[0].b.rows = 0), PK_ERROR_ARGUMENT, "b is [0, 0], expected [2, 0]");
  TABLES_REFUSED(list_alone(&call, -1), PK_ERROR_ARGUMENT, "a list of -1 ranks of 3 elements, expected at least 0 and less than 2^31");
  TABLES_REFUSED(list_alone(&call, INT64_C(1) << 31), PK_ERROR_ARGUMENT, "a list of 2147483648 ranks of 3 elements, expected at least 0 and less than 2^31");
  TABLES_REFUSED((list_alone(&call, 128), call.descriptor.batch_count = INT64_C(1) << 40, call.descriptor.x_gradient = PK_GRADIENT_NONE), PK_ERROR_ARGUMENT,
                 "a list of 128 ranks of 3298534883328 elements, expected at least 0 and less than 2^31, and a product of at most 2^48");
  TABLES_REFUSED((list_alone(&call, 2), call.targets[0].middle.has = PK_LORA_MIDDLE_HOST_RANKS), PK_ERROR_ARGUMENT,
                 "a list of 2 ranks of an adapter of rank 0, expected each rank once");
  TABLES_REFUSED(list_beside(&call), PK_ERROR_ARGUMENT, "row_adapter or segments choose from a table, but a target has no table");
  return NULL;
}

// y = x * W^T + bias.
static const char *listed_forward(void) {
  static const float y[4] = {101, 202, 104, 205}, unwritten[4] = {-7, -7, -7, -7};
  static const int32_t rows[2] = {0, 0};
  static const pk_lora_adapter adapter = {.rank = 0};
  _Alignas(256) float space[512];
  char said[512];
  Call call;
  for (int which = 0; which < 6; ++which) {
    fill(&call);
    pk_lora_target targets[2] = {call.target, call.target};
    pk_lora_target *target = &targets[which == 5];
    target->a = matrix(NULL, 0, 3), target->b = matrix(NULL, 2, 0);
    target->middle = (pk_lora_middle){.has = PK_LORA_MIDDLE_RANKS, .ranks = list, .rank_count = 2};
    call.forward.targets = targets;
    call.forward.workspace = space;
    call.forward.workspace_bytes = sizeof space;
    const char *text = NULL;
    int32_t status = PK_OK;
    switch (which) {
    case 1: target->a = (pk_matrix){0}, status = PK_ERROR_ELEMENT_TYPE, text = "pk_lora_forward: a has element type 0 (unknown), expected f32"; break;
    case 2: target->a.columns = 0, status = PK_ERROR_ARGUMENT, text = "pk_lora_forward: a is [0, 0], expected [0, 3]"; break;
    case 3: target->b.rows = 0, status = PK_ERROR_ARGUMENT, text = "pk_lora_forward: b is [0, 0], expected [2, 0]"; break;
    case 4: call.forward.row_adapter = rows; break;
    case 5:
      targets[0].adapters = &adapter, targets[0].adapter_count = 1;
      targets[1].y = matrix(space, 2, 2);
      call.forward.row_adapter = rows, call.forward.target_count = 2;
      break;
    default: break;
    }
    if (which >= 4) status = PK_ERROR_ARGUMENT, text = "pk_lora_forward: row_adapter or segments choose from a table, but a target has no table";
    CHECK(pk_lora_forward(&call.queue, &call.forward) == status);
    CHECK(are(call.y, status == PK_OK ? y : unwritten, 4));
    CHECK(call.status.failure == (status == PK_OK ? ~UINT64_C(0) << 8 | PK_FAILURE_RANK : 0));
    pk_last_error(said, sizeof said);
    CHECK(text == NULL || strcmp(said, text) == 0);
  }
  return NULL;
}

const char *c_tables(void) {
  const char *failure = tables();
  if (failure == NULL) failure = listed_backward();
  return failure == NULL ? listed_forward() : failure;
}
