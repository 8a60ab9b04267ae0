/* peft-kernels: the C interface. C11, no CUDA header.
 *
 * Every operation takes a queue and a descriptor and returns a status: 0, or a negative PK_ERROR_* whose text pk_last_error() gives. Nothing is launched and nothing is written unless the
 * status is 0. No call allocates device memory, synchronises, or reads device memory on the host, so every call can be captured in a CUDA graph.
 *
 * Versions: the first field of a descriptor is its size in bytes. Fields are only ever appended, and zero means the behaviour before the field existed: a smaller descriptor is
 * zero-extended, a larger one is refused unless its tail is zero. pk_matrix, pk_lora_adapter, pk_lora_segment, pk_lora_middle, pk_lora_code_book, pk_lora_quantized,
 * pk_lora_adapter_gradient, pk_samples, pk_haar_wara_adapter, pk_status_record and pk_kernel_choice never change.
 *
 * Strides are in elements. Pointers named "device" are memory of the queue: device memory on a CUDA stream, ordinary memory on the emulator.
 */
#ifndef PEFT_KERNELS_H
#define PEFT_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PK_ABI_VERSION 1

/* What a shared library exports. */
#if defined(__GNUC__)
#define PK_API __attribute__((visibility("default")))
#else
#define PK_API
#endif

/* ---- status of a call ------------------------------------------------------------------------------------------------------------------------------------ */
#define PK_OK 0
#define PK_ERROR_VERSION (-1)      /* a descriptor of a size this library does not know */
#define PK_ERROR_ARGUMENT (-2)     /* an extent, stride, count, flag or pointer that cannot be right */
#define PK_ERROR_ELEMENT_TYPE (-3) /* an element type, or a combination of them, that the operation does not have */
#define PK_ERROR_WORKSPACE (-4)    /* workspace too small or not aligned to PK_WORKSPACE_ALIGNMENT */
#define PK_ERROR_NOT_BUILT (-5)    /* the queue's kind was not compiled into this library */
#define PK_ERROR_NO_DEVICE (-6)    /* no driver, no device, or no device of that ordinal */
#define PK_ERROR_CUDA (-7)         /* the CUDA runtime refused; the text has its code and name */
#define PK_ERROR_EMULATOR (-8)     /* the emulator found a fault in a kernel; the text is its report */
#define PK_ERROR_ALGORITHM (-9)    /* the algorithm asked for does not exist or cannot run this descriptor */

/* ---- element types, kinds of queue ----------------------------------------------------------------------------------------------------------------------- */
#define PK_F32 1
#define PK_F16 2
#define PK_BF16 3
#define PK_F64 4

#define PK_QUEUE_EMULATOR 1
#define PK_QUEUE_CUDA 2

/* The named CUDA streams; any other value of pk_queue.stream is a cudaStream_t. */
#define PK_STREAM_LEGACY 1
#define PK_STREAM_PER_THREAD 2

/* Where an operation is enqueued. */
typedef struct pk_queue {
  uint64_t size;
  int32_t kind;    /* PK_QUEUE_* */
  int32_t device;  /* CUDA: the device's ordinal. Emulator: the compute capability to imitate, times ten (80, 86, 89, 90, 100, 120); 0 is 90 */
  uint64_t stream; /* CUDA: the stream. Emulator: the seed of its schedules */
} pk_queue;

/* ---- operands -------------------------------------------------------------------------------------------------------------------------------------------- */

/* Element (i, j) of batch b is data[b * batch_stride + i * row_stride + j * column_stride]. One of the two strides is 1, unless its extent is at most 1. */
typedef struct pk_matrix {
  void *data; /* device */
  int64_t rows, columns;
  int64_t row_stride, column_stride;
  int64_t batch_stride; /* 0 for an input that all batches share */
  int32_t element_type;
  int32_t reserved;
} pk_matrix;

/* What depends on data. Zero it before the call; calls add to it until it is zeroed again. */
typedef struct pk_status_record {
  uint64_t failure; /* 0: none. Else ~index << 8 | code, of the failure with the smallest index: index = (~failure & mask) >> 8 with mask = ~0xff */
  uint64_t reserved[3];
} pk_status_record;

#define PK_FAILURE_ADAPTER_INDEX 1 /* an adapter index outside -1 .. adapter_count - 1; that row is treated as the base alone */
#define PK_FAILURE_ADAPTER_RANK 2  /* an adapter of the table has a rank outside 0 .. max_rank; its rows are treated as the base alone */
#define PK_FAILURE_ZERO_NORM 3     /* a row of norm 0, which nothing can be divided by */
#define PK_FAILURE_SAMPLE 4        /* a sample whose rows end before they begin, or are not all there; it has those that are */
#define PK_FAILURE_RANK 5          /* an entry of a list of ranks that the adapter does not have, or that the list has before; it counts as a rank of zeros, which an infinite x makes NaN */
#define PK_FAILURE_ZERO_MAGNITUDE 6 /* a row of magnitude 0, whose gradient y does not tell; the index counts the rows of all batches */
#define PK_FAILURE_ZERO_ROW_SCALE 7 /* a row of scale 0, from under which unmerge gets nothing back without a residual: it holds what the division makes */

#define PK_WORKSPACE_ALIGNMENT 256

/* What `pick` chose for a descriptor: a pure function of the descriptor and the chip. */
typedef struct pk_kernel_choice {
  int32_t algorithm; /* to be given as `algorithm` to get this kernel again */
  int32_t reserved;
  int64_t rounding_steps; /* the longest chain of float roundings before the last one to the output's type: the L of the error bound */
  char name[48];
} pk_kernel_choice;

/* What `pick` may know of a chip. */
typedef struct pk_chip {
  uint64_t size;
  int32_t compute_capability; /* times ten */
  int32_t multiprocessors;
  int64_t shared_memory_per_block; /* bytes, opted in */
} pk_chip;

/* flags of the descriptors; all off by default */
#define PK_FLAG_ALLOW_TF32 1u
#define PK_FLAG_ALLOW_ATOMICS 2u
#define PK_FLAG_BATCH_INVARIANT 4u

/* ---- LoRA ------------------------------------------------------------------------------------------------------------------------------------------------- */

/* One adapter: delta W = scale * B * A, A [rank, k], B [n, rank]. An entry of a table in device memory, so its A and B are device pointers too. */
typedef struct pk_lora_adapter {
  const void *a, *b;
  int64_t a_row_stride, a_column_stride;
  int64_t b_row_stride, b_column_stride;
  int32_t rank;
  float scale;
} pk_lora_adapter;

/* Rows row_begin .. row_end - 1 use `adapter` of the table. In a list each begins where the one before ends or later, empty ones (row_end = row_begin) too. */
typedef struct pk_lora_segment {
  int64_t row_begin, row_end;
  int32_t adapter; /* -1: none */
  int32_t reserved;
} pk_lora_segment;

/* Drops elements of what the adapters read: element (row, column) of x, row of all batches, is kept where word column % 4 of Philox4x32-10 with the key `seed` and the counter
 * (column / 4, row, offset) (32, 32 and 64 bits, low words first) is at least probability * 2^32; the branch is then multiplied by 1 / (1 - probability). A pure function, never stored. */
typedef struct pk_dropout {
  uint64_t seed, offset;
  float probability; /* in [0, 1); 0: none. Otherwise at most 2^32 rows and 2^34 columns */
  int32_t reserved;
} pk_dropout;

/* Which rows of x, those of all batches one after the other, are a sample's: sample i has rows offsets[i] .. offsets[i + 1] - 1, as in packed sequences; with offsets = null each of them
 * has as many. Rows before the first and after the last sample belong to none. */
typedef struct pk_samples {
  int64_t count;
  const int32_t *offsets; /* device, [count + 1], ascending, or null; 0 rows and more are a sample */
} pk_samples;

/* What the codes of a block-wise quantisation stand for. Host memory, read during the call. */
typedef struct pk_lora_code_book {
  const float *values;     /* 2^bits, by code */
  const float *boundaries; /* 2^bits - 1, ascending; dequantize does not read them */
  const uint8_t *codes;    /* 2^bits: the code of a number that is above so many boundaries. With 8 bits the numbers themselves, or null. Dequantize does not read them */
  int32_t bits;            /* 2, 3, 4 or 8 */
  int32_t reserved;
} pk_lora_code_book;

/* W [n, k] as pk_lora_quantize left it, one for all batches: what pk_lora_dequantize makes of it, rounded to the activations' type. */
typedef struct pk_lora_quantized {
  const uint8_t *codes; /* device: of the elements, one row after the other; blocks run on across rows */
  int64_t code_bytes;
  const float *absmax; /* device */
  int64_t absmax_count;
  const uint8_t *absmax_codes; /* device, nested; null: absmax is plain */
  int64_t absmax_code_count;
  const float *absmax_offset; /* device, nested: one */
  pk_lora_code_book book;        /* of which the values are read */
  pk_lora_code_book absmax_book; /* nested: of 8 bits */
  int32_t block, absmax_block;
  int32_t short_block; /* 1: the last block may be shorter */
  int32_t reserved;
} pk_lora_quantized;

#define PK_LORA_BASE_NONE 0      /* y = branch + bias */
#define PK_LORA_BASE_DENSE 1     /* y = x * W^T + branch + bias */
#define PK_LORA_BASE_IN_Y 2      /* y = y + branch + bias */
#define PK_LORA_BASE_QUANTIZED 3 /* as dense, of a quantised W, of which at most slab_bytes are made in the workspace at a time */

/* What pk_lora_middle has, in the order in which it is applied. */
#define PK_LORA_MIDDLE_RANKS 1u      /* a list of ranks in device memory */
#define PK_LORA_MIDDLE_HOST_RANKS 2u /* or one in host memory, read during the call */
#define PK_LORA_MIDDLE_SCALE 4u
#define PK_LORA_MIDDLE_GATE 8u
#define PK_LORA_MIDDLE_CORE 16u

/* What lies between A and B: core * (gate .* (scale .* H)) in place of H = x * A^T. Of what `has` does not name nothing is read; all zero is none. With a list of ranks those rows of A and
 * columns of B, of the scale and of the gate take part, and of the gradients the same are written; H has a column for each entry. */
typedef struct pk_lora_middle {
  uint32_t has; /* of PK_LORA_MIDDLE_* */
  int32_t reserved;
  const int32_t *ranks; /* [rank_count], each in 0 .. a.rows - 1 and no two the same; not with a core */
  int64_t rank_count;   /* less than 2^31, and in host memory at most a.rows: in device memory the rest counts as ranks of zeros, and is reported */
  pk_matrix scale; /* [1, a.rows] of the adapter's type, any strides */
  pk_matrix gate;  /* [m, a.rows] of f32. Where it is 0, so is what is made of H, whatever H is */
  pk_matrix core;  /* [b.columns, a.rows] of the adapter's type; without one the two extents are the same */
} pk_lora_middle;

/* One linear layer of those that share x (q, k, v; gate, up). */
typedef struct pk_lora_target {
  int32_t base;                 /* PK_LORA_BASE_* */
  int32_t adapter_element_type; /* of a and b: y's, or PK_F32 */
  pk_matrix w;              /* [n, k]; read with PK_LORA_BASE_DENSE only */
  pk_matrix y;              /* [m, n] */
  pk_matrix bias;           /* [1, n], of y's element type, any strides; data = null: none */
  /* One adapter for every row ... */
  pk_matrix a, b; /* a.rows = b.columns = rank; read when adapters is null */
  float scale;
  int32_t reserved;
  /* ... or a table of them, chosen per row by row_adapter or segments of the descriptor. */
  const pk_lora_adapter *adapters; /* device */
  int64_t adapter_count;
  int64_t max_rank;
  /* [m, max_rank] of x's type or f32: H = dropped x * A^T for pk_lora_backward, without scale and without 1 / (1 - probability); data = null: not asked for. Of a row without an adapter nothing
   * is written, nor beyond its adapter's rank. */
  pk_matrix saved_h;
  pk_matrix row_scale; /* [1, n] of f32, any strides, which every row of W and the branch is multiplied by: DoRA's magnitude over norm; data = null: none */
  pk_lora_middle middle; /* not with a table; saved_h is [m, ranks that take part], before the middle */
  pk_lora_quantized quantized; /* [n, k]; read with PK_LORA_BASE_QUANTIZED only */
} pk_lora_target;

/* y_t = row_scale_t .* (x * W_t^T + scale_t * middle_t(dropped x * A_t^T) * B_t^T) + bias_t for each target t. */
typedef struct pk_lora_forward_descriptor {
  uint64_t size;
  uint64_t target_size; /* sizeof(pk_lora_target) of the caller: the distance between two targets */
  int32_t algorithm;    /* 0: automatic */
  uint32_t flags;
  int64_t batch_count; /* 0 is 1 */
  pk_matrix x;         /* [m, k] */
  const pk_lora_target *targets; /* host */
  int64_t target_count;
  const int32_t *row_adapter;        /* device, [batch_count * m], or null */
  const pk_lora_segment *segments;   /* device, each beginning where the one before ends or later, empty ones too; or null. Rows of no segment have no adapter */
  int64_t segment_count;
  void *workspace; /* device */
  uint64_t workspace_bytes;
  pk_status_record *status; /* device, or null */
  pk_dropout dropout;
  /* Where a quantised W is made in the workspace: of it at most so many bytes at a time, but 256 rows. 0: 64 MiB. With algorithm = 0 it is made in shared memory instead, once for each batch,
   * where x is one batch of at most 64 rows, or at most four of at most 16 (with PK_FLAG_BATCH_INVARIANT of one batch alone). */
  int64_t slab_bytes;
} pk_lora_forward_descriptor;

/* What becomes of a gradient. */
#define PK_GRADIENT_NONE 0       /* not asked for */
#define PK_GRADIENT_OVERWRITE 1  /* written, whatever the buffer held */
#define PK_GRADIENT_ACCUMULATE 2 /* added to what the buffer holds */

/* Where the gradients of an adapter of a table go, as its A and B lie: [rank, k] and [n, rank]. An entry of a table in device memory. */
typedef struct pk_lora_adapter_gradient {
  void *da, *db; /* device, or null: not asked for */
  int64_t da_row_stride, da_column_stride;
  int64_t db_row_stride, db_column_stride;
} pk_lora_adapter_gradient;

/* One linear layer of those that share x, and the gradients of its parameters. */
typedef struct pk_lora_gradient_target {
  int32_t base;                 /* PK_LORA_BASE_NONE, PK_LORA_BASE_DENSE or PK_LORA_BASE_QUANTIZED: whether dx has the part of W */
  int32_t adapter_element_type; /* of a, b, da and db, the same in all targets: x's, or PK_F32 */
  pk_matrix w;                  /* [n, k]; read with PK_LORA_BASE_DENSE for dx only */
  pk_matrix dy;                 /* [m, n], the gradient of y */
  pk_matrix a, b;               /* [rank, k], [n, rank] */
  float scale;
  int32_t h_saved; /* 1: h is what pk_lora_forward saved; 0: it is made again, where db needs it */
  pk_matrix h;     /* [m, rank], of x's type or f32 */
  int32_t a_gradient, b_gradient, bias_gradient; /* PK_GRADIENT_* */
  int32_t reserved;
  pk_matrix da, db; /* as a and b: [rank, k], [n, rank]; where a or b is one for all batches, the sum over them */
  pk_matrix dbias;  /* [1, n], of x's type, any strides; batch stride 0: the sum over batches */
  pk_lora_middle middle; /* of the forward call */
  int32_t scale_gradient, gate_gradient, core_gradient; /* PK_GRADIENT_*, of what the middle has */
  int32_t middle_reserved;
  pk_matrix dscale; /* as the scale: [1, a.rows]; batch stride 0: the sum over batches */
  pk_matrix dgate;  /* [m, a.rows] of f32, one for each batch */
  pk_matrix dcore;  /* as the core: [b.columns, a.rows]; batch stride 0: the sum over batches */
  /* [1, n] of f32, any strides, that of the forward call: a constant, as DoRA has it; columns = 0: none. For dx the tensor cores' kernels round row_scale .* w to w's type: of f16 it is to be at
   * most 65504 in absolute value, beyond that it is infinite. */
  pk_matrix row_scale;
  pk_lora_quantized quantized; /* [n, k]; read with PK_LORA_BASE_QUANTIZED for dx only */
  /* With a table of adapters, chosen per row by row_adapter or segments of the descriptor: a, b, scale, da and db above are not read, there is no middle, and h is [m, max_rank]. */
  const pk_lora_adapter *adapters; /* device */
  int64_t adapter_count;           /* less than 2^31 */
  int64_t max_rank;
  /* Device, [adapter_count]; not read where neither a_gradient nor b_gradient asks for them, which are those of all. The sums are over the adapter's rows, of all batches: of one without rows
   * the gradient is 0, whatever its scale is, and adding it leaves the buffer as it is. Of an adapter of a rank outside 0 .. max_rank nothing is written. */
  const pk_lora_adapter_gradient *gradients;
} pk_lora_gradient_target;

/* The gradients of y_t = g_t .* (x * W_t^T + scale_t * middle_t(h_t) * B_t^T) + bias_t, h_t = dropped x * A_t^T, with g_t the row scale or 1, s_t = scale_t / (1 - probability), d the 0 or 1 of
 * dropout, and u_t = g_t .* dy_t: e_t = u_t * B_t; f_t = e_t * core_t; dh_t = f_t .* gate_t .* scale_t of the middle; dx = sum over t of u_t * W_t + s_t * d .* (dh_t * A_t);
 * da_t = s_t * dh_t^T * (d .* x); db_t = s_t * u_t^T * middle_t(h_t); dbias_t = the sum of dy_t's rows; dcore_t = s_t * e_t^T * (gate_t .* scale_t .* h_t);
 * dgate_t = s_t * f_t .* scale_t .* h_t; dscale_t = s_t * the sum of rows of f_t .* gate_t .* h_t.
 * With tables of adapters a row has the A, B and scale of its adapter, or only u_t * W_t, and da and db of an adapter are sums over its rows. */
typedef struct pk_lora_backward_descriptor {
  uint64_t size;
  uint64_t target_size; /* sizeof(pk_lora_gradient_target) of the caller */
  int32_t algorithm;    /* 0: automatic */
  uint32_t flags;
  int64_t batch_count; /* 0 is 1 */
  pk_matrix x;         /* [m, k]; read for da, and for db where h is not saved */
  pk_matrix dx;        /* [m, k] */
  const pk_lora_gradient_target *targets; /* host */
  int64_t target_count; /* at most PK_LORA_BACKWARD_TARGETS */
  int32_t x_gradient; /* PK_GRADIENT_* */
  int32_t reserved;
  pk_dropout dropout; /* of the forward call */
  void *workspace;    /* device */
  uint64_t workspace_bytes;
  /* samples.count > 0: in da, db, dbias, dscale and dcore, but not in dx and dgate, a row counts as often as its sample weighs, and one of no sample not at all. */
  pk_samples samples;
  const float *sample_weights; /* device, [samples.count] */
  pk_status_record *status;    /* device, or null; for lists of ranks in device memory, and for what rows choose from tables */
  int64_t slab_bytes; /* of all quantised W in the workspace at most so many bytes at a time, but 256 columns. 0: 64 MiB */
  const int32_t *row_adapter;      /* of the forward call: device, [batch_count * m], or null */
  const pk_lora_segment *segments; /* device, each beginning where the one before ends or later, empty ones too; or null */
  int64_t segment_count;
} pk_lora_backward_descriptor;

#define PK_LORA_BACKWARD_TARGETS 8

/* One linear layer of those that share x, whose parameters' gradients are squared. */
typedef struct pk_lora_sample_norm_target {
  int32_t adapter_element_type; /* of a and b: x's, or PK_F32 */
  float scale;
  pk_matrix dy;                           /* [m, n], the gradient of y */
  pk_matrix a, b;                         /* [rank, k], [n, rank]; each one for all batches */
  int32_t a_counts, b_counts, bias_counts; /* 0 or 1: whether the gradient of a, b, the bias is part of the norm */
  int32_t h_saved;                        /* 1: h is what pk_lora_forward saved; 0: it is made again, where b counts */
  pk_matrix h;                            /* [m, rank], of x's type or f32 */
} pk_lora_sample_norm_target;

/* squares[i] = the sum over targets of |da_i|^2 + |db_i|^2 + |dbias_i|^2, the gradients that pk_lora_backward would make of the rows of sample i alone; none of them is written to memory. */
typedef struct pk_lora_sample_norms_descriptor {
  uint64_t size;
  uint64_t target_size; /* sizeof(pk_lora_sample_norm_target) of the caller */
  int32_t algorithm;    /* 0: automatic */
  uint32_t flags;
  int64_t batch_count; /* 0 is 1 */
  pk_matrix x;         /* [m, k]; read where a counts, and where b does and h is not saved */
  const pk_lora_sample_norm_target *targets; /* host */
  int64_t target_count; /* at most PK_LORA_BACKWARD_TARGETS */
  pk_dropout dropout;   /* of the forward call */
  pk_samples samples;
  float *squares; /* device, [samples.count] */
  int32_t mode;   /* PK_GRADIENT_OVERWRITE, or PK_GRADIENT_ACCUMULATE: the squares of other layers are there already */
  int32_t reserved;
  void *workspace; /* device */
  uint64_t workspace_bytes;
  pk_status_record *status; /* device, or null */
} pk_lora_sample_norms_descriptor;

/* weights[i] = min(1, max_norm / sqrt(squares[i])): 1 for a norm of 0, 0 for an infinite one, NaN for NaN. */
typedef struct pk_lora_clip_weights_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  const float *squares; /* device, [count] */
  float *weights;       /* device, [count] */
  int64_t count;
  float max_norm; /* above 0 and finite */
  int32_t reserved;
} pk_lora_clip_weights_descriptor;

/* gradient += scale * z, z independent numbers of the standard normal distribution, rounded once: a pure function of seed, offset and index e = row * columns + column, the same bits on every
 * chip. With w the words of Philox4x32-10 for the key `seed` and the counter (e / 4, offset) (64 bits each, low words first), elements e % 4 of 0 and 1 come from words 0 and 1, 2 and 3 from
 * words 2 and 3: z = sqrt(-2 * ln(u)) * (cos, sin)(2 * pi * v) with u = fma(f32(w of the pair's first), 2^-32, 2^-33) in f32 and v = (w of its second) * 2^-32 (Box and Muller). */
typedef struct pk_lora_add_noise_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_matrix gradient; /* f32, f16 or bf16 */
  uint64_t seed, offset;
  float scale; /* at least 0 and finite */
  int32_t reserved;
} pk_lora_add_noise_descriptor;

/* destination = row_scale .* (source + sum over adapters of scale * B * middle * A), rounded once, the middle as a matrix: core * diag(its scale), of the ranks that it lists. */
typedef struct pk_lora_merge_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_matrix source;      /* [n, k] */
  pk_matrix destination; /* [n, k]; may be the source itself */
  const pk_lora_adapter *adapters; /* host; their A and B are device pointers */
  int64_t adapter_count;           /* at most PK_LORA_MERGE_ADAPTERS */
  int32_t adapter_element_type;
  int32_t reserved;
  /* 16-bit element types only, or data = null: merge writes what unmerge needs to return the original bits. element_type is ignored. */
  pk_matrix residual;
  /* Host, [adapter_count], what lies between the adapters' factors, or null: nothing. Without gates, which belong to tokens. With a core `rank` is that of A, and B has the core's rows as columns. */
  const pk_lora_middle *middles;
  pk_matrix row_scale; /* [1, n] of f32, any strides: DoRA's magnitude over norm; columns = 0: none */
  void *workspace;     /* device; for middles alone */
  uint64_t workspace_bytes;
  pk_status_record *status; /* device, or null; for lists of ranks in device memory, and for rows of scale 0 of an unmerge */
} pk_lora_merge_descriptor;

#define PK_LORA_MERGE_ADAPTERS 64

PK_API int32_t pk_lora_forward(const pk_queue *queue, const pk_lora_forward_descriptor *descriptor);
PK_API int32_t pk_lora_forward_workspace(const pk_lora_forward_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_forward_pick(const pk_chip *chip, const pk_lora_forward_descriptor *descriptor, pk_kernel_choice *choice);

PK_API int32_t pk_lora_backward(const pk_queue *queue, const pk_lora_backward_descriptor *descriptor);
PK_API int32_t pk_lora_backward_workspace(const pk_lora_backward_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_backward_pick(const pk_chip *chip, const pk_lora_backward_descriptor *descriptor, pk_kernel_choice *choice);

PK_API int32_t pk_lora_sample_norms(const pk_queue *queue, const pk_lora_sample_norms_descriptor *descriptor);
PK_API int32_t pk_lora_sample_norms_workspace(const pk_lora_sample_norms_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_sample_norms_pick(const pk_chip *chip, const pk_lora_sample_norms_descriptor *descriptor, pk_kernel_choice *choice);

PK_API int32_t pk_lora_clip_weights(const pk_queue *queue, const pk_lora_clip_weights_descriptor *descriptor);
PK_API int32_t pk_lora_clip_weights_pick(const pk_chip *chip, const pk_lora_clip_weights_descriptor *descriptor, pk_kernel_choice *choice);

PK_API int32_t pk_lora_add_noise(const pk_queue *queue, const pk_lora_add_noise_descriptor *descriptor);
PK_API int32_t pk_lora_add_noise_pick(const pk_chip *chip, const pk_lora_add_noise_descriptor *descriptor, pk_kernel_choice *choice);

PK_API int32_t pk_lora_merge(const pk_queue *queue, const pk_lora_merge_descriptor *descriptor);
/* destination = source ./ row_scale - sum; with the residual of the merge that made the source: the original bits. */
PK_API int32_t pk_lora_unmerge(const pk_queue *queue, const pk_lora_merge_descriptor *descriptor);
/* Of both. 0 without middles. */
PK_API int32_t pk_lora_merge_workspace(const pk_lora_merge_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_merge_pick(const pk_chip *chip, const pk_lora_merge_descriptor *descriptor, pk_kernel_choice *choice);

/* norm[i] = |row i of w + sum over adapters of scale * B * A| + eps, the sum never written to memory. */
typedef struct pk_lora_weight_norm_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_matrix w;                     /* [n, k] */
  const pk_lora_adapter *adapters; /* host; their A and B are device pointers */
  int64_t adapter_count;           /* at most PK_LORA_MERGE_ADAPTERS */
  int32_t adapter_element_type;
  float eps;          /* at least 0 */
  float *norm;        /* device, [n] */
  int64_t norm_count; /* n */
  void *workspace;    /* device */
  uint64_t workspace_bytes;
  pk_status_record *status; /* device, or null */
  const float *magnitude; /* device, [n], or null */
  float *row_scale;       /* device, [n], with a magnitude: magnitude / norm, as pk_lora_forward takes it */
} pk_lora_weight_norm_descriptor;

PK_API int32_t pk_lora_weight_norm(const pk_queue *queue, const pk_lora_weight_norm_descriptor *descriptor);
PK_API int32_t pk_lora_weight_norm_workspace(const pk_lora_weight_norm_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_weight_norm_pick(const pk_chip *chip, const pk_lora_weight_norm_descriptor *descriptor, pk_kernel_choice *choice);

/* dmagnitude[i] = the sum over rows of dy[., i] * (y[., i] - bias[i]) / magnitude[i]: the gradient of DoRA's magnitude, whose norm is a constant, from the y that pk_lora_forward has written with
 * row_scale = magnitude / norm. */
typedef struct pk_lora_magnitude_gradient_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  int64_t batch_count;  /* 0 is 1 */
  pk_matrix dy, y;      /* [m, n], of one type */
  pk_matrix bias;       /* [1, n], of y's type, any strides, that of the forward call; columns = 0: none */
  pk_matrix magnitude;  /* [1, n] of f32, any strides */
  pk_matrix dmagnitude; /* [1, n] of f32, any strides; batch stride 0: the sum over batches */
  int32_t mode;         /* PK_GRADIENT_OVERWRITE or PK_GRADIENT_ACCUMULATE */
  int32_t reserved;
  void *workspace; /* device */
  uint64_t workspace_bytes;
  pk_status_record *status; /* device, or null */
} pk_lora_magnitude_gradient_descriptor;

PK_API int32_t pk_lora_magnitude_gradient(const pk_queue *queue, const pk_lora_magnitude_gradient_descriptor *descriptor);
PK_API int32_t pk_lora_magnitude_gradient_workspace(const pk_lora_magnitude_gradient_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_magnitude_gradient_pick(const pk_chip *chip, const pk_lora_magnitude_gradient_descriptor *descriptor, pk_kernel_choice *choice);

/* Which cotangents pk_lora_double_backward has. */
#define PK_LORA_COTANGENT_X 1u
#define PK_LORA_COTANGENT_A 2u
#define PK_LORA_COTANGENT_B 4u

/* The backward of pk_lora_backward of one layer without middle, row scale and dropout: the gradients of <ux, dX> + <ua, dA> + <ub, dB>, where dX, dA and dB are what pk_lora_backward makes of dy. With
 * h = ux * A^T + x * ua^T: ddy = ux * W^T + scale * (h * B^T + (x * A^T) * ub^T); dx = scale * ((dy * ub) * A + (dy * B) * ua); da = scale * ((dy * B)^T * ux + (dy * ub)^T * x);
 * db = scale * dy^T * h. A cotangent that is not there counts as 0. W is a constant. */
typedef struct pk_lora_double_backward_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  int64_t batch_count;          /* 0 is 1 */
  int32_t base;                 /* PK_LORA_BASE_NONE or PK_LORA_BASE_DENSE: whether dX has the part of W */
  int32_t adapter_element_type; /* of a, b, ua, ub, da and db: x's, or PK_F32 */
  pk_matrix x, dy;              /* [m, k], [m, n] */
  pk_matrix w;                  /* [n, k]; read with PK_LORA_BASE_DENSE and ux for ddy only */
  pk_matrix a, b;               /* [rank, k], [n, rank] */
  float scale;
  uint32_t cotangents; /* PK_LORA_COTANGENT_*, those that there are */
  pk_matrix ux;        /* [m, k], of x's type: the cotangent of dX */
  pk_matrix ua, ub;    /* as a and b, those of dA and dB */
  int32_t dy_gradient, x_gradient, a_gradient, b_gradient; /* PK_GRADIENT_* */
  pk_matrix ddy, dx; /* [m, n], [m, k], one for each batch */
  pk_matrix da, db;  /* as a and b; batch stride 0: the sum over batches */
  void *workspace;   /* device */
  uint64_t workspace_bytes;
} pk_lora_double_backward_descriptor;

PK_API int32_t pk_lora_double_backward(const pk_queue *queue, const pk_lora_double_backward_descriptor *descriptor);
PK_API int32_t pk_lora_double_backward_workspace(const pk_lora_double_backward_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_lora_double_backward_pick(const pk_chip *chip, const pk_lora_double_backward_descriptor *descriptor, pk_kernel_choice *choice);

/* Elements of `matrix`, one row after the other, in blocks. Quantize: absmax = the largest magnitude of a block, code = codes[boundaries below x * (1 / max(absmax, 1e-38))].
 * Dequantize: x = values[code] * absmax. Nested: absmax = absmax_book.values[absmax_code] * absmax[block / absmax_block] + absmax_offset, which is their mean. */
typedef struct pk_lora_quantize_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_matrix matrix; /* [n, k]; read by quantize, written by dequantize */
  uint8_t *codes;   /* device: a stream of bits, the first element in the highest of the first byte; with 4 bits that is bitsandbytes' layout */
  int64_t code_bytes; /* ceil(n * k * bits / 8) */
  float *absmax;      /* device: one a block, or nested one for absmax_block of them */
  int64_t absmax_count;
  uint8_t *absmax_codes; /* device, nested: one a block. Null: absmax is plain */
  int64_t absmax_code_count;
  float *absmax_offset; /* device, nested: one */
  pk_lora_code_book book;
  pk_lora_code_book absmax_book; /* nested: of 8 bits */
  int32_t block;        /* elements: a power of two, 16 to 4096 */
  int32_t absmax_block; /* nested: the same */
  int32_t short_block;  /* 1: the last block may be shorter. 0: one that does not divide n * k is refused */
  int32_t reserved;
  void *workspace; /* device; nested quantize alone */
  uint64_t workspace_bytes;
} pk_lora_quantize_descriptor;

PK_API int32_t pk_lora_quantize(const pk_queue *queue, const pk_lora_quantize_descriptor *descriptor);
PK_API int32_t pk_lora_dequantize(const pk_queue *queue, const pk_lora_quantize_descriptor *descriptor);
/* Of quantize. */
PK_API int32_t pk_lora_quantize_workspace(const pk_lora_quantize_descriptor *descriptor, uint64_t *bytes);
/* Of both. `dequantize`: 0 or 1. */
PK_API int32_t pk_lora_quantize_pick(const pk_chip *chip, const pk_lora_quantize_descriptor *descriptor, int32_t dequantize, pk_kernel_choice *choice);

/* ---- Haar wavelets ------------------------------------------------------------------------------------------------------------------------------------------ */

/* Along which axis of a matrix; both is the 2-D transform. */
#define PK_HAAR_ALONG_COLUMNS 1 /* each row is a signal */
#define PK_HAAR_ALONG_ROWS 2    /* each column is a signal */
#define PK_HAAR_ALONG_BOTH 3

/* What follows the last element of an odd extent, at every level, as in PyWavelets. */
#define PK_HAAR_BOUNDARY_NONE 0      /* nothing: extents are multiples of 2^levels */
#define PK_HAAR_BOUNDARY_ZERO 1      /* 0 */
#define PK_HAAR_BOUNDARY_EDGE 2      /* the last element again; PyWavelets' constant */
#define PK_HAAR_BOUNDARY_SYMMETRIC 3 /* the last element again: for two coefficients a mirror shows no more */
#define PK_HAAR_BOUNDARY_PERIODIC 4  /* the first element */

/* An extent n has n_l = ceil(n / 2^l) coefficients of each kind at level l. */
#define PK_HAAR_MALLAT 0      /* bands one after the other: n_L approximations, then n_L, ..., n_1 details, as PyWavelets' coeffs_to_array puts them; zeros where it pads */
#define PK_HAAR_INTERLEAVED 1 /* detail k of level l at 2^l * k + 2^(l - 1), approximation k at 2^L * k of n_L * 2^L; zeros where there is none */

#define PK_HAAR_ORTHONORMAL 0 /* (a + b) / sqrt(2), (a - b) / sqrt(2) */
#define PK_HAAR_SUMS 1        /* a + b, a - b, and half of them back: small integers stay integers */

typedef struct pk_haar_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  int64_t batch_count;   /* 0 is 1 */
  pk_matrix source;      /* forward: the signal; inverse: its coefficients */
  pk_matrix destination; /* the other, of the same element type; with PK_HAAR_INTERLEAVED and extents that are multiples of 2^levels, it may be the source itself */
  int32_t axes;          /* PK_HAAR_ALONG_* */
  int32_t levels;        /* at least 1 and at most log2 of the transformed extents */
  int32_t boundary;      /* PK_HAAR_BOUNDARY_*; the inverse is the same for all of them */
  int32_t layout;        /* of the coefficients: PK_HAAR_MALLAT or PK_HAAR_INTERLEAVED */
  int32_t scaling;       /* PK_HAAR_ORTHONORMAL or PK_HAAR_SUMS */
  int32_t adjoint;       /* 1: forward is the adjoint of inverse, and inverse that of forward with this boundary */
} pk_haar_descriptor;

PK_API int32_t pk_haar_forward(const pk_queue *queue, const pk_haar_descriptor *descriptor);
PK_API int32_t pk_haar_inverse(const pk_queue *queue, const pk_haar_descriptor *descriptor);
/* Of both. `inverse`: 0 or 1. */
PK_API int32_t pk_haar_pick(const pk_chip *chip, const pk_haar_descriptor *descriptor, int32_t inverse, pk_kernel_choice *choice);

/* destination = s * after * H * (before * source) along each row of n elements, H the Walsh-Hadamard matrix in Sylvester's order. Its adjoint has `before` and `after` exchanged. */
typedef struct pk_haar_hadamard_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  int64_t batch_count;   /* 0 is 1 */
  pk_matrix source;      /* [rows, n], n a power of two up to PK_HAAR_HADAMARD_COLUMNS */
  pk_matrix destination; /* [rows, n]; may be the source itself */
  pk_matrix before;      /* [1, n] of the same type, or data = null: ones */
  pk_matrix after;
  int32_t normalized; /* 1: s is 1 / sqrt(n), else 1 */
  int32_t reserved;
} pk_haar_hadamard_descriptor;

#define PK_HAAR_HADAMARD_COLUMNS 32768

PK_API int32_t pk_haar_hadamard(const pk_queue *queue, const pk_haar_hadamard_descriptor *descriptor);
PK_API int32_t pk_haar_hadamard_pick(const pk_chip *chip, const pk_haar_hadamard_descriptor *descriptor, pk_kernel_choice *choice);

/* WaRA: a low-rank update in the wavelet domain.
 *
 * Bands of `levels` levels are numbered as PyWavelets lists them: 0 the approximations, then of each level from the coarsest to the finest the details along rows, along columns, and along
 * both: 3 * levels + 1 of them. Each has a gain.
 *
 * Weight mode: delta W = scale * D^-1(C), D^-1 the orthonormal inverse transform along both axes of W [n, k], and C its coefficients in the order PK_HAAR_MALLAT, each band times its gain. With
 * one pair of factors C = B * A; with one a band, a band of [p, q] coefficients is B * A with B [p, rank] and A [rank, q].
 *
 * Activation mode: rows of x are grids of grid_rows * grid_columns tokens, one after the other, which are transformed along both axes of the grid, each column of x on its own. A band of them
 * is multiplied by A^T and B^T and its gain, A [rank, k] and B [n, rank], transformed back and times scale added to y. One pair for all bands, or one a band. */
#define PK_HAAR_WARA_WEIGHT 0
#define PK_HAAR_WARA_ACTIVATION 1

#define PK_HAAR_WARA_LEVELS 6 /* at most */

typedef struct pk_haar_wara_adapter {
  const pk_matrix *a, *b; /* host, factor_count each */
  const float *gains;     /* host, 3 * levels + 1, or null: ones */
  int64_t factor_count;   /* 1, or 3 * levels + 1 */
  int32_t mode;           /* PK_HAAR_WARA_* */
  int32_t levels;
  int32_t boundary; /* PK_HAAR_BOUNDARY_*, of extents that are no multiples of 2^levels */
  float scale;
  int64_t grid_rows, grid_columns; /* activation mode */
} pk_haar_wara_adapter;

/* y = base + the adapter's branch. Factors are of x's element type or of f32. */
typedef struct pk_haar_wara_forward_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_haar_wara_adapter adapter;
  int32_t base; /* PK_LORA_BASE_* */
  int32_t reserved;
  pk_matrix x; /* [m, k] */
  pk_matrix w; /* [n, k]; read with PK_LORA_BASE_DENSE only */
  pk_matrix y; /* [m, n] */
  void *workspace; /* device */
  uint64_t workspace_bytes;
} pk_haar_wara_forward_descriptor;

/* From dy, the gradients of x (with that of the base, where w is given) and of the factors; each is written where it has data. */
typedef struct pk_haar_wara_backward_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_haar_wara_adapter adapter;
  pk_matrix x;  /* [m, k] */
  pk_matrix dy; /* [m, n] */
  pk_matrix w;  /* [n, k], or data = null: the base passes no gradient on */
  pk_matrix dx; /* [m, k], or data = null */
  const pk_matrix *da, *db; /* host, factor_count each of the factors' extents and type, or null; elements with data = null are left out */
  void *workspace; /* device */
  uint64_t workspace_bytes;
} pk_haar_wara_backward_descriptor;

/* destination = source + delta W, rounded once. Weight mode. */
typedef struct pk_haar_wara_merge_descriptor {
  uint64_t size;
  int32_t algorithm; /* 0: automatic */
  uint32_t flags;
  pk_haar_wara_adapter adapter;
  pk_matrix source;      /* [n, k] */
  pk_matrix destination; /* [n, k]; may be the source itself */
} pk_haar_wara_merge_descriptor;

PK_API int32_t pk_haar_wara_forward(const pk_queue *queue, const pk_haar_wara_forward_descriptor *descriptor);
PK_API int32_t pk_haar_wara_forward_workspace(const pk_haar_wara_forward_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_haar_wara_forward_pick(const pk_chip *chip, const pk_haar_wara_forward_descriptor *descriptor, pk_kernel_choice *choice);
PK_API int32_t pk_haar_wara_backward(const pk_queue *queue, const pk_haar_wara_backward_descriptor *descriptor);
PK_API int32_t pk_haar_wara_backward_workspace(const pk_haar_wara_backward_descriptor *descriptor, uint64_t *bytes);
PK_API int32_t pk_haar_wara_backward_pick(const pk_chip *chip, const pk_haar_wara_backward_descriptor *descriptor, pk_kernel_choice *choice);
PK_API int32_t pk_haar_wara_merge(const pk_queue *queue, const pk_haar_wara_merge_descriptor *descriptor);
/* destination = source - delta W */
PK_API int32_t pk_haar_wara_unmerge(const pk_queue *queue, const pk_haar_wara_merge_descriptor *descriptor);
PK_API int32_t pk_haar_wara_merge_pick(const pk_chip *chip, const pk_haar_wara_merge_descriptor *descriptor, pk_kernel_choice *choice);

/* ---- the library itself ----------------------------------------------------------------------------------------------------------------------------------- */
PK_API int32_t pk_abi_version(void);

/* 1 where queues of this kind were compiled in, else 0. */
PK_API int32_t pk_has_queue(int32_t kind);

/* The number of CUDA devices. */
PK_API int32_t pk_device_count(int32_t *count);

/* What `pick` is given for a queue. */
PK_API int32_t pk_queue_chip(const pk_queue *queue, pk_chip *chip);

/* Loads every kernel on the queue's device, so that a first call inside a graph capture loads nothing. */
PK_API int32_t pk_prepare(const pk_queue *queue);

/* Waits for the queue and copies the record to host memory. The only call that synchronises. */
PK_API int32_t pk_status_read(const pk_queue *queue, const pk_status_record *status, pk_status_record *host);

/* Copies the text of this thread's last failed call, cut to size - 1 characters and a zero; returns its whole length. */
PK_API uint64_t pk_last_error(char *buffer, uint64_t size);

#ifdef __cplusplus
}
#endif

#endif
