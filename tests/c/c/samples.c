// Norms and weights of samples, and noise, from C: what they compute, and what is refused with which text and nothing written.
#include <math.h>

#include "check.h"

const char *c_samples(void);

typedef struct Norms {
  float x[6], dy[6], a[2], b[2], h[3], squares[2], weights[2], da[2];
  int32_t offsets[3];
  pk_queue queue;
  pk_lora_sample_norm_target target;
  pk_lora_sample_norms_descriptor descriptor;
  pk_lora_clip_weights_descriptor clip;
  pk_status_record status;
  _Alignas(256) float workspace[1024];
} Norms;

// Three rows, of which the first sample has two and the second one: x = {1 0; 2 0; 0 3}, dY = {1 0; 1 0; 0 2}, A = {1 1}, B = {1; 1}, scale 1.
static void fill_norms(Norms *call) {
  memset(call, 0, sizeof *call);
  const float x[6] = {1, 0, 2, 0, 0, 3}, dy[6] = {1, 0, 1, 0, 0, 2};
  memcpy(call->x, x, sizeof x);
  memcpy(call->dy, dy, sizeof dy);
  call->a[0] = call->a[1] = call->b[0] = call->b[1] = 1.0f;
  call->squares[0] = call->squares[1] = call->weights[0] = call->weights[1] = -7.0f;
  call->offsets[1] = 2, call->offsets[2] = 3;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  call->target = (pk_lora_sample_norm_target){.adapter_element_type = PK_F32,
                                              .scale = 1.0f,
                                              .dy = matrix(call->dy, 3, 2),
                                              .a = matrix(call->a, 1, 2),
                                              .b = matrix(call->b, 2, 1),
                                              .a_counts = 1,
                                              .b_counts = 1};
  call->descriptor = (pk_lora_sample_norms_descriptor){.size = sizeof(pk_lora_sample_norms_descriptor),
                                                       .target_size = sizeof(pk_lora_sample_norm_target),
                                                       .x = matrix(call->x, 3, 2),
                                                       .targets = &call->target,
                                                       .target_count = 1,
                                                       .samples = {2, call->offsets},
                                                       .squares = call->squares,
                                                       .mode = PK_GRADIENT_OVERWRITE,
                                                       .workspace = call->workspace,
                                                       .workspace_bytes = sizeof call->workspace,
                                                       .status = &call->status};
  call->clip = (pk_lora_clip_weights_descriptor){.size = sizeof(pk_lora_clip_weights_descriptor), .squares = call->squares, .weights = call->weights, .count = 2, .max_norm = 1.0f};
}

#define REFUSED(fill, operation, descriptor, change, expected, text)                             \
  do {                                                                                           \
    fill(&call);                                                                                 \
    change;                                                                                      \
    CHECK(operation(&call.queue, &call.descriptor) == expected);                                 \
    char said[512];                                                                              \
    pk_last_error(said, sizeof said);                                                            \
    CHECK(strncmp(said, #operation ": " text, strlen(#operation ": " text)) == 0);               \
    CHECK(call.squares[0] == -7.0f && call.weights[0] == -7.0f && call.status.failure == 0);     \
  } while (0)

#define NORMS_REFUSED(change, expected, text) REFUSED(fill_norms, pk_lora_sample_norms, descriptor, change, expected, text)
#define CLIP_REFUSED(change, expected, text) REFUSED(fill_norms, pk_lora_clip_weights, clip, change, expected, text)

static const char *norms(void) {
  Norms call;
  uint64_t bytes = 0;
  pk_kernel_choice choice;
  fill_norms(&call);
  // dA = {1 + 2, 0} and {0, 2 * 3}; H = 1, 2, 3; dB = {1 + 2; 0} and {0; 2 * 3}.
  CHECK(pk_lora_sample_norms(&call.queue, &call.descriptor) == PK_OK && call.squares[0] == 18.0f && call.squares[1] == 72.0f && call.status.failure == 0);
  call.target.a_counts = 0, call.target.b_counts = 0, call.target.bias_counts = 1;
  call.descriptor.mode = PK_GRADIENT_ACCUMULATE;
  CHECK(pk_lora_sample_norms(&call.queue, &call.descriptor) == PK_OK && call.squares[0] == 22.0f && call.squares[1] == 76.0f);
  fill_norms(&call);
  call.offsets[1] = 4;
  CHECK(pk_lora_sample_norms(&call.queue, &call.descriptor) == PK_OK && call.squares[1] == 0.0f && call.status.failure == (~UINT64_C(0) << 8 | PK_FAILURE_SAMPLE));
  fill_norms(&call);
  // H of three rows, dH of three rows, and a number a block: rounded up to the alignment.
  CHECK(pk_lora_sample_norms_workspace(&call.descriptor, &bytes) == PK_OK && bytes == 256);

  NORMS_REFUSED(call.descriptor.flags = 16, PK_ERROR_ARGUMENT, "flags are 0x10");
  NORMS_REFUSED(call.descriptor.mode = PK_GRADIENT_NONE, PK_ERROR_ARGUMENT, "mode is 0, expected 1 (overwrite) or 2 (accumulate)");
  NORMS_REFUSED(call.descriptor.target_count = 9, PK_ERROR_ARGUMENT, "1 batches and 9 targets, expected none below 0 and at most 8 targets");
  NORMS_REFUSED(call.descriptor.targets = NULL, PK_ERROR_ARGUMENT, "targets is null");
  NORMS_REFUSED(call.target.bias_counts = 2, PK_ERROR_ARGUMENT, "bias_counts is 2, expected 0 or 1");
  NORMS_REFUSED(call.target.h_saved = -1, PK_ERROR_ARGUMENT, "h_saved is -1, expected 0 or 1");
  NORMS_REFUSED(call.target.a.batch_stride = 2, PK_ERROR_ARGUMENT, "a has batch stride 2, expected 0: one for all batches");
  NORMS_REFUSED(call.target.b.rows = 3, PK_ERROR_ARGUMENT, "b is [3, 1], expected [2, 1]");
  NORMS_REFUSED(call.target.dy.rows = 2, PK_ERROR_ARGUMENT, "dy is [2, 2], expected [3, 2]");
  NORMS_REFUSED((call.target.h_saved = 1, call.target.h = matrix(call.h, 3, 2)), PK_ERROR_ARGUMENT, "h is [3, 2], expected [3, 1]");
  NORMS_REFUSED((call.target.h_saved = 1, call.target.h = matrix(call.h, 3, 1), call.target.h.element_type = PK_F16), PK_ERROR_ELEMENT_TYPE, "h has element type 2 (f16), expected f32 or f32");
  NORMS_REFUSED(call.descriptor.samples.count = -1, PK_ERROR_ARGUMENT, "-1 samples of 3 rows");
  NORMS_REFUSED(call.descriptor.samples.count = 0, PK_ERROR_ARGUMENT, "0 samples of 3 rows, expected at least 1 where there are rows");
  NORMS_REFUSED(call.descriptor.samples.offsets = NULL, PK_ERROR_ARGUMENT, "2 samples of 3 rows, expected a number that divides them, or offsets");
  NORMS_REFUSED(call.descriptor.samples.offsets = (int32_t *)(void *)((char *)call.offsets + 2), PK_ERROR_ARGUMENT, "samples.offsets is at address");
  NORMS_REFUSED((call.descriptor.samples = (pk_samples){INT64_C(1) << 30, NULL}, call.descriptor.x.columns = call.target.a.columns = 513, call.descriptor.x.rows = call.target.dy.rows = INT64_C(1) << 30),
                PK_ERROR_ARGUMENT, "1073741824 samples of 3 times 256 columns, expected a product of less than 2^31");
  NORMS_REFUSED(call.descriptor.squares = NULL, PK_ERROR_ARGUMENT, "squares is null");
  NORMS_REFUSED(call.descriptor.squares = call.x + 5, PK_ERROR_ARGUMENT, "squares and x share the byte at address");
  NORMS_REFUSED(call.descriptor.status = (pk_status_record *)(void *)((char *)&call.status + 4), PK_ERROR_ARGUMENT, "status is at address");
  NORMS_REFUSED(call.descriptor.workspace_bytes = 255, PK_ERROR_WORKSPACE, "the workspace has 255 bytes at");
  NORMS_REFUSED(call.descriptor.algorithm = 7, PK_ERROR_ALGORITHM, "algorithm 7 does not exist");

  CLIP_REFUSED(call.clip.flags = 16, PK_ERROR_ARGUMENT, "flags are 0x10");
  CLIP_REFUSED(call.clip.count = -1, PK_ERROR_ARGUMENT, "count is -1, expected 0 to 2^48");
  CLIP_REFUSED(call.clip.max_norm = 0.0f, PK_ERROR_ARGUMENT, "max_norm is 0, expected a number above 0");
  CLIP_REFUSED(call.clip.max_norm = INFINITY, PK_ERROR_ARGUMENT, "max_norm is inf, expected a number above 0");
  CLIP_REFUSED(call.clip.squares = NULL, PK_ERROR_ARGUMENT, "squares is null");
  CLIP_REFUSED(call.clip.weights = NULL, PK_ERROR_ARGUMENT, "weights is null");
  CLIP_REFUSED(call.clip.weights = call.squares + 1, PK_ERROR_ARGUMENT, "weights and squares share the byte at address");
  CLIP_REFUSED(call.clip.algorithm = 7, PK_ERROR_ALGORITHM, "algorithm 7 does not exist");
  fill_norms(&call);
  const pk_chip old = {sizeof old, 75, 40, 64 * 1024};
  CHECK(pk_lora_sample_norms_pick(&old, &call.descriptor, &choice) == PK_ERROR_ALGORITHM && pk_lora_clip_weights_pick(&old, &call.clip, &choice) == PK_ERROR_ALGORITHM);
  CHECK(pk_lora_sample_norms(&call.queue, NULL) == PK_ERROR_ARGUMENT && pk_lora_sample_norms_workspace(&call.descriptor, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_lora_sample_norms_pick(&old, &call.descriptor, NULL) == PK_ERROR_ARGUMENT && pk_lora_sample_norms_pick(NULL, &call.descriptor, &choice) == PK_ERROR_VERSION);
  CHECK(pk_lora_clip_weights(&call.queue, NULL) == PK_ERROR_ARGUMENT && pk_lora_clip_weights_pick(&old, &call.clip, NULL) == PK_ERROR_ARGUMENT);
  return NULL;
}

// Gradients of A in which the second sample counts half.
static const char *weights(void) {
  Norms call;
  fill_norms(&call);
  call.squares[0] = 1.0f, call.squares[1] = 4.0f;
  CHECK(pk_lora_clip_weights(&call.queue, &call.clip) == PK_OK && call.weights[0] == 1.0f && call.weights[1] == 0.5f);
  pk_lora_gradient_target target = {.adapter_element_type = PK_F32,
                                    .dy = call.target.dy,
                                    .a = call.target.a,
                                    .b = call.target.b,
                                    .scale = 1.0f,
                                    .a_gradient = PK_GRADIENT_OVERWRITE,
                                    .da = matrix(call.da, 1, 2)};
  pk_lora_backward_descriptor backward = {.size = sizeof backward,
                                          .target_size = sizeof target,
                                          .x = call.descriptor.x,
                                          .targets = &target,
                                          .target_count = 1,
                                          .workspace = call.workspace,
                                          .workspace_bytes = sizeof call.workspace,
                                          .samples = call.descriptor.samples,
                                          .sample_weights = call.weights};
  CHECK(pk_lora_backward(&call.queue, &backward) == PK_OK && call.da[0] == 3.0f && call.da[1] == 3.0f);
  call.da[0] = -7.0f;
  backward.sample_weights = NULL;
  char said[512];
  CHECK(pk_lora_backward(&call.queue, &backward) == PK_ERROR_ARGUMENT && call.da[0] == -7.0f);
  pk_last_error(said, sizeof said);
  CHECK(strcmp(said, "pk_lora_backward: sample_weights is null") == 0);
  backward.sample_weights = call.da;
  CHECK(pk_lora_backward(&call.queue, &backward) == PK_ERROR_ARGUMENT && call.da[0] == -7.0f);
  return NULL;
}

typedef struct Noise {
  float gradient[6], squares[1], weights[1];
  pk_queue queue;
  pk_lora_add_noise_descriptor descriptor;
  pk_status_record status;
} Noise;

static void fill_noise(Noise *call) {
  memset(call, 0, sizeof *call);
  call->squares[0] = call->weights[0] = -7.0f;
  call->queue = (pk_queue){.size = sizeof(pk_queue), .kind = PK_QUEUE_EMULATOR, .stream = 4};
  call->descriptor = (pk_lora_add_noise_descriptor){.size = sizeof(pk_lora_add_noise_descriptor), .gradient = matrix(call->gradient, 2, 3), .scale = 1.0f};
}

#define NOISE_REFUSED(change, expected, text)                                                 \
  do {                                                                                        \
    REFUSED(fill_noise, pk_lora_add_noise, descriptor, change, expected, text);               \
    for (int i = 0; i < 6; ++i) CHECK(call.gradient[i] == 0.0f);                              \
  } while (0)

static const char *noise(void) {
  Noise call;
  pk_kernel_choice choice;
  fill_noise(&call);
  CHECK(pk_lora_add_noise(&call.queue, &call.descriptor) == PK_OK);
  for (int i = 0; i < 6; ++i) CHECK(call.gradient[i] != 0.0f && fabsf(call.gradient[i]) < 7.0f);
  NOISE_REFUSED(call.descriptor.flags = 16, PK_ERROR_ARGUMENT, "flags are 0x10");
  NOISE_REFUSED(call.descriptor.gradient.element_type = PK_F64, PK_ERROR_ELEMENT_TYPE, "element type 4 (f64)");
  NOISE_REFUSED(call.descriptor.gradient.data = NULL, PK_ERROR_ARGUMENT, "gradient is at address");
  NOISE_REFUSED(call.descriptor.gradient.row_stride = 2, PK_ERROR_ARGUMENT, "gradient is [2, 3] with row stride 2");
  NOISE_REFUSED((call.descriptor.gradient.rows = INT64_C(1) << 47, call.descriptor.gradient.columns = 6, call.descriptor.gradient.row_stride = 6), PK_ERROR_ARGUMENT,
                "gradient is [140737488355328, 6], expected at most 2^48 elements");
  NOISE_REFUSED(call.descriptor.scale = -1.0f, PK_ERROR_ARGUMENT, "scale is -1, expected a number that is at least 0");
  NOISE_REFUSED(call.descriptor.scale = NAN, PK_ERROR_ARGUMENT, "scale is");
  NOISE_REFUSED(call.descriptor.scale = INFINITY, PK_ERROR_ARGUMENT, "scale is inf");
  NOISE_REFUSED(call.descriptor.algorithm = 7, PK_ERROR_ALGORITHM, "algorithm 7 does not exist");
  fill_noise(&call);
  const pk_chip old = {sizeof old, 75, 40, 64 * 1024};
  CHECK(pk_lora_add_noise_pick(&old, &call.descriptor, &choice) == PK_ERROR_ALGORITHM && pk_lora_add_noise_pick(&old, &call.descriptor, NULL) == PK_ERROR_ARGUMENT);
  CHECK(pk_lora_add_noise(&call.queue, NULL) == PK_ERROR_ARGUMENT);
  return NULL;
}

const char *c_samples(void) {
  const char *failure = norms();
  if (failure == NULL) failure = weights();
  return failure == NULL ? noise() : failure;
}
