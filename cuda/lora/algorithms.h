// The kernels of the LoRA family by number, their tiles, and the longest chain of float roundings of each: what the C interface knows of them when it picks.
#pragma once

#include <cstdint>

#include "../include/peft_kernels.h"

enum : int32_t {
  PK_LORA_FORWARD_SIMT = 1,
  PK_LORA_FORWARD_MMA_LARGE = 2,
  PK_LORA_FORWARD_MMA_SMALL = 3,
  PK_LORA_FORWARD_MMA_DECODE = 4,
  PK_LORA_FORWARD_QUANTIZED_SMALL = 5,
  PK_LORA_FORWARD_QUANTIZED_DECODE = 6
};
enum : int32_t { PK_LORA_MERGE_SIMT = 1, PK_LORA_MERGE_MMA = 2 };
enum : int32_t { PK_LORA_QUANTIZE_WARP = 1 };
enum : int32_t { PK_LORA_WEIGHT_NORM_MMA = 1 };
enum : int32_t { PK_LORA_MAGNITUDE_GRADIENT_SIMT = 1 };
enum : int32_t { PK_LORA_SAMPLE_NORMS_SIMT = 1 };
enum : int32_t { PK_LORA_CLIP_WEIGHTS = 1 };
enum : int32_t { PK_LORA_ADD_NOISE = 1 };

// Of a block of any tensor-core kernel: what the smallest chips from 8.0 on have.
constexpr int64_t kLoraSharedBytes = 99 * 1024;

// How a forward call is run: what `pick` decides.
struct LoraForwardPlan {
  int32_t algorithm;
  int32_t splits;    // blocks that share a tile of y, each with a part of k
  int32_t h_planes;  // parts of k in which x * A^T is made, which add up to it
  int32_t tf32;      // whether f32 is multiplied as one number of tf32
  int32_t overlaps;  // whether the chip can start the forward kernel while the shrink kernel runs
};

// Of y, and the bytes of x's row that a stage of the pipeline holds.
struct LoraTile {
  int32_t rows, columns, stage_bytes;
};

// The kernel for a W in memory that makes the same sums in the same order.
static constexpr int32_t lora_forward_of_dense(int32_t algorithm) {
  return algorithm == PK_LORA_FORWARD_QUANTIZED_SMALL ? PK_LORA_FORWARD_MMA_SMALL : algorithm == PK_LORA_FORWARD_QUANTIZED_DECODE ? PK_LORA_FORWARD_MMA_DECODE : algorithm;
}

// Whether a kernel makes a quantised W where it reads it. The others find it in slabs of the workspace.
static constexpr bool lora_forward_decodes(int32_t algorithm) { return algorithm == PK_LORA_FORWARD_SIMT || lora_forward_of_dense(algorithm) != algorithm; }

static constexpr LoraTile lora_forward_tile(int32_t algorithm, bool f32) {
  switch (lora_forward_of_dense(algorithm)) {
    case PK_LORA_FORWARD_MMA_LARGE: return {128, f32 ? 128 : 256, 64};
    case PK_LORA_FORWARD_MMA_SMALL: return {64, 64, 64};
    case PK_LORA_FORWARD_MMA_DECODE: return {16, 32, 512};
    default: return {64, 64, 0};
  }
}

// Of H = x * A^T.
constexpr int32_t kLoraShrinkRows = 64, kLoraShrinkStageBytes = 128;
static constexpr int32_t lora_shrink_columns(int64_t rank) { return rank <= 16 ? 16 : 64; }
// Blocks that share out the adapters of a table among the same rows; those that find none to do end at once.
static constexpr int32_t lora_shrink_slots(int64_t adapters) { return static_cast<int32_t>(adapters < 1 ? 1 : adapters < 8 ? adapters : 8); }

// Whether x is multiplied with a W.
static constexpr bool lora_has_w(int32_t base) { return base == PK_LORA_BASE_DENSE || base == PK_LORA_BASE_QUANTIZED; }

// Whether some of an adapter's ranks take part alone, and whether something lies between A and B.
static inline bool lora_lists_ranks(const pk_lora_middle& middle) { return (middle.has & (PK_LORA_MIDDLE_RANKS | PK_LORA_MIDDLE_HOST_RANKS)) != 0; }
static inline bool lora_has_middle(const pk_lora_middle& middle) { return (middle.has & (PK_LORA_MIDDLE_SCALE | PK_LORA_MIDDLE_GATE | PK_LORA_MIDDLE_CORE)) != 0; }

// Columns of H, and of what the middle makes of it.
template <class Target>
static inline int64_t lora_rank(const Target& target) {
  return lora_lists_ranks(target.middle) ? target.middle.rank_count : target.a.rows;
}
template <class Target>
static inline int64_t lora_rank_after(const Target& target) {
  return lora_lists_ranks(target.middle) ? target.middle.rank_count : target.b.columns;
}

// An adapter of a list on the host and what lies between its factors, by the names of a target's.
struct LoraListedAdapter {
  pk_matrix a, b;
  pk_lora_middle middle;
  int32_t adapter_element_type;
};

static inline pk_matrix lora_matrix_a(const pk_lora_adapter& adapter, int64_t k, int32_t element_type) {
  return {const_cast<void*>(adapter.a), adapter.rank, k, adapter.a_row_stride, adapter.a_column_stride, 0, element_type, 0};
}

static inline pk_matrix lora_matrix_b(const pk_lora_adapter& adapter, int64_t n, int64_t columns, int32_t element_type) {
  return {const_cast<void*>(adapter.b), n, columns, adapter.b_row_stride, adapter.b_column_stride, 0, element_type, 0};
}

// Of weights [n, k]; `middle` may be null.
static inline LoraListedAdapter lora_listed_adapter(const pk_lora_adapter& adapter, const pk_lora_middle* middle, int64_t n, int64_t k, int32_t element_type) {
  const bool core = middle != nullptr && (middle->has & PK_LORA_MIDDLE_CORE) != 0;
  return {lora_matrix_a(adapter, k, element_type), lora_matrix_b(adapter, n, core ? middle->core.rows : adapter.rank, element_type), middle != nullptr ? *middle : pk_lora_middle{}, element_type};
}

static constexpr int64_t lora_aligned(int64_t bytes) { return (bytes + PK_WORKSPACE_ALIGNMENT - 1) / PK_WORKSPACE_ALIGNMENT * PK_WORKSPACE_ALIGNMENT; }

// What a target with a list of ranks needs of the workspace: the list, A's rows and B's columns.
struct LoraRanksLayout {
  int64_t list, a, b;  // bytes, aligned

  int64_t bytes() const { return list + a + b; }
};

template <class Target>
static inline LoraRanksLayout lora_ranks_layout(const Target& target, int64_t batches) {
  if (!lora_lists_ranks(target.middle)) return {0, 0, 0};
  const int64_t count = target.middle.rank_count, size = target.adapter_element_type == PK_F32 ? 4 : 2;
  const auto batches_of = [&](const pk_matrix& factor) { return factor.batch_stride == 0 ? 1 : batches; };
  return {lora_aligned(count * 4), lora_aligned(batches_of(target.a) * count * target.a.columns * size), lora_aligned(batches_of(target.b) * count * target.b.rows * size)};
}

// A slab of quantised W as the workspace holds it: rows of it, or columns, a multiple of every tile's.
constexpr int64_t kLoraSlabMultiple = 256;

// So many of `count` rows or columns of so many bytes each: as `slab_bytes` of a descriptor has room for, and at least the multiple.
static constexpr int64_t lora_slab_extent(int64_t count, int64_t bytes, int64_t slab_bytes) {
  constexpr int64_t kDefaultBytes = int64_t{64} << 20;
  const int64_t room = bytes > 0 ? (slab_bytes > 0 ? slab_bytes : kDefaultBytes) / bytes / kLoraSlabMultiple * kLoraSlabMultiple : count;
  const int64_t most = room > kLoraSlabMultiple ? room : kLoraSlabMultiple;
  return count < most ? count : most;
}

// From one row of a slab to the next: 16 bytes are whole.
static constexpr int64_t lora_slab_pitch(int64_t columns, int64_t element_bytes) { return (columns * element_bytes + 15) / 16 * 16 / element_bytes; }

// For the rows of W of all targets, one slab after the other.
static inline int64_t lora_forward_slab_bytes(const pk_lora_forward_descriptor& descriptor) {
  const int64_t element_bytes = descriptor.x.element_type == PK_F32 ? 4 : 2, row = lora_slab_pitch(descriptor.x.columns, element_bytes) * element_bytes;
  int64_t rows = 0;
  for (int64_t i = 0; i < descriptor.target_count; ++i) rows += descriptor.targets[i].base == PK_LORA_BASE_QUANTIZED ? descriptor.targets[i].y.columns : 0;
  return rows > 0 ? lora_aligned(lora_slab_extent(rows, row, descriptor.slab_bytes) * row) : 0;
}

// The parts of a forward call's workspace, in bytes, aligned, one after the other: all targets' H in planes, what the middles make of it, the listed ranks, a slab of quantised W.
struct LoraForwardLayout {
  int64_t h, after, ranks, slab;
  bool middles;  // of some target
};

static inline LoraForwardLayout lora_forward_layout(const pk_lora_forward_descriptor& descriptor, const LoraForwardPlan& plan) {
  const int64_t batches = descriptor.batch_count, m = descriptor.x.rows, count = descriptor.target_count;
  const pk_lora_target* targets = descriptor.targets;
  const int32_t h_planes = plan.h_planes;
  LoraForwardLayout layout{0, 0, 0, 0, false};
  if (!lora_forward_decodes(plan.algorithm) && batches * m > 0) layout.slab = lora_forward_slab_bytes(descriptor);
  for (int64_t i = 0; i < count; ++i) {
    layout.h += h_planes * batches * m * targets[i].max_rank * 4;
    layout.after += batches * m * lora_rank_after(targets[i]) * 4;
    layout.ranks += lora_ranks_layout(targets[i], batches).bytes();
    layout.middles = layout.middles || lora_has_middle(targets[i].middle);
  }
  return {lora_aligned(layout.h), layout.middles ? lora_aligned(layout.after) : 0, layout.ranks, layout.slab, layout.middles};
}

// A scale, a gate, and the sums of a core's products.
template <class Target>
static inline int64_t lora_middle_rounding_steps(const Target& target) {
  const uint32_t has = target.middle.has;
  return ((has & PK_LORA_MIDDLE_SCALE) != 0) + ((has & PK_LORA_MIDDLE_GATE) != 0) + ((has & PK_LORA_MIDDLE_CORE) != 0 ? lora_rank(target) : 0);
}

// Of W.
constexpr int32_t kLoraMergeRows = 64, kLoraMergeColumns = 128;

// Columns of W whose squares a block of the row norms adds up.
constexpr int32_t kLoraNormColumns = 1024;

// Columns of x or dY whose part of the samples' gradients a block of the sample norms squares.
constexpr int32_t kLoraSampleNormColumns = 256;

// Of quantisation: elements that share an absmax, and as many as a grid can have. Absmax that a block of the sum adds up, and where in the workspace its sums are.
constexpr int32_t kLoraQuantizeLeastBlock = 16, kLoraQuantizeMostBlock = 4096, kLoraAbsmaxChunk = 8192;
constexpr int64_t kLoraQuantizeMostElements = int64_t{1} << 42;
static constexpr int64_t lora_absmax_bytes(int64_t blocks) { return (blocks * 4 + PK_WORKSPACE_ALIGNMENT - 1) / PK_WORKSPACE_ALIGNMENT * PK_WORKSPACE_ALIGNMENT; }
static constexpr int64_t lora_absmax_chunks(int64_t blocks) { return (blocks + kLoraAbsmaxChunk - 1) / kLoraAbsmaxChunk; }

// An upper bound for every chip: as if a tensor core cut off each of `depth` products and the sum so far below 2^-23 of the largest of them, depth + 1 steps. (8.0 and 8.9 keep one bit more and add
// in two blocks, 9.0 and later keep two bits more.)
enum class LoraMath { exact16, tf32, three_tf32 };
static constexpr int64_t lora_mma_rounding_steps(LoraMath math, int64_t k) {
  switch (math) {
    case LoraMath::exact16: return k + (k + 15) / 16;
    case LoraMath::tf32: return k + (k + 7) / 8 + 8194;                // both factors rounded by 2^-11
    case LoraMath::three_tf32: return 3 * (k + (k + 7) / 8) + 16;  // three products, and 2^-19 of each left out
  }
  return 0;
}

// The base sums k products. The branch sums ceil(k / 32) products in a lane and 32 lanes in 5 steps, then `rank` products, and is scaled. Two sums join base, branch and bias.
static constexpr int64_t lora_forward_simt_rounding_steps(int64_t k, int64_t rank) {
  const int64_t branch = (k + 31) / 32 + 5 + rank + 1;
  return (k > branch ? k : branch) + 2;
}

// Base: k products, eight warps, the splits. H: k products, two warps, the planes, and the scale. `rank` products are added to the base's sums; three more sums join the splits, a base in y and
// bias.
static constexpr int64_t lora_forward_mma_rounding_steps(LoraMath base_math, LoraMath shrink_math, int64_t k, int64_t rank, const LoraForwardPlan& plan) {
  const int64_t base = lora_mma_rounding_steps(base_math, k) + 7 + plan.splits;
  const int64_t h = lora_mma_rounding_steps(shrink_math, k) + 1 + plan.h_planes + 1;
  return (base > h ? base : h) + lora_mma_rounding_steps(LoraMath::three_tf32, rank) + 3;
}

// `rank` products of one adapter, its scale, the sum over adapters, and the sum with W. A middle and a row scale have more.
static constexpr int64_t lora_merge_simt_rounding_steps(int64_t rank, int64_t adapters) { return rank + 1 + adapters + 1; }
static constexpr int64_t lora_merge_mma_rounding_steps(LoraMath math, int64_t rank, int64_t adapters) { return lora_mma_rounding_steps(math, rank) + 1 + adapters + 1; }

// Each element of W + sBA as in a merge; 32 squares in a thread, 32 threads, the sum's rounding to f32, the root and eps: of squares, of which the root halves the error, so that this is more
// than enough.
static constexpr int64_t lora_weight_norm_rounding_steps(LoraMath math, int64_t rank, int64_t adapters) { return lora_merge_mma_rounding_steps(math, rank, adapters) + 36; }
