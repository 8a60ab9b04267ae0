// sums += scale * H * B^T with tensor cores: the low-rank branch of a tile of y, in the shared memory that its base has done with.
//
// 16 ranks at a time: scale * H and B become tiles of numbers of tf32, upper and lower part, as f32 is multiplied in parts (fragments.cuh): 4 products of 8 ranks a pair of fragments, 6 where B
// is f32, too. Rows of other adapters are left as they are, whatever numbers this one has.
#pragma once

#include "../tile/quads.cuh"
#include "forward.cuh"

namespace PK_BUILD {

// Stores the parts of a chunk in tiles 0 (upper), 1 (lower) and 2 (upper where finite).
template <class Layout, class Tiles>
PK_DEVICE void store_parts(Tiles& tiles, int row, int chunk, const Vector<float, 4>& values) {
  Vector<uint32_t, 4> upper, lower, finite;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Tf32Parts parts(values.values[i]);
    upper.values[i] = parts.upper, lower.values[i] = parts.lower, finite.values[i] = parts.finite;
  }
  const uint32_t at = Layout::at(row, chunk);
  tiles[0][0].template store_vector<4>(at, upper);
  tiles[1][0].template store_vector<4>(at, lower);
  tiles[2][0].template store_vector<4>(at, finite);
}

template <class Product>
struct BranchLayouts {
  using H = OperandLayout<float, Product::kTileRows, false>;
  using B = OperandLayout<float, Product::kTileColumns, false>;
  static constexpr int kRanks = H::kDepth;  // a round
  static_assert(Product::kStages >= 3, "three tiles each");
};

// The tiles of B's columns column0 ... and ranks rank0 ... .
template <class Product, class P>
PK_DEVICE void store_b(typename Product::Shared& shared, const Adapter& adapter, int64_t n, int64_t column0, int64_t rank0) {
  using Layout = typename BranchLayouts<Product>::B;
  const auto b = product_operand<float>(adapter.b.matrix<P>(), n);
  gather_operand<Layout, 1, Product::kThreads, float>(b, column0, rank0, adapter.rank, [&](int, int row, int chunk, const auto& values) { store_parts<Layout>(shared.right, row, chunk, values); });
}

// Four ranks of a row of scale * H; an infinite scale is not the padding's.
template <class T>
PK_DEVICE Vector<float, 4> scaled_h(const ForwardProblem<T>& problem, const ForwardTarget<T>& target, const ForwardTile& tile, const Adapter& adapter, int row, int64_t rank) {
  const int64_t rows = problem.batches * problem.m, plane = rows * target.adapters.max_rank;
  Vector<float, 4> values{};
#pragma unroll 4  // loads that wait together
  for (int32_t i = 0; i < problem.h_planes; ++i) {
    const Matrix<const float> h{target.h + i * plane, target.adapters.max_rank, 1};
    values = values + Quads<const float>(h, rows, adapter.rank).load(tile.batch * problem.m + tile.row0 + row, rank);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) values.values[i] = rank + i < adapter.rank ? adapter.scale * values.values[i] : 0.0f;
  return values;
}

// The tiles of scale * H.
template <class Product, class T, class Adapters>
PK_DEVICE void store_h(typename Product::Shared& shared, const Adapters& adapters, const ForwardProblem<T>& problem, const ForwardTarget<T>& target, const ForwardTile& tile, int32_t index,
                       const Adapter& adapter, int64_t rank0) {
  using Layout = typename BranchLayouts<Product>::H;
#pragma unroll 1
  for (int at = static_cast<int>(thread_index().x); at < Layout::kLines * Layout::kChunks; at += Product::kThreads) {
    const int row = at / Layout::kChunks, chunk = at % Layout::kChunks;
    const bool mine = adapters.load(static_cast<uint32_t>(row)) == index;
    store_parts<Layout>(shared.left, row, chunk, mine ? scaled_h(problem, target, tile, adapter, row, rank0 + 4 * chunk) : Vector<float, 4>{});
  }
}

// The products of one round, for every row.
template <class Product>
PK_DEVICE void multiply_branch(typename Product::Sums& sums, const typename Product::Shared& shared, bool b_in_parts) {
  using H = typename BranchLayouts<Product>::H;
  using B = typename BranchLayouts<Product>::B;
#pragma unroll 1
  for (int step = 0; step < 2; ++step) {
    uint32_t h[3][Product::kRowFragments][4];
#pragma unroll
    for (int part = 0; part < 3; ++part) {
#pragma unroll
      for (int i = 0; i < Product::kRowFragments; ++i) {
        if (part != 2 || b_in_parts) load_left<H>(h[part][i], shared.left[part][0], Product::warp_row() + 16 * i, step);
      }
    }
#pragma unroll
    for (int j = 0; j < Product::kColumnFragments; j += 2) {
      uint32_t upper[2][2], lower[2][2], finite[2][2];
      load_right<B>(upper, shared.right[0][0], Product::warp_column() + 8 * j, step);
      load_right<B>(finite, shared.right[2][0], Product::warp_column() + 8 * j, step);
      if (b_in_parts) load_right<B>(lower, shared.right[1][0], Product::warp_column() + 8 * j, step);
#pragma unroll
      for (int i = 0; i < Product::kRowFragments; ++i) {
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          float(&sum)[4] = sums[i][j + pair];
          mma_m16n8k8_tf32(sum, h[1][i], finite[pair][0], finite[pair][1]);
          if (b_in_parts) mma_m16n8k8_tf32(sum, h[2][i], lower[pair][0], lower[pair][1]);
          mma_m16n8k8_tf32(sum, h[0][i], upper[pair][0], upper[pair][1]);
        }
      }
    }
  }
}

// The same for the rows of one adapter of several: the others' sums are not touched, since 0 times what is no number is none.
template <class Product, class Adapters>
PK_DEVICE void multiply_branch_of(typename Product::Sums& sums, const typename Product::Shared& shared, const Adapters& adapters, int32_t index, bool b_in_parts) {
  using H = typename BranchLayouts<Product>::H;
  using B = typename BranchLayouts<Product>::B;
#pragma unroll
  for (int i = 0; i < Product::kRowFragments; ++i) {
    const int row = Product::warp_row() + 16 * i;
    bool mine[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) mine[half] = adapters.load(static_cast<uint32_t>(row + 8 * half) + lane() / 4) == index;
    if (!any(mine[0] || mine[1])) continue;
#pragma unroll
    for (int j = 0; j < Product::kColumnFragments; j += 2) {
      float branch[2][4] = {};
#pragma unroll 1
      for (int step = 0; step < 2; ++step) {
        uint32_t h[3][4], upper[2][2], lower[2][2], finite[2][2];
#pragma unroll
        for (int part = 0; part < 3; ++part) load_left<H>(h[part], shared.left[part][0], row, step);
        load_right<B>(upper, shared.right[0][0], Product::warp_column() + 8 * j, step);
        load_right<B>(lower, shared.right[1][0], Product::warp_column() + 8 * j, step);
        load_right<B>(finite, shared.right[2][0], Product::warp_column() + 8 * j, step);
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          mma_m16n8k8_tf32(branch[pair], h[1], finite[pair][0], finite[pair][1]);
          if (b_in_parts) mma_m16n8k8_tf32(branch[pair], h[2], lower[pair][0], lower[pair][1]);
          mma_m16n8k8_tf32(branch[pair], h[0], upper[pair][0], upper[pair][1]);
        }
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float& sum = sums[i][j + e / 4][e % 4];
        sum = mine[e % 4 / 2] ? sum + branch[e / 4][e % 4] : sum;
      }
    }
  }
}

// Every thread of the block calls it, with the rows' adapters in shared memory, be there a barrier since or not. The splits of a tile share out the adapters, by their indices: a row's sums do
// not depend on the others' adapters.
template <class Product, class T, class Adapters>
PK_DEVICE void add_branch(typename Product::Sums& sums, typename Product::Shared& shared, const Adapters& adapters, const ForwardProblem<T>& problem, const ForwardTarget<T>& target,
                          const ForwardTile& tile, int32_t split) {
  if (target.adapters.max_rank == 0) return;
  const bool in_f32 = target.adapters.in_f32 != 0;
  barrier();  // the rows' adapters are there, and the base's last stage has been read
  for (int32_t index = -1; (index = next_adapter<Product::kTileRows>(adapters, index)) != -1;) {
    if (index % problem.splits != split) continue;
    const Adapter adapter = adapter_at(target.adapters, index, tile.batch);
    for (int64_t rank0 = 0; rank0 < adapter.rank; rank0 += BranchLayouts<Product>::kRanks) {
      if (in_f32) store_b<Product, float>(shared, adapter, target.n, tile.column0, rank0);
      else store_b<Product, T>(shared, adapter, target.n, tile.column0, rank0);
      store_h<Product>(shared, adapters, problem, target, tile, index, adapter, rank0);
      barrier();
      if (Product::depth_warp() == 0) {
        if (target.adapters.table == nullptr) multiply_branch<Product>(sums, shared, in_f32 || sizeof(T) == 4);
        else multiply_branch_of<Product>(sums, shared, adapters, index, in_f32 || sizeof(T) == 4);
      }
      barrier();  // before the next round's tiles
    }
  }
}

}  // namespace PK_BUILD
