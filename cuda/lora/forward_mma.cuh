// y = x * W^T + scale * H * B^T + bias with tensor cores, with H = x * A^T of lora_shrink_mma.
//
// x [m, k], W [n, k], B [n, rank], H [m, rank], y [m, n]. A block makes a tile of y, or where tiles are few a part of its sum over k: the last of a tile's blocks to arrive adds the parts up in
// their order, so the bits do not depend on who is last.
// Loads, in elements: x m * k * ceil(n / tile columns), W n * k * ceil(m / tile rows), H planes * m * rank * ceil(n / tile columns) and B n * rank * ceil(m / tile rows), a bias
// 8 * n * ceil(m / tile rows) for each warp along the tile's rows, a base in y m * n.
// Stores: y m * n, in vectors of 16 bytes: a lane's 8 neighbours are one, or where y is f32 two, each half of a sector. With s splits > 1 also s * tiles * tile size of f32, stored and loaded (in
// L2), and s * tiles counts of arrivals. 2 * m * n * (k + rank) flops.
// The branch is not rounded to 16 bits: H is f32, multiplied as two numbers of tf32, and a factor of f32 likewise.
// Roundings of an element of y: k + k / 16 (base; 27 / 8 * k where f32 is multiplied in parts) + splits, or those of H + branch, then 2 for the sums, then the one to y's type.
// Any rank, stride, order and alignment.
#pragma once

#include "../tile/product.cuh"
#include "branch.cuh"

namespace PK_BUILD {

template <class PRODUCT, int BLOCKS_TOGETHER>
struct ForwardMmaConfig {
  using Product = PRODUCT;
  static constexpr int kBlocksTogether = BLOCKS_TOGETHER;  // that should fit a multiprocessor
  static_assert(FragmentColumns<Product::kColumnFragments>::kInterleaved, "a lane's sums are 8 neighbours");

  struct Shared {
    typename Product::Shared product;
    SharedArray<int32_t, Product::kTileRows> adapters;  // of each row, -1: none
    SharedArray<uint32_t, 4> arrived;
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

// y = sums + base in y + bias, 8 neighbouring elements at a time.
template <class Product, class T>
PK_DEVICE void store_tile(const typename Product::Sums& sums, const ForwardProblem<T>& problem, const ForwardTarget<T>& target, const ForwardTile& tile) {
  constexpr int kVector = 16 / sizeof(T);
  const Matrix<T> y = target.y.batch(tile.batch);
  const bool has_bias = target.bias.first.data != nullptr;
  const bool vectors = y.column_stride == 1 && y.row_stride % kVector == 0 && reinterpret_cast<uintptr_t>(y.data) % 16 == 0;
#pragma unroll
  for (int j = 0; j < Product::kColumnFragments; j += 4) {
    const int64_t column0 = tile.column0 + Product::warp_column() + 8 * j + static_cast<int>(lane()) % 4 * 8;
    float bias[8] = {};
    if (has_bias) {
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        if (column0 + c < target.n) bias[c] = to_float(load_global(target.bias.batch(tile.batch).at(0, column0 + c)));
      }
    }
#pragma unroll
    for (int i = 0; i < Product::kRowFragments; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t row = tile.row0 + Product::warp_row() + 16 * i + 8 * half + static_cast<int>(lane()) / 4;
        if (row >= problem.m) continue;
#pragma unroll
        for (int first = 0; first < 8; first += kVector) {
          auto* to = reinterpret_cast<Vector<T, kVector>*>(y.at(row, column0 + first));
          const bool whole = vectors && column0 + first + kVector <= target.n;
          Vector<T, kVector> values{};
          if (target.base == PK_LORA_BASE_IN_Y) {
            if (whole) values = load_global(to);
            else values = gather<T, kVector>(y.at(row, column0 + first), y.column_stride, static_cast<int>(minimum<int64_t>(target.n - column0 - first, kVector)));
          }
#pragma unroll
          for (int c = 0; c < kVector; ++c) {
            float value = sums[i][j + (first + c) / 2][2 * half + c % 2];
            if (target.base == PK_LORA_BASE_IN_Y) value += to_float(values.values[c]);
            values.values[c] = from_float<T>(has_bias ? value + bias[first + c] : value);
          }
          if (whole) {
            store_global(to, values);
          } else {
#pragma unroll
            for (int c = 0; c < kVector; ++c) {
              if (column0 + first + c < target.n) store_global(y.at(row, column0 + first + c), values.values[c]);
            }
          }
        }
      }
    }
  }
}

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_forward_mma(ForwardProblem<T> problem) {
  using Product = typename Config::Product;
  PK_SHARED(typename Config::Shared, shared);
  const int64_t work = block_index().x / problem.splits;
  const auto split = static_cast<int32_t>(block_index().x % problem.splits);
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
  if (target.base == PK_LORA_BASE_DENSE) {
    const int64_t stages = (problem.k + Product::kStageDepth - 1) / Product::kStageDepth;
    const int64_t depth_begin = stages * split / problem.splits * Product::kStageDepth;
    const int64_t depth_end = minimum(stages * (split + 1) / problem.splits * Product::kStageDepth, problem.k);
    const auto x = product_operand<typename Product::Element>(problem.x.batch(tile.batch), problem.m);
    const auto w = product_operand<typename Product::Element>(target.w.batch(tile.batch), target.n);
    accumulate_product<Product>(sums, shared.product, x, w, tile.row0, tile.column0, depth_begin, depth_end);
  }
  add_depth_warps<Product>(sums, shared.product);
  if (split == 0) add_branch<Product>(sums, shared.product, shared.adapters, problem, target, tile);
  if (problem.splits > 1 && !add_splits<Config>(sums, shared, problem, work, split)) return;
  if (Product::depth_warp() == 0) store_tile<Product>(sums, problem, target, tile);
}

}  // namespace PK_BUILD
