// sums = left^T * h and the sums of left's columns, over parts of left's rows.
//
// left [m, columns], h [m, rank]. A warp makes 32 columns and 8 ranks of one part: lanes lie along columns, rows follow each other; the sums of columns are one more rank, of ones.
// Loads, in elements: left m * columns * ceil((rank + 1) / 8), h m * rank * ceil(columns / 32) (the same for a warp, from cache). Stores: parts * columns * (rank + 1) of f32.
// 2 * m * columns * rank flops. Roundings of a sum: the rows of its part. Any rank, stride and order; the fallback of every chip from 8.0 on.
#pragma once

#include "outer.cuh"

namespace PK_BUILD {

struct OuterSimtConfig {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRanks = 8;  // accumulators a lane
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(OuterSimtConfig::kThreads) lora_outer_simt(OuterProblem<T> problem) {
  using Config = OuterSimtConfig;
  const int64_t rank = problem.makes_sums != 0 ? problem.rank : 0, ranks = rank + (problem.bias_sums != nullptr ? 1 : 0);
  const int64_t column_warps = (problem.columns + 31) / 32, rank_warps = (ranks + Config::kRanks - 1) / Config::kRanks;
  const int64_t row_tiles = (problem.m + kLoraOuterRows - 1) / kLoraOuterRows, work_items = problem.plan.groups * problem.plan.parts * column_warps * rank_warps;
  for (int64_t work = block_index().x * static_cast<int64_t>(Config::kWarps) + warp(); work < work_items; work += grid_extent().x * static_cast<int64_t>(Config::kWarps)) {
    const int64_t part = work / (column_warps * rank_warps), rank0 = work / column_warps % rank_warps * Config::kRanks, column = work % column_warps * 32 + lane();
    const OuterPart tiles(problem, part);
    if (column >= problem.columns) continue;
    float sums[Config::kRanks] = {};
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      const int64_t batch = tile / row_tiles, first = (tile - batch * row_tiles) * kLoraOuterRows, last = minimum(problem.m, first + kLoraOuterRows);
      const Matrix<const T> left = problem.left.batch(batch);
      for (int64_t row = first; row < last; ++row) {
        const float value = problem.dropout.keeps(batch * problem.m + row, column) ? to_float(load_global(left.at(row, column))) : 0.0f;
#pragma unroll
        for (int i = 0; i < Config::kRanks; ++i) {
          if (rank0 + i < rank) sums[i] = fma(value, load_intermediate<T>(problem.h, batch, row, rank0 + i), sums[i]);
          else sums[i] += value;  // the bias' is the first of these
        }
      }
    }
#pragma unroll
    for (int i = 0; i < Config::kRanks; ++i) {
      if (rank0 + i < rank) store_global(problem.sums + (part * problem.columns + column) * rank + rank0 + i, sums[i]);
      else if (rank0 + i < ranks) store_global(problem.bias_sums + part * problem.columns + column, sums[i]);
    }
  }
}

}  // namespace PK_BUILD
