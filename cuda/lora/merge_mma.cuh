// destination = g .* (source + sum over adapters of scale * B * A), or source ./ g less that sum, with tensor cores, rounded once.
//
// source, destination [n, k], A [rank, k], B [n, rank]. A block makes a tile of 64 x 128: its part of source waits in registers while the product is made, so that memory is busy all along.
// Loads, in elements: source n * k, of each adapter A rank * k * ceil(n / 64) and B n * rank * ceil(k / 128); a row scale n * ceil(k / 4) (from cache). Stores: destination n * k. 2 * n * k * (sum of ranks) flops.
// Roundings of an element: rank + rank / 16 for an adapter (27 / 8 * rank where f32 is multiplied in parts), one per adapter, one with the source, one with a row scale, then the one to the destination's type.
// For matrices without a residual, which must be made of the same bits on every chip. Any rank, stride, order and alignment.
#pragma once

#include "../tile/quads.cuh"
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

// sums = direction * sum over adapters of scale * B * A, of the tile at row0, column0. Every thread of the block calls it, and `shared` is free afterwards.
template <class Config, class P, class T>
PK_DEVICE void multiply_adapters(typename Config::Product::Sums& sums, typename Config::Product::Shared& shared, const MergeProblem<T>& problem, int64_t row0, int64_t column0) {
  using Product = typename Config::Product;
  using Element = typename Product::Element;
#pragma unroll 1
  for (int32_t adapter = 0; adapter < problem.adapter_count; ++adapter) {
    const MergeAdapter& of = problem.adapters[adapter];
    if (of.rank == 0) continue;
    typename Product::Sums product = {};
    const auto b = product_operand<Element>(of.b.matrix<P>(), problem.n);
    const auto a = product_operand<Element>(transpose(of.a.matrix<P>()), problem.k);
    accumulate_gathered<Product>(product, shared, b, a, row0, column0, 0, of.rank);
    add_scaled<Product>(sums, problem.direction * of.scale, product);
    barrier();  // before the next copies, or the sums
  }
}

template <class Config, class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_merge_mma(MergeProblem<T> problem) {
  using Product = typename Config::Product;
  PK_SHARED(typename Config::Shared, shared);
  const int64_t tile_columns = (problem.k + Product::kTileColumns - 1) / Product::kTileColumns;
  const int64_t row0 = block_index().x / tile_columns * Product::kTileRows, column0 = block_index().x % tile_columns * Product::kTileColumns;
  const Quads<const T> source(problem.source, problem.n, problem.k);
  const Quads<T> destination(problem.destination, problem.n, problem.k);
  const bool by_rows = destination.by_rows();

  Vector<T, 4> weights[QuadWalk<Product>::kQuads];
#pragma unroll
  for (int i = 0; i < QuadWalk<Product>::kQuads; ++i) {
    const QuadWalk<Product> at(i, by_rows);
    weights[i] = source.load(row0 + at.row, column0 + at.column);
  }

  typename Product::Sums sums = {};
  multiply_adapters<Config, P>(sums, shared.product, problem, row0, column0);

  each_quad<Product>(sums, shared.product, by_rows, [&](int i, int row, int column, const Vector<float, 4>& sum) {
    if (!destination.has(row0 + row, column0 + column)) return;
    const float g = problem.scale_of_row(row0 + row);
    Vector<float, 4> result;
#pragma unroll
    for (int e = 0; e < 4; ++e) result.values[e] = with_delta(problem.merges(), g, to_float(weights[i].values[e]), sum.values[e]);
    destination.store(row0 + row, column0 + column, convert<T>(result));
  });
}

}  // namespace PK_BUILD
