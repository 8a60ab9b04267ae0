// gradient = scale * left^T * h of each adapter of a table, over the rows that use it, and what was there.
//
// left [m, columns], h [m, rank]. A warp makes 32 columns and 8 ranks of an adapter from all of its rows, as lora_outer_simt makes them of a part: lanes lie along columns, rows follow each other.
// Loads, in elements, of the rows of each adapter: left rows * columns * ceil(rank / 8), h rows * rank * ceil(columns / 32) (the same for a warp, from cache), a scale of left as often as left, 8
// bytes of the list for each row of a warp; the gradient where it is added to. Stores: columns * rank of each adapter. 2 * rows * columns * rank flops.
// Roundings of an element: left's scale, the rows, the adapter's scale with dropout's, the sum with what was there, then the one to its type. Any rank, stride and order; the fallback of every chip.
#pragma once

#include "outer_list.cuh"

namespace PK_BUILD {

struct OuterListSimtConfig {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRanks = 8;  // accumulators a lane
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(OuterListSimtConfig::kThreads) lora_outer_list_simt(OuterListProblem<T> problem) {
  using Config = OuterListSimtConfig;
  const int64_t column_warps = (problem.columns + 31) / 32, rank_warps = (problem.adapters.max_rank + Config::kRanks - 1) / Config::kRanks;
  const int64_t work_items = problem.adapters.count * column_warps * rank_warps;
  const bool scaled = problem.left_scale.first.data != nullptr;
  for (int64_t work = block_index().x * static_cast<int64_t>(Config::kWarps) + warp(); work < work_items; work += grid_extent().x * static_cast<int64_t>(Config::kWarps)) {
    const int64_t rank0 = work / column_warps % rank_warps * Config::kRanks, column = work % column_warps * 32 + lane();
    const ListedGradient gradient(problem, work / (column_warps * rank_warps));
    if (rank0 >= gradient.rank || column >= problem.columns) continue;
    float sums[Config::kRanks] = {};
    for (int64_t at = gradient.begin; at < gradient.end; ++at) {
      const ListedRow row(problem, at);
      float value = problem.dropout.keeps(row.of_all, column) ? to_float(load_global(problem.left.batch(row.batch).at(row.row, column))) : 0.0f;
      if (scaled) value *= load_global(problem.left_scale.batch(row.batch).at(0, column));
#pragma unroll
      for (int i = 0; i < Config::kRanks; ++i) {
        if (rank0 + i < gradient.rank) sums[i] = fma(value, load_intermediate<T>(problem.h, row.batch, row.row, rank0 + i), sums[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < Config::kRanks; ++i) {
      if (rank0 + i < gradient.rank) gradient.store(problem, column, rank0 + i, sums[i]);
    }
  }
}

}  // namespace PK_BUILD
