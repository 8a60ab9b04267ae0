// destination = source + direction * sum over adapters of scale * B * A with tensor cores, rounded once.
//
// source, destination [n, k], A [rank, k], B [n, rank]. A block makes a tile of 64 x 128: its part of source waits in registers while the product is made, so that memory is busy all along.
// Loads, in elements: source n * k, of each adapter A rank * k * ceil(n / 64) and B n * rank * ceil(k / 128). Stores: destination n * k. 2 * n * k * (sum of ranks) flops.
// Roundings of an element: rank + rank / 16 for an adapter (27 / 8 * rank where f32 is multiplied in parts), its sum with the source for each adapter, then the one to the destination's type.
// For matrices without a residual, which must be made of the same bits on every chip. Any rank, stride, order and alignment.
#pragma once

#include "../tile/product.cuh"
#include "merge.cuh"

namespace PK_BUILD {

template <class Math>
struct MergeMmaConfig {
  using Product = ProductConfig<Math, kLoraMergeRows, kLoraMergeColumns, 2, 4, 1, 2>;
  static constexpr int kBlocksTogether = sizeof(typename Math::Element) == 4 ? 1 : 2;  // that a multiprocessor's registers must hold

  struct Shared {
    typename Product::Shared product;
  };
};

// The matrix A [rank, k] as rows of a right operand, which a product sums along: without a copy.
template <class P>
PK_DEVICE Matrix<const P> transpose(const Matrix<const P>& matrix) {
  return {matrix.data, matrix.column_stride, matrix.row_stride};
}

template <class Config, class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_merge_mma(MergeProblem<T> problem) {
  using Product = typename Config::Product;
  using Element = typename Product::Element;
  constexpr int kVector = 16 / sizeof(T);
  PK_SHARED(typename Config::Shared, shared);
  const int64_t tile_columns = (problem.k + Product::kTileColumns - 1) / Product::kTileColumns;
  const int64_t row0 = block_index().x / tile_columns * Product::kTileRows, column0 = block_index().x % tile_columns * Product::kTileColumns;
  static_assert(Product::kColumnFragments == 4, "a lane has 8 neighbours of each row");
  const int64_t lane_row = row0 + Product::warp_row() + static_cast<int>(lane()) / 4, lane_column = column0 + Product::warp_column() + static_cast<int>(lane()) % 4 * 8;
  const auto left = [&](int64_t column) { return static_cast<int>(maximum<int64_t>(minimum<int64_t>(problem.k - column, kVector), 0)); };
  const auto aligned = [](const auto& matrix) {
    return matrix.column_stride == 1 && matrix.row_stride % kVector == 0 && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
  };
  const bool source_vectors = aligned(problem.source), destination_vectors = aligned(problem.destination);

  // Of each row, 8 neighbouring elements, as sums lie.
  float values[2 * Product::kRowFragments][8];
#pragma unroll
  for (int i = 0; i < 2 * Product::kRowFragments; ++i) {
    const int64_t row = lane_row + 8 * i;
#pragma unroll
    for (int first = 0; first < 8; first += kVector) {
      const T* from = problem.source.at(row, lane_column + first);
      const int count = row < problem.n ? left(lane_column + first) : 0;
      Vector<T, kVector> source;
      if (source_vectors && count == kVector) source = load_global(reinterpret_cast<const Vector<T, kVector>*>(from));
      else source = gather<T, kVector>(from, problem.source.column_stride, count);
#pragma unroll
      for (int c = 0; c < kVector; ++c) values[i][first + c] = to_float(source.values[c]);
    }
  }

#pragma unroll 1
  for (int32_t adapter = 0; adapter < problem.adapter_count; ++adapter) {
    const MergeAdapter& of = problem.adapters[adapter];
    if (of.rank == 0) continue;
    typename Product::Sums product = {};
    // A not as a transposed operand, whose columns would have to be exchanged: a factor is small.
    const auto b = product_operand<Element>(of.b.matrix<P>(), problem.n);
    const auto a = product_operand<Element>(transpose(of.a.matrix<P>()), problem.k);
    accumulate_gathered<Product>(product, shared.product, b, a, row0, column0, 0, of.rank);
    const float scale = problem.direction * of.scale;
#pragma unroll
    for (int i = 0; i < 2 * Product::kRowFragments; ++i) {
#pragma unroll
      for (int c = 0; c < 8; ++c) values[i][c] = fma(scale, product[i / 2][c / 2][i % 2 * 2 + c % 2], values[i][c]);
    }
    if (adapter + 1 < problem.adapter_count) barrier();  // the next copies overwrite what other warps may still read
  }

#pragma unroll
  for (int i = 0; i < 2 * Product::kRowFragments; ++i) {
    const int64_t row = lane_row + 8 * i;
    if (row >= problem.n) continue;
#pragma unroll
    for (int first = 0; first < 8; first += kVector) {
      Vector<T, kVector> result;
#pragma unroll
      for (int c = 0; c < kVector; ++c) result.values[c] = from_float<T>(values[i][first + c]);
      T* to = problem.destination.at(row, lane_column + first);
      const int count = left(lane_column + first);
      if (destination_vectors && count == kVector) {
        store_global(reinterpret_cast<Vector<T, kVector>*>(to), result);
      } else {
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          if (c < count) store_global(to + c * problem.destination.column_stride, result.values[c]);
        }
      }
    }
  }
}

}  // namespace PK_BUILD
