// In how many parts a backward call adds up over rows: pure functions of the shape, so that the bits do not depend on the chip. What the C interface plans with and the launches are made by.
#pragma once

#include "algorithms.h"

enum : int32_t { PK_LORA_BACKWARD_SIMT = 1, PK_LORA_BACKWARD_MMA_LARGE = 2, PK_LORA_BACKWARD_MMA_SMALL = 3 };

// How a backward call is run: what `pick` decides.
struct LoraBackwardPlan {
  int32_t algorithm;
  int32_t tf32;      // whether f32 dY * W is multiplied as one number of tf32
  int32_t h_planes;  // parts of k in which H is made again, which add up to it
};

// Of the product left^T * h: rows and columns of left in a block's tile, columns that it goes on with, and columns of h.
constexpr int32_t kLoraOuterRows = 64, kLoraOuterColumns = 64;
static constexpr int32_t lora_outer_ranks(int64_t rank) { return rank <= 16 ? 16 : 64; }
static constexpr int32_t lora_outer_tiles(int64_t rank) { return rank <= 16 ? 4 : 2; }

// A pass over left [batches, m, columns]. Parts of its rows, in groups that are never added to each other (one, or one for each batch), and parts of its columns.
struct LoraOuterPlan {
  int64_t groups, parts;   // `parts` of each group
  int64_t column_groups;   // planes of dH
};

static constexpr int64_t lora_up(int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; }

static inline LoraOuterPlan lora_outer_plan(int64_t batches, int64_t m, int64_t columns, int64_t rank, bool makes_dh, bool by_batch) {
  constexpr int64_t kWantedBlocks = 264, kMostFloats = INT64_C(1) << 22;  // two blocks for each multiprocessor of a large chip; 16 MiB
  const int64_t tiles = lora_up(m, kLoraOuterRows) * (by_batch ? 1 : batches), groups = by_batch ? batches : 1;
  const int64_t supers = lora_up(columns, kLoraOuterColumns * lora_outer_tiles(rank));
  LoraOuterPlan plan{groups, 1, supers};
  if (makes_dh && supers > 0) {
    const int64_t plane = batches * m * rank, most = plane > 0 ? kMostFloats / plane : supers;
    plan.column_groups = most < 1 ? 1 : most < supers ? most : supers;
  }
  const int64_t rank_tiles = rank > 0 ? lora_up(rank, lora_outer_ranks(rank)) : 1, blocks = plan.column_groups * rank_tiles * groups, sums = columns * (rank + 1);
  const auto limit = [&](int64_t most) { plan.parts = plan.parts < most ? plan.parts : most < 1 ? 1 : most; };
  plan.parts = kWantedBlocks;
  limit(blocks > 0 ? kWantedBlocks / blocks : 1);
  limit(tiles);
  limit(sums > 0 && groups > 0 ? kMostFloats / sums / groups : 1);
  return plan;
}

// Which gradients of its middle a target has, of such as have elements.
static inline bool lora_makes_dscale(const pk_lora_gradient_target& target) { return lora_rank(target) > 0 && target.scale_gradient != PK_GRADIENT_NONE; }
static inline bool lora_makes_dgate(const pk_lora_gradient_target& target) { return lora_rank(target) > 0 && target.gate_gradient != PK_GRADIENT_NONE; }
static inline bool lora_makes_dcore(const pk_lora_gradient_target& target) { return lora_rank(target) > 0 && lora_rank_after(target) > 0 && target.core_gradient != PK_GRADIENT_NONE; }

// Whether y is scaled row by row of W.
static inline bool lora_has_row_scale(const pk_lora_gradient_target& target) { return target.row_scale.columns > 0; }

// Whether its rows choose from a table. The C interface gives such a target the ranks that its rows' intermediates have: A [max_rank, k] and B [n, max_rank], of which nothing is read.
static inline bool lora_has_table(const pk_lora_gradient_target& target) { return target.adapters != nullptr; }

// Which intermediates a target needs, and which passes. `after` is dY * (g .* B), which is dH where there is no middle.
static inline bool lora_makes_da(const pk_lora_gradient_target& target) { return lora_rank(target) > 0 && target.a_gradient != PK_GRADIENT_NONE; }
static inline bool lora_makes_db(const pk_lora_gradient_target& target) { return lora_rank_after(target) > 0 && target.b_gradient != PK_GRADIENT_NONE; }
static inline bool lora_makes_dh(const pk_lora_gradient_target& target, bool dx) { return lora_rank(target) > 0 && (dx || target.a_gradient != PK_GRADIENT_NONE); }
static inline bool lora_makes_after(const pk_lora_gradient_target& target, bool dx) {
  return lora_rank_after(target) > 0 && (lora_makes_dh(target, dx) || lora_makes_dscale(target) || lora_makes_dgate(target) || lora_makes_dcore(target));
}
static inline bool lora_makes_h(const pk_lora_gradient_target& target) {
  const bool needed = lora_makes_db(target) || lora_makes_dscale(target) || lora_makes_dgate(target) || lora_makes_dcore(target);
  return needed && lora_rank(target) > 0 && target.h_saved == 0;
}

// What a pass over all rows of dY makes, which is what an adapter of all rows has.
static inline bool lora_pass_makes_after(const pk_lora_gradient_target& target, bool dx) { return !lora_has_table(target) && lora_makes_after(target, dx); }
static inline bool lora_pass_makes_db(const pk_lora_gradient_target& target) { return !lora_has_table(target) && lora_makes_db(target); }

// Whether rows count as their samples weigh; then H is copied, where no middle makes one of it, and the bias has a pass of its own.
static inline bool lora_weighs_rows(const pk_lora_backward_descriptor& descriptor) { return descriptor.samples.count > 0; }
static inline int64_t lora_h_planes(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target, int32_t h_planes) {
  return lora_makes_h(target) ? h_planes : lora_makes_db(target) && lora_weighs_rows(descriptor) && !lora_has_middle(target.middle) ? 1 : 0;
}

static inline LoraOuterPlan lora_bias_plan(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  return lora_outer_plan(descriptor.batch_count, target.dy.rows, target.dy.columns, 1, false, descriptor.batch_count > 1 && target.dbias.batch_stride != 0);
}

static inline LoraOuterPlan lora_dy_plan(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  const bool dh = lora_pass_makes_after(target, descriptor.x_gradient != PK_GRADIENT_NONE), db = lora_pass_makes_db(target), bias = target.bias_gradient != PK_GRADIENT_NONE;
  const bool by_batch = descriptor.batch_count > 1 && ((dh && target.b.batch_stride != 0) || (db && target.db.batch_stride != 0) || (bias && target.dbias.batch_stride != 0) ||
                                                       ((dh || db) && target.row_scale.batch_stride != 0));
  return lora_outer_plan(descriptor.batch_count, target.dy.rows, target.dy.columns, dh || db ? lora_rank_after(target) : 0, dh, by_batch);
}

// The sums over rows of a scale's gradient, and of a core's.
static inline LoraOuterPlan lora_middle_plan(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  return lora_outer_plan(descriptor.batch_count, target.dy.rows, lora_rank(target), 0, false, descriptor.batch_count > 1 && lora_makes_dscale(target) && target.dscale.batch_stride != 0);
}
static inline LoraOuterPlan lora_core_plan(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  return lora_outer_plan(descriptor.batch_count, target.dy.rows, lora_rank(target), lora_rank_after(target), false, descriptor.batch_count > 1 && target.dcore.batch_stride != 0);
}

static inline LoraOuterPlan lora_x_plan(const pk_lora_backward_descriptor& descriptor, int64_t total_rank) {
  bool by_batch = false;
  for (int64_t i = 0; i < descriptor.target_count; ++i) by_batch = by_batch || (lora_makes_da(descriptor.targets[i]) && descriptor.targets[i].da.batch_stride != 0);
  return lora_outer_plan(descriptor.batch_count, descriptor.x.rows, descriptor.x.columns, total_rank, false, by_batch && descriptor.batch_count > 1);
}

// Floats that a pass over dY leaves: planes of dB, of the bias' gradient, and of dH; over x: planes of dA. In floating point nobody overflows.
static inline double lora_dy_floats(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  const LoraOuterPlan plan = lora_dy_plan(descriptor, target);
  const double planes = static_cast<double>(plan.groups) * static_cast<double>(plan.parts), n = static_cast<double>(target.dy.columns), rank = static_cast<double>(lora_rank_after(target));
  const double dh = lora_pass_makes_after(target, descriptor.x_gradient != PK_GRADIENT_NONE) ? static_cast<double>(plan.column_groups * descriptor.batch_count) * static_cast<double>(target.dy.rows) * rank : 0;
  return planes * n * (lora_pass_makes_db(target) ? rank : 0) + planes * n * (target.bias_gradient != PK_GRADIENT_NONE ? 1 : 0) + dh;
}

static inline double lora_x_floats(const pk_lora_backward_descriptor& descriptor, int64_t total_rank) {
  const LoraOuterPlan plan = lora_x_plan(descriptor, total_rank);
  return static_cast<double>(plan.groups) * static_cast<double>(plan.parts) * static_cast<double>(descriptor.x.columns) * static_cast<double>(total_rank);
}

// The larger of the two passes of a middle.
static inline double lora_middle_floats(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  const LoraOuterPlan of_scale = lora_middle_plan(descriptor, target), of_core = lora_core_plan(descriptor, target);
  const double rank = static_cast<double>(lora_rank(target));
  const double scale = lora_makes_dscale(target) ? static_cast<double>(of_scale.groups) * static_cast<double>(of_scale.parts) * rank : 0;
  const double core = lora_makes_dcore(target) ? static_cast<double>(of_core.groups) * static_cast<double>(of_core.parts) * rank * static_cast<double>(lora_rank_after(target)) : 0;
  return scale < core ? core : scale;
}

// Columns of W, of all targets with a quantised one, that the workspace holds at a time: dx's are made so many at a time, of all of W's rows.
static inline int64_t lora_input_slab_columns(const pk_lora_backward_descriptor& descriptor) {
  int64_t rows = 0;
  for (int64_t i = 0; i < descriptor.target_count; ++i) rows += descriptor.targets[i].base == PK_LORA_BASE_QUANTIZED ? descriptor.targets[i].dy.columns : 0;
  return lora_slab_extent(descriptor.x.columns, rows * (descriptor.x.element_type == PK_F32 ? 4 : 2), descriptor.slab_bytes);
}

static inline int64_t lora_input_slab_bytes(const pk_lora_backward_descriptor& descriptor) {
  if (descriptor.x_gradient == PK_GRADIENT_NONE || descriptor.batch_count * descriptor.x.rows == 0) return 0;
  const int64_t size = descriptor.x.element_type == PK_F32 ? 4 : 2, row = lora_slab_pitch(lora_input_slab_columns(descriptor), size) * size;
  int64_t bytes = 0;
  for (int64_t i = 0; i < descriptor.target_count; ++i) bytes += descriptor.targets[i].base == PK_LORA_BASE_QUANTIZED ? descriptor.targets[i].dy.columns * row : 0;
  return lora_aligned(bytes);
}

// What a table needs of the workspace, in bytes, aligned: the adapter of each row, and for gradients of factors where in the rows of all adapters each one's are, and these.
struct LoraTableLayout {
  int64_t indices, offsets, rows;

  int64_t bytes() const { return indices + offsets + rows; }
};

static inline LoraTableLayout lora_table_layout(const pk_lora_backward_descriptor& descriptor, const pk_lora_gradient_target& target) {
  if (!lora_has_table(target)) return {0, 0, 0};
  const int64_t rows = descriptor.batch_count * descriptor.x.rows;
  const bool lists = lora_makes_da(target) || lora_makes_db(target);
  return {lora_aligned(rows * 4), lists ? lora_aligned((target.adapter_count + 1) * 8) : 0, lists ? lora_aligned(rows * 8) : 0};
}

// The parts of the workspace, in floats: H of each target that it is made for, dH of all, side by side or of tables one after the other, H' and dH' of one target with a middle, and what the passes
// leave, one after the other; then the listed ranks, the rows of tables and a slab of quantised W, in bytes, aligned.
struct LoraBackwardLayout {
  double h, dh, after, sums, row_weights;
  double ranks, tables, slab;
  int64_t total_rank;  // of the targets whose dH is made: columns of dH

  double bytes_before_ranks() const { return static_cast<double>(lora_up(static_cast<int64_t>(h + dh + after + sums + row_weights) * 4, PK_WORKSPACE_ALIGNMENT)) * PK_WORKSPACE_ALIGNMENT; }
};

static inline LoraBackwardLayout lora_backward_layout(const pk_lora_backward_descriptor& descriptor, int32_t h_planes) {
  LoraBackwardLayout layout{};
  const double rows = static_cast<double>(descriptor.batch_count) * static_cast<double>(descriptor.x.rows);
  bool da = false;
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const pk_lora_gradient_target& target = descriptor.targets[i];
    layout.h += static_cast<double>(lora_h_planes(descriptor, target, h_planes)) * rows * static_cast<double>(lora_rank(target));
    if (lora_makes_dh(target, descriptor.x_gradient != PK_GRADIENT_NONE)) layout.total_rank += lora_rank(target);
    layout.ranks += static_cast<double>(lora_ranks_layout(target, descriptor.batch_count).bytes());
    layout.tables += static_cast<double>(lora_table_layout(descriptor, target).bytes());
    if (lora_has_middle(target.middle)) {
      const double of_middle = lora_middle_floats(descriptor, target), after = rows * static_cast<double>(lora_rank_after(target)) * 2;
      layout.sums = layout.sums < of_middle ? of_middle : layout.sums;
      layout.after = layout.after < after ? after : layout.after;
    }
    const LoraOuterPlan of_bias = lora_bias_plan(descriptor, target);
    const double bias = lora_weighs_rows(descriptor) ? static_cast<double>(of_bias.groups * of_bias.parts) * static_cast<double>(target.dy.columns) : 0;
    const double floats = lora_dy_floats(descriptor, target) < bias ? bias : lora_dy_floats(descriptor, target);
    layout.sums = layout.sums < floats ? floats : layout.sums;
    da = da || (lora_makes_da(target) && !lora_has_table(target));
  }
  layout.slab = static_cast<double>(lora_input_slab_bytes(descriptor));
  layout.dh = rows * static_cast<double>(layout.total_rank);
  layout.row_weights = lora_weighs_rows(descriptor) ? rows : 0;
  const double floats = da ? lora_x_floats(descriptor, layout.total_rank) : 0;
  layout.sums = layout.sums < floats ? floats : layout.sums;
  return layout;
}

// With a middle: that of H' and of dH, and of the sums of 16 rows of threads.
static inline int64_t lora_middle_gradient_rounding_steps(const pk_lora_gradient_target& target) { return lora_has_middle(target.middle) ? lora_middle_rounding_steps(target) + lora_rank_after(target) + 16 + 4 : 0; }

// The longest chains of roundings. H or dH: its products, warps or lanes, planes; then the sum over rows in parts; scale and what is added to. dX: the products of all targets, then those of their
// branches, one scale and sum each, and three sums. Where dH is made of parts of columns, their sums are one each at most 64 columns.
static inline int64_t lora_backward_simt_rounding_steps(int64_t k, int64_t total_n, int64_t total_rank, int64_t rows, int64_t parts, int64_t targets) {
  const int64_t dh = lora_up(total_n, 32) + 5, h = lora_up(k, 32) + 5, longest = dh > h ? dh : h;
  const int64_t of_factors = longest + rows + parts + 4, of_x = total_n + dh + total_rank + 2 * targets + 4;
  return of_factors > of_x ? of_factors : of_x;
}

static inline int64_t lora_backward_mma_rounding_steps(LoraMath base_math, int64_t k, int64_t total_n, int64_t total_rank, int64_t rows, int64_t parts, int64_t h_planes) {
  const auto three = [](int64_t depth) { return lora_mma_rounding_steps(LoraMath::three_tf32, depth); };
  const int64_t dh = three(total_n) + lora_up(total_n, 64) + 2, h = lora_mma_rounding_steps(base_math, k) + three(k) + h_planes + 2, longest = dh > h ? dh : h;
  const int64_t of_factors = longest + three(rows) + parts + 4, of_x = lora_mma_rounding_steps(base_math, total_n) + dh + three(total_rank) + 8;
  return of_factors > of_x ? of_factors : of_x;
}

// Of tables more: the scale's factor for dropout and its product; and in the tensor cores' branch a sum for each 16 ranks of a row's adapter.
static inline int64_t lora_backward_table_rounding_steps(int64_t total_rank, bool dropout, bool simt) { return (dropout ? 2 : 0) + (simt ? 0 : lora_up(total_rank, 16)); }

// ---- norms of samples -----------------------------------------------------------------------------------------------------------------------------------------

static inline bool lora_norm_of_a(const pk_lora_sample_norm_target& target) { return target.a.rows > 0 && target.a_counts != 0; }
static inline bool lora_norm_of_b(const pk_lora_sample_norm_target& target) { return target.a.rows > 0 && target.b_counts != 0; }

// Numbers that the passes of a target leave for each sample.
static inline int64_t lora_norm_blocks(const pk_lora_sample_norms_descriptor& descriptor, const pk_lora_sample_norm_target& target) {
  const int64_t of_dy = lora_norm_of_b(target) || target.bias_counts != 0 ? lora_up(target.dy.columns, kLoraSampleNormColumns) : 0;
  return of_dy + (lora_norm_of_a(target) ? lora_up(descriptor.x.columns, kLoraSampleNormColumns) : 0);
}

// The parts of the workspace, in floats: H and dH, which the targets have one after the other, and the numbers of all.
struct LoraSampleNormsLayout {
  double h, dh, blocks;
};

static inline LoraSampleNormsLayout lora_sample_norms_layout(const pk_lora_sample_norms_descriptor& descriptor) {
  LoraSampleNormsLayout layout{0, 0, 0};
  const double rows = static_cast<double>(descriptor.batch_count) * static_cast<double>(descriptor.x.rows);
  for (int64_t i = 0; i < descriptor.target_count; ++i) {
    const pk_lora_sample_norm_target& target = descriptor.targets[i];
    const double floats = rows * static_cast<double>(target.a.rows);
    if (lora_norm_of_b(target) && target.h_saved == 0 && layout.h < floats) layout.h = floats;
    if (lora_norm_of_a(target) && layout.dh < floats) layout.dh = floats;
    layout.blocks += static_cast<double>(lora_norm_blocks(descriptor, target)) * static_cast<double>(descriptor.samples.count);
  }
  return layout;
}

// An element of a gradient: H or dH, the rows, the scale; twice that in its square. Then the squares of a thread, of a warp, of warps; a number to f32.
static inline int64_t lora_sample_norms_rounding_steps(int64_t k, int64_t n, int64_t rank, int64_t rows) {
  const int64_t longest = lora_up(k > n ? k : n, 32) + 5;
  return 2 * (longest + rows + 2) + (rank + 1) + 5 + 8 + 2;
}

// ---- gradient of the magnitude --------------------------------------------------------------------------------------------------------------------------------

// Parts of the rows, in one group, or one for each batch where gradients are.
static inline LoraOuterPlan lora_magnitude_plan(const pk_lora_magnitude_gradient_descriptor& descriptor) {
  constexpr int64_t kWantedBlocks = 1056;  // eight for each multiprocessor of a large chip
  const bool by_batch = descriptor.batch_count > 1 && descriptor.dmagnitude.batch_stride != 0;
  const int64_t groups = by_batch ? descriptor.batch_count : 1, tiles = lora_up(descriptor.dy.rows, kLoraOuterRows) * (by_batch ? 1 : descriptor.batch_count);
  const int64_t column_tiles = lora_up(descriptor.dy.columns, kLoraOuterColumns);
  LoraOuterPlan plan{groups, column_tiles > 0 && groups < kWantedBlocks ? kWantedBlocks / groups / column_tiles : 1, 1};
  plan.parts = plan.parts < tiles ? plan.parts : tiles;
  plan.parts = plan.parts > 1 ? plan.parts : 1;
  return plan;
}

// The bias, 16 rows of each tile, 4 threads, the parts, the quotient, and what is added to.
static inline int64_t lora_magnitude_rounding_steps(const pk_lora_magnitude_gradient_descriptor& descriptor) {
  const LoraOuterPlan plan = lora_magnitude_plan(descriptor);
  const int64_t tiles = lora_up(descriptor.dy.rows, kLoraOuterRows) * descriptor.batch_count;
  return 1 + 16 * lora_up(tiles, plan.groups * plan.parts) + 4 + plan.parts + 2;
}
