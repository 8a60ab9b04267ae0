// y = row scale .* (x * W^T + scale * (x * A^T) * B^T) + bias: the problem as the kernels see it.
#pragma once

#include "adapter.cuh"
#include "dropout.cuh"

namespace PK_BUILD {

// One linear layer of those that share x.
template <class T>
struct ForwardTarget {
  int32_t base;  // PK_LORA_BASE_*
  Batched<const T> w, bias;
  Batched<T> y;
  int64_t n;
  AdapterSet adapters;
  Batched<const float> row_scale;  // of W's rows, which are y's columns; data = null: none
  float* h;  // H = x * A^T in the workspace: planes of [batches * m, max_rank], which add up to it
  int64_t first, count;  // columns of y that the launch makes: all, or those whose rows of W are in the workspace's slab
};

template <class T>
struct ForwardProblem {
  static constexpr int kMaxTargets = 8;  // what fits a kernel's parameters; more are launched eight at a time

  Batched<const T> x;
  int64_t batches, m, k;
  RowAdapters rows;
  pk_status_record* status;
  Dropout dropout;  // of x as the adapters see it
  Batched<const float> x_scale;  // of x's columns as lora_shrink_simt's adapters see them; data = null: none
  int32_t h_planes;
  // Where `splits` blocks share a tile of y, each summing a part of k: their sums, and a count of those that have arrived, which the shrink kernel clears.
  int32_t splits;
  float* partial_sums;
  uint32_t* arrivals;
  int64_t arrival_count;
  int32_t target_count;
  ForwardTarget<T> targets[kMaxTargets];
};

// Clears the counts of arrivals, whatever the workspace held: a part of each kernel that makes H, which comes before those that count.
template <class T>
PK_DEVICE void clear_arrivals(const ForwardProblem<T>& problem) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * block_extent().x;
  for (int64_t i = static_cast<int64_t>(block_index().x) * block_extent().x + thread_index().x; i < problem.arrival_count; i += threads) store_global(problem.arrivals + i, 0);
}

// A tile of a target's y.
struct ForwardTile {
  int32_t target;
  int64_t batch, row0, column0;
};

// Tiles in the order target, batch, band of 16 tiles of rows, column, row: blocks that run together share rows of x and of W. Index: a type that counts all tiles.
template <class Index, class T>
PK_DEVICE ForwardTile forward_tile(const ForwardProblem<T>& problem, Index work, int tile_rows, int tile_columns) {
  constexpr Index kBand = 16;
  const auto batches = static_cast<Index>(problem.batches), rows = static_cast<Index>((problem.m + tile_rows - 1) / tile_rows);
  const auto columns_of = [&](int32_t target) { return static_cast<Index>((problem.targets[target].count + tile_columns - 1) / tile_columns); };
  ForwardTile tile{0, 0, 0, 0};
  Index columns = columns_of(0);
  while (work >= batches * columns * rows) {
    work -= batches * columns * rows;
    columns = columns_of(++tile.target);
  }
  const Index batch = work / (columns * rows);
  work -= batch * (columns * rows);
  const Index band = work / (columns * kBand), rows_of_band = minimum(kBand, rows - band * kBand);
  work -= band * (columns * kBand);
  const Index column = work / rows_of_band, row = band * kBand + (work - column * rows_of_band);
  tile.batch = batch;
  tile.row0 = static_cast<int64_t>(row) * tile_rows;
  tile.column0 = problem.targets[tile.target].first + static_cast<int64_t>(column) * tile_columns;
  return tile;
}

}  // namespace PK_BUILD
