// norm[i] = |row i of W + sum over adapters of scale * B * A| + eps, and magnitude / norm, with tensor cores: what a merge would make, squared and added up instead of written.
//
// W [n, k], A [rank, k], B [n, rank]. A block has 64 rows and 1024 columns of W, 128 columns at a time as a merge has them, and leaves the sums of squares of its rows; a second kernel adds up
// those of a row. (From |W|^2 + 2s B.(W A^T) + s^2 B A A^T B^T alone, rows of which the adapter takes most away would keep no digit.)
// Loads, in elements: W n * k, of each adapter A rank * k * ceil(n / 64) and B n * rank * ceil(k / 128), and n * ceil(k / 1024) sums. Stores: as many sums, and n norms, in f32. With
// a magnitude n more of both.
// 2 * n * k * (1 + sum of ranks) flops.
// Roundings: those of a merge before the last, 32 squares in a thread and 32 threads, both in one order; the sums of a row in f64, and to f32; the root, and eps.
// Squares are f32: a norm beyond 2^64 becomes infinite, and an element below 2^-75 counts as nothing. Any rank, stride, order and alignment.
#pragma once

#include "merge_mma.cuh"

namespace PK_BUILD {

template <class Config>
struct WeightNormConfig {
  using Product = typename Config::Product;
  static constexpr int kRows = Product::kTileRows, kQuadsOfRow = Product::kTileColumns / 4, kPitch = kQuadsOfRow + 1;
  static constexpr int kRowsOfFragment = 16 * Product::kRowWarps;  // of all warps; rows are numbered in the order of their fragments, so that neighbouring lanes have neighbours
  static_assert(kLoraNormColumns % Product::kTileColumns == 0, "whole tiles");

  struct Shared {
    typename Product::Shared product;
    SharedArray<float, kRows * kPitch> of_rows;
  };
};

template <class Config, class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_weight_norm_mma(MergeProblem<T> problem, float* sums) {
  using Product = typename Config::Product;
  using NormConfig = WeightNormConfig<Config>;
  constexpr int kQuads = QuadWalk<Product>::kQuads;
  PK_SHARED(typename NormConfig::Shared, shared);
  const int64_t chunks = (problem.k + kLoraNormColumns - 1) / kLoraNormColumns;
  const int64_t row0 = block_index().x / chunks * Product::kTileRows, chunk = block_index().x % chunks;
  const int64_t begin = chunk * kLoraNormColumns, end = minimum(begin + kLoraNormColumns, problem.k);
  const Quads<const T> source(problem.source, problem.n, problem.k);
  const bool by_rows = source.by_rows();
  float squares[kQuads] = {};

#pragma unroll 1
  for (int64_t column0 = begin; column0 < end; column0 += Product::kTileColumns) {
    typename Product::Sums deltas = {};
    multiply_adapters<Config, P>(deltas, shared.product, problem, row0, column0);
    each_quad<Product>(deltas, shared.product, by_rows, [&](int i, int row, int column, const Vector<float, 4>& delta) {
      const auto values = delta + convert<float>(source.load(row0 + row, column0 + column));
      float sum = squares[i];
#pragma unroll
      for (int e = 0; e < 4; ++e) sum = column0 + column + e < end ? fma(values.values[e], values.values[e], sum) : sum;  // an infinite scale is not the padding's
      squares[i] = sum;
    });
    barrier();  // the quads have been read before the next tile's copies
  }

#pragma unroll
  for (int i = 0; i < kQuads; ++i) {
    const QuadWalk<Product> at(i, by_rows);
    const int row = i / QuadWalk<Product>::kOfFragment * NormConfig::kRowsOfFragment + at.row_warp * 16 + at.row_of_fragment;
    shared.of_rows.store(static_cast<uint32_t>(row * NormConfig::kPitch + at.column / 4), squares[i]);
  }
  barrier();
  const auto in_order = static_cast<int>(thread_index().x);
  const int row = in_order % NormConfig::kRowsOfFragment / 16 * Product::kWarpRows + in_order / NormConfig::kRowsOfFragment * 16 + in_order % 16;
  if (in_order >= NormConfig::kRows || row0 + row >= problem.n) return;
  float sum = 0.0f;
#pragma unroll 8
  for (int i = 0; i < NormConfig::kQuadsOfRow; ++i) sum += shared.of_rows.load(static_cast<uint32_t>(in_order * NormConfig::kPitch + i));
  store_global(sums + chunk * problem.n + row0 + row, sum);
}

constexpr int kWeightNormThreads = 256;

struct WeightNormRoot {
  const float* sums;  // [chunks, n]
  int64_t n, chunks;
  float eps;
  float* norm;
  const float* magnitude;  // or null
  float* row_scale;        // magnitude / norm
  pk_status_record* status;
};

// The sums of a row, and the root.
PK_KERNEL void PK_LAUNCH_BOUNDS(kWeightNormThreads) lora_weight_norm_root(WeightNormRoot problem) {
  const int64_t row = int64_t{block_index().x} * kWeightNormThreads + thread_index().x;
  if (row >= problem.n) return;
  double sum = 0.0;
#pragma unroll 4  // loads that wait together
  for (int64_t chunk = 0; chunk < problem.chunks; ++chunk) sum += static_cast<double>(load_global(problem.sums + chunk * problem.n + row));
  const float norm = square_root(static_cast<float>(sum)) + problem.eps;
  store_global(problem.norm + row, norm);
  if (problem.magnitude != nullptr) store_global(problem.row_scale + row, load_global(problem.magnitude + row) / norm);
  if (norm == 0.0f) report(problem.status, PK_FAILURE_ZERO_NORM, row);
}

}  // namespace PK_BUILD
