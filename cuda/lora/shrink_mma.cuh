// H = x * A^T with tensor cores, for every row of every target, each row with the adapter that it uses.
//
// x [m, k], A [rank, k], H [m, rank] in f32 (never rounded to 16 bits, so that it cannot overflow where y is finite). A block makes 64 rows and 16 or 64 ranks of one plane: planes share k,
// so that few rows fill a chip as well, and whoever reads H adds them up. Rows of several adapters: x is gone through once for each, by the block of `slots` that its index is for.
// Loads, in elements: x m * k * ceil(rank / tile columns), A rank * k * ceil(m / 64), each as often as there are adapters in 64 rows. Stores: H planes * m * rank, and a
// count of arrivals for each tile of y that is split. 2 * m * k * rank flops.
// Factors of f32 with 16-bit x: x becomes f32, exactly, and A is multiplied as two numbers of tf32.
// Roundings of an element of H: k + k / 16 (27 / 8 * k where f32 is multiplied in parts) + planes. Any rank, stride, order and alignment.
#pragma once

#include "../ptx/overlap.cuh"
#include "../tile/product.cuh"
#include "forward.cuh"

namespace PK_BUILD {

template <class Math, int TILE_COLUMNS>
struct ShrinkMmaConfig {
  using Product = ProductConfig<Math, kLoraShrinkRows, TILE_COLUMNS, 4, 1, 2, 4>;
  static constexpr int kBlocksTogether = sizeof(typename Math::Element) == 4 ? 1 : 2;  // that a multiprocessor's registers must hold

  struct Shared {
    typename Product::Shared product;
    SharedArray<int32_t, Product::kTileRows> adapters;  // of each row, -1: none
  };
};

template <class Config, class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_shrink_mma(ForwardProblem<T> problem, int32_t rank_tiles, int32_t slots) {
  using Product = typename Config::Product;
  PK_SHARED(typename Config::Shared, shared);
  let_next_launch_start();
  clear_arrivals(problem);

  // Blocks in the order target, batch, rows, ranks, slot, plane.
  uint32_t rest = block_index().x;
  const auto next = [&](int64_t extent) {
    const uint32_t before = rest;
    rest /= static_cast<uint32_t>(extent);
    return before - rest * static_cast<uint32_t>(extent);
  };
  const auto plane = static_cast<int32_t>(next(problem.h_planes));
  const auto slot = static_cast<int32_t>(next(slots));
  const int64_t rank0 = int64_t{next(rank_tiles)} * Product::kTileColumns;
  const int64_t row0 = int64_t{next((problem.m + Product::kTileRows - 1) / Product::kTileRows)} * Product::kTileRows;
  const int64_t batch = next(problem.batches);
  const ForwardTarget<T>& target = problem.targets[rest];

  for (int row = static_cast<int>(thread_index().x); row < Product::kTileRows; row += Product::kThreads) {
    uint32_t failure = 0;
    const int64_t row_of_all = batch * problem.m + row0 + row;
    const int32_t index = row0 + row < problem.m ? adapter_index(target.adapters, problem.rows, row_of_all, &failure) : -1;
    shared.adapters.store(static_cast<uint32_t>(row), index);
    if (failure != 0) report(problem.status, failure, row_of_all);
  }
  barrier();

  const int64_t stages = (problem.k + Product::kStageDepth - 1) / Product::kStageDepth;
  const int64_t depth_begin = stages * plane / problem.h_planes * Product::kStageDepth;
  const int64_t depth_end = minimum(stages * (plane + 1) / problem.h_planes * Product::kStageDepth, problem.k);
  for (int32_t index = -1; (index = next_adapter<Product::kTileRows>(shared.adapters, index)) != -1;) {
    if (index % slots != slot) continue;
    const Adapter adapter = adapter_at(target.adapters, index, batch);
    typename Product::Sums sums = {};
    const auto x = product_operand<typename Product::Element>(problem.x.batch(batch), problem.m);
    const auto a = product_operand<typename Product::Element>(adapter.a.matrix<P>(), adapter.rank);
    if (problem.dropout.threshold != 0) {
      accumulate_dropped<Product>(sums, shared.product, x, a, problem.dropout, batch * problem.m, row0, rank0, depth_begin, depth_end);
    } else if constexpr (std::is_same<T, P>::value) {
      // A factor is small: it need not have tiles of its own order.
      if (!x.vectors || !a.vectors || a.transposed()) accumulate_gathered<Product>(sums, shared.product, x, a, row0, rank0, depth_begin, depth_end);
      else if (x.transposed()) accumulate_streams<Product, true, false>(sums, shared.product, x, a, row0, rank0, depth_begin, depth_end);
      else accumulate_streams<Product, false, false>(sums, shared.product, x, a, row0, rank0, depth_begin, depth_end);
    } else {
      accumulate_gathered<Product>(sums, shared.product, x, a, row0, rank0, depth_begin, depth_end);
    }
    add_depth_warps<Product>(sums, shared.product);
    if (Product::depth_warp() == 0) {
#pragma unroll
      for (int j = 0; j < Product::kColumnFragments; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int row = Product::warp_row() + static_cast<int>(lane()) / 4 + e / 2 * 8;
          const int64_t rank = rank0 + 8 * j + static_cast<int>(lane()) % 4 * 2 + e % 2;
          if (shared.adapters.load(static_cast<uint32_t>(row)) != index || rank >= adapter.rank) continue;
          const int64_t row_of_all = batch * problem.m + row0 + row;
          store_global(target.h + (plane * problem.batches * problem.m + row_of_all) * target.adapters.max_rank + rank, sums[0][j][e]);
        }
      }
    }
    barrier();  // the next adapter's copies overwrite what other warps may still read
  }
}

}  // namespace PK_BUILD
