// sums += scale * H * B^T for a tile of few rows, each with an adapter of its own, in plain f32: no adapter waits for another.
//
// scale * H of 128 ranks is in shared memory; a thread makes two neighbouring elements of the tile from its row of it and two rows of B. B is read once for each row of the tile.
#pragma once

#include "branch.cuh"

namespace PK_BUILD {

template <class Product>
struct BranchRows {
  static constexpr int kPairs = Product::kTileColumns / 2;                        // of a row
  static constexpr int kTileRanks = 16, kRanks = kTileRanks * Product::kDepthWarps;  // of a tile of shared memory, of a round
  static constexpr int kPitch = Product::kTileColumns + 8;                        // 4 rows of pairs lie in different banks
  static constexpr bool kPossible = Product::kTileRows * kPairs == Product::kThreads;
};

// branch[e] += scale * H of a row * B of column + e, over the ranks of a round.
template <class Product, class P>
PK_DEVICE void multiply_rows(float (&branch)[2], const typename Product::Shared& shared, const Adapter& adapter, int64_t n, int row, int64_t column, int64_t rank0) {
  using Rows = BranchRows<Product>;
  const Quads<const P> b(adapter.b.matrix<P>(), n, adapter.rank);
  const auto ranks = static_cast<int>(minimum<int64_t>(adapter.rank - rank0, Rows::kRanks));
#pragma unroll 1
  for (int rank = 0; rank < ranks; rank += 4) {
    const auto h = shared.left[0][rank / Rows::kTileRanks].template load_vector<4>(static_cast<uint32_t>(row * Rows::kTileRanks + rank % Rows::kTileRanks));
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const auto factors = convert<float>(b.load(column + e, rank0 + rank));
#pragma unroll
      for (int i = 0; i < 4; ++i) branch[e] = fma(float_of_bits(h.values[i]), factors.values[i], branch[e]);
    }
  }
}

// As add_branch, for the rows whose adapters are this split's.
template <class Product, class T, class Adapters>
PK_DEVICE void add_branch_of_rows(typename Product::Sums& sums, typename Product::Shared& shared, const Adapters& adapters, const ForwardProblem<T>& problem, const ForwardTarget<T>& target,
                                  const ForwardTile& tile, int32_t split) {
  using Rows = BranchRows<Product>;
  if (target.adapters.max_rank == 0) return;
  const auto thread = static_cast<int>(thread_index().x);
  const int row_of_tile = thread / Rows::kPairs, column_of_tile = thread % Rows::kPairs * 2;
  static_assert(Product::kDepthWarps > 1, "their sums' barrier came after the rows' adapters, and the base's last stage");
  const auto adapter_of = [&](int row) {
    const int32_t index = adapters.load(static_cast<uint32_t>(row));
    return index >= 0 && index % problem.splits == split ? adapter_at(target.adapters, index, tile.batch) : Adapter{};
  };
  const Adapter adapter = adapter_of(row_of_tile);
  float branch[2] = {-0.0f, -0.0f};  // which leaves all bits of what it is added to
#pragma unroll 1
  for (int64_t rank0 = 0; rank0 < target.adapters.max_rank; rank0 += Rows::kRanks) {
#pragma unroll 1
    for (int at = thread; at < Product::kTileRows * Rows::kRanks / 4; at += Product::kThreads) {
      const int row = at / 4 % Product::kTileRows, chunk = at % 4, depth = at / 4 / Product::kTileRows;
      const auto values = scaled_h(problem, target, tile, adapter_of(row), row, rank0 + depth * Rows::kTileRanks + 4 * chunk);
      Vector<uint32_t, 4> bits;
#pragma unroll
      for (int i = 0; i < 4; ++i) bits.values[i] = bits_of_float(values.values[i]);
      shared.left[0][depth].template store_vector<4>(static_cast<uint32_t>(row * Rows::kTileRanks + 4 * chunk), bits);
    }
    barrier();
    const int64_t column = tile.column0 + column_of_tile;
    if (target.adapters.in_f32 != 0) multiply_rows<Product, float>(branch, shared, adapter, target.n, row_of_tile, column, rank0);
    else multiply_rows<Product, T>(branch, shared, adapter, target.n, row_of_tile, column, rank0);
    barrier();  // before the next round's H
  }
  shared.sums.template store_vector<2>(static_cast<uint32_t>(row_of_tile * Rows::kPitch + column_of_tile), {{branch[0], branch[1]}});
  barrier();
  if (Product::depth_warp() != 0) return;
#pragma unroll
  for (int i = 0; i < Product::kRowFragments; ++i) {
#pragma unroll
    for (int j = 0; j < Product::kColumnFragments; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = Product::warp_row() + 16 * i + 8 * half + static_cast<int>(lane()) / 4, column = Product::warp_column() + 8 * j + static_cast<int>(lane()) % 4 * 2;
        const auto pair = shared.sums.template load_vector<2>(static_cast<uint32_t>(row * Rows::kPitch + column));
        sums[i][j][2 * half] += pair.values[0];
        sums[i][j][2 * half + 1] += pair.values[1];
      }
    }
  }
}

}  // namespace PK_BUILD
