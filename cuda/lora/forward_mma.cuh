// y = row scale .* (x * W^T + scale * H * B^T) + bias with tensor cores, with H = x * A^T of lora_shrink_mma.
//
// x [m, k], W [n, k], B [n, rank], H [m, rank], y [m, n]. A block makes a tile of y, or where tiles are few a part of its sum over k: the last of a tile's blocks to arrive adds the parts up in
// their order, so the bits do not depend on who is last.
// Loads, in elements: x m * k * ceil(n / tile columns), W n * k * ceil(m / tile rows), H planes * m * rank * ceil(n / tile columns) and B n * rank * ceil(m / tile rows), a bias m * n and a
// row scale m * n (from cache), a base in y m * n. Stores: y m * n. With s splits > 1 also s * tiles * tile size of f32, stored and loaded (in L2), and s * tiles counts of arrivals. 2 * m * n * (k + rank) flops.
// The branch is not rounded to 16 bits: H is f32, multiplied as two numbers of tf32, and a factor of f32 likewise.
// Roundings of an element of y: those of algorithms.h, for the base k + k / 16 (27 / 8 * k where f32 is multiplied in parts), the warps that share depth and the splits, for the branch those of H
// and of its ranks; then three sums and the row scale, then the one to y's type. With a table, B is read once for each adapter that a tile's rows have, or once for each row of a tile of 16.
// Any rank, stride, order and alignment.
#pragma once

#include "../ptx/overlap.cuh"
#include "branch_rows.cuh"

namespace PK_BUILD {

// What a W in memory needs of shared memory beyond its tiles.
struct NoBooks {};

template <class PRODUCT, int BLOCKS_TOGETHER, class BOOKS = NoBooks>
struct ForwardMmaConfig {
  using Product = PRODUCT;
  static constexpr int kBlocksTogether = BLOCKS_TOGETHER;  // that should fit a multiprocessor

  struct Shared {
    typename Product::Shared product;
    SharedArray<int32_t, Product::kTileRows> adapters;  // of each row, -1: none
    SharedArray<uint32_t, 4> arrived;
    BOOKS books;
  };
};

// Writes this block's part of the sums. True in the last of the tile's blocks, with all parts added up.
template <class Config, class T>
PK_DEVICE bool add_splits(typename Config::Product::Sums& sums, typename Config::Shared& shared, const ForwardProblem<T>& problem, int64_t tile, int32_t split) {
  using Product = typename Config::Product;
  constexpr int64_t kTile = Product::kTileRows * Product::kTileColumns;
  const bool active = Product::depth_warp() == 0;
  const auto at = [&](int32_t of_split, int i, int j) {
    const int vector = (static_cast<int>(warp()) * Product::kRowFragments + i) * Product::kColumnFragments + j;
    return reinterpret_cast<Vector<float, 4>*>(problem.partial_sums + (tile * problem.splits + of_split) * kTile) + vector * 32 + lane();
  };
  if (active) {
#pragma unroll
    for (int i = 0; i < Product::kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < Product::kColumnFragments; ++j) store_global(at(split, i, j), {{sums[i][j][0], sums[i][j][1], sums[i][j][2], sums[i][j][3]}});
    }
  }
  barrier();  // the release below is for all of the block
  if (thread_index().x == 0) shared.arrived.store(0, atomic_add_acquire_release(problem.arrivals + tile, 1));
  barrier();
  if (shared.arrived.load(0) != static_cast<uint32_t>(problem.splits - 1)) return false;
  if (active) {
#pragma unroll
    for (int i = 0; i < Product::kRowFragments; ++i) {
#pragma unroll
      for (int j = 0; j < Product::kColumnFragments; ++j) {
        auto sum = load_global(at(0, i, j));
        for (int32_t other = 1; other < problem.splits; ++other) {
          const auto more = load_global(at(other, i, j));
#pragma unroll
          for (int e = 0; e < 4; ++e) sum.values[e] += more.values[e];
        }
#pragma unroll
        for (int e = 0; e < 4; ++e) sums[i][j][e] = sum.values[e];
      }
    }
  }
  return true;
}

// y = row scale .* (sums + base in y) + bias.
template <class Product, class T>
PK_DEVICE void store_tile(const typename Product::Sums& sums, typename Product::Shared& shared, const ForwardProblem<T>& problem, const ForwardTarget<T>& target, const ForwardTile& tile) {
  const Quads<T> y(target.y.batch(tile.batch), problem.m, target.n);
  const Quads<const T> bias(target.bias.batch(tile.batch), 1, target.n);
  const Quads<const float> row_scale(target.row_scale.batch(tile.batch), 1, target.n);
  const bool has_bias = target.bias.first.data != nullptr, has_row_scale = target.row_scale.first.data != nullptr, base_in_y = target.base == PK_LORA_BASE_IN_Y;
  each_quad<Product>(sums, shared, y.by_rows(), [&](int, int row_of_tile, int column_of_tile, const Vector<float, 4>& sum) {
    const int64_t row = tile.row0 + row_of_tile, column = tile.column0 + column_of_tile;
    if (!y.has(row, column)) return;
    Vector<float, 4> values = sum;
    if (base_in_y) values = values + convert<float>(y.load(row, column));
    if (has_row_scale) values = values * row_scale.load(0, column);
    if (has_bias) values = values + convert<float>(bias.load(0, column));
    y.store(row, column, convert<T>(values));
  });
}

// A block's tile of y. add_base(sums, tile, depth_begin, depth_end) adds x * W^T of this depth.
template <class Config, class T, class AddBase>
PK_DEVICE void make_tile(typename Config::Shared& shared, const ForwardProblem<T>& problem, AddBase add_base) {
  using Product = typename Config::Product;
  const auto splits = static_cast<uint32_t>(problem.splits);
  const uint32_t work = block_index().x / splits;
  const auto split = static_cast<int32_t>(block_index().x % splits);
  const ForwardTile tile = forward_tile(problem, work, Product::kTileRows, Product::kTileColumns);
  const ForwardTarget<T>& target = problem.targets[tile.target];

  for (int row = static_cast<int>(thread_index().x); row < Product::kTileRows; row += Product::kThreads) {
    uint32_t failure = 0;  // reported by the shrink kernel
    const bool inside = tile.row0 + row < problem.m;
    shared.adapters.store(static_cast<uint32_t>(row), inside ? adapter_index(target.adapters, problem.rows, tile.batch * problem.m + tile.row0 + row, &failure) : -1);
  }

  // What a base in y is added to: -0 leaves all its bits.
  typename Product::Sums sums;
  fill<Product>(sums, target.base == PK_LORA_BASE_IN_Y ? -0.0f : 0.0f);
  if (target.base == PK_LORA_BASE_DENSE || target.base == PK_LORA_BASE_QUANTIZED) {
    const int64_t stages = (problem.k + Product::kStageDepth - 1) / Product::kStageDepth;
    const int64_t depth_begin = stages * split / problem.splits * Product::kStageDepth;
    const int64_t depth_end = minimum(stages * (split + 1) / problem.splits * Product::kStageDepth, problem.k);
    add_base(sums, tile, depth_begin, depth_end);
  }
  add_depth_warps<Product>(sums, shared.product);
  wait_for_previous_launch();  // H is there, and arrivals are cleared: until here the shrink kernel may still run
  if constexpr (BranchRows<Product>::kPossible) {
    if (target.adapters.table != nullptr) add_branch_of_rows<Product>(sums, shared.product, shared.adapters, problem, target, tile, split);
    else add_branch<Product>(sums, shared.product, shared.adapters, problem, target, tile, split);
  } else {
    add_branch<Product>(sums, shared.product, shared.adapters, problem, target, tile, split);
  }
  if (problem.splits > 1 && !add_splits<Config>(sums, shared, problem, work, split)) return;
  barrier();  // operands and partial sums have been read
  store_tile<Product>(sums, shared.product, problem, target, tile);
}

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_forward_mma(ForwardProblem<T> problem) {
  using Product = typename Config::Product;
  PK_SHARED(typename Config::Shared, shared);
  make_tile<Config>(shared, problem, [&](typename Product::Sums& sums, const ForwardTile& tile, int64_t depth_begin, int64_t depth_end) {
    const ForwardTarget<T>& target = problem.targets[tile.target];
    const auto x = product_operand<typename Product::Element>(problem.x.batch(tile.batch), problem.m);
    const auto w = product_operand<typename Product::Element>(target.w.batch(tile.batch), target.n);
    accumulate_product<Product>(sums, shared.product, x, w, tile.row0, tile.column0, depth_begin, depth_end);
  });
}

}  // namespace PK_BUILD
