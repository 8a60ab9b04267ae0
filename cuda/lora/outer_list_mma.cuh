// gradient = scale * left^T * h of each adapter of a table with tensor cores, over the rows that use it, and what was there.
//
// left [m, columns], h [m, rank]. A block makes 64 columns and 16 or 64 ranks of an adapter from all of its rows, 64 at a time, wherever they lie: each is laid down as lora_outer_mma lays down
// those that follow each other. Blocks whose adapter has fewer ranks end at once.
// Loads, in elements, of the rows of each adapter: left rows * columns * ceil(rank / tile ranks), h rows * rank * ceil(columns / 64), a scale of left as often as left (from cache), 8 bytes of the
// list for each four elements of either; the gradient where it is added to. Stores: columns * rank of each adapter. 2 * rows * columns * rank flops.
// Everything is multiplied as f32 in two parts of tf32. Roundings of an element: left's scale, 27 / 8 of the rows, the adapter's scale with dropout's, the sum with what was there, then the one to
// its type. Any rank, stride, order and alignment.
#pragma once

#include "outer_list.cuh"
#include "outer_mma.cuh"

namespace PK_BUILD {

template <int RANKS>
struct OuterListMmaConfig : OuterMmaConfig<RANKS> {
  using Base = OuterMmaConfig<RANKS>;

  struct Shared {
    OperandTile<kLoraOuterRows> by_columns[Base::kTiles];
    OperandTile<RANKS> h[Base::kTiles];
  };
};

// 64 columns of 64 rows of the list from `first` on.
template <class Config, class T>
PK_DEVICE void lay_down_listed(typename Config::Shared& shared, const OuterListProblem<T>& problem, int64_t first, int64_t end, int64_t column0) {
  constexpr int kQuads = kLoraOuterColumns / 4;
  const bool scaled = problem.left_scale.first.data != nullptr;
#pragma unroll 1
  for (int at = static_cast<int>(thread_index().x); at < kLoraOuterRows * kQuads; at += Config::kThreads) {
    const int place = at / kQuads, quad = at % kQuads;
    const int64_t column = column0 + 4 * quad;
    Vector<float, 4> values{};
    if (first + place < end) {
      const ListedRow row(problem, first + place);
      values = convert<float>(Quads<const T>(problem.left.batch(row.batch), problem.m, problem.columns).load(row.row, column));
      problem.dropout.drop(values, row.of_all, column);
      if (scaled) values = values * Quads<const float>(problem.left_scale.batch(row.batch), 1, problem.columns).load(0, column);
    }
    shared.by_columns[place / Config::kDepth].template store_vector<4>(Config::ByColumns::at(place % Config::kDepth, quad), words_of(values));
  }
}

// The same rows of h, of an adapter of `rank`.
template <class Config, class T>
PK_DEVICE void lay_down_listed_h(typename Config::Shared& shared, const OuterListProblem<T>& problem, int64_t first, int64_t end, int64_t rank0, int64_t rank) {
  constexpr int kQuads = Config::kRanks / 4;
#pragma unroll 1
  for (int at = static_cast<int>(thread_index().x); at < kLoraOuterRows * kQuads; at += Config::kThreads) {
    const int place = at / kQuads, quad = at % kQuads;
    Vector<float, 4> values{};
    if (first + place < end) {
      const ListedRow row(problem, first + place);
      values = h_quad<T>(problem.h, problem.m, rank, row.batch, row.row, rank0 + 4 * quad);
    }
    shared.h[place / Config::kDepth].template store_vector<4>(Config::H::at(place % Config::kDepth, quad), words_of(values));
  }
}

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::kThreads, 3) lora_outer_list_mma(OuterListProblem<T> problem) {
  PK_SHARED(typename Config::Shared, shared);
  const int64_t column_tiles = (problem.columns + kLoraOuterColumns - 1) / kLoraOuterColumns, rank_tiles = (problem.adapters.max_rank + Config::kRanks - 1) / Config::kRanks;
  const int64_t work_items = problem.adapters.count * column_tiles * rank_tiles;
  for (int64_t work = block_index().x; work < work_items; work += grid_extent().x) {
    const int64_t rank0 = work / column_tiles % rank_tiles * Config::kRanks, column0 = work % column_tiles * kLoraOuterColumns;
    const ListedGradient gradient(problem, work / (column_tiles * rank_tiles));
    if (rank0 >= gradient.rank) continue;
    typename Config::Sums sums = {};
    for (int64_t first = gradient.begin; first < gradient.end; first += kLoraOuterRows) {
      lay_down_listed<Config>(shared, problem, first, gradient.end, column0);
      lay_down_listed_h<Config>(shared, problem, first, gradient.end, rank0, gradient.rank);
      barrier();  // the tiles are there
      multiply_tiles<Config, typename Config::ByColumns, typename Config::H>(sums, shared.by_columns, shared.h);
      barrier();  // and have been read
    }
    each_sum<Config>(sums, [&](int column, int rank, float sum) {
      if (column0 + column < problem.columns && rank0 + rank < gradient.rank) gradient.store(problem, column0 + column, rank0 + rank, sum);
    });
  }
}

}  // namespace PK_BUILD
