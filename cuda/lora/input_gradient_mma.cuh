// dx = the sum over targets of dY * W + d .* (scale * dH * A) with tensor cores, with d what dropout leaves and dH of lora_outer_mma.
//
// dY [m, n], W [n, k], A [rank, k], dH [m, rank], dx [m, k]. The product and the branch are those of lora_forward_mma with W and A transposed, which for operands of any order is a matter of
// strides; all targets are added up in one tile's registers.
// Loads, in elements, of each target: dY m * n * ceil(k / tile columns), W n * k * ceil(m / tile rows), dH m * rank * ceil(k / tile columns), A k * rank * ceil(m / tile rows); dx m * k where it is
// added to. Stores: dx m * k. 2 * m * k * (n + rank) flops a target.
// Roundings of an element of dx: n + n / 16 a target (27 / 8 * n where f32 is multiplied in parts), for the branch those of dH and of its ranks, then two sums and the one to dx's type.
// Any rank, stride, order and alignment.
#pragma once

#include "forward_mma.cuh"
#include "input_gradient.cuh"

namespace PK_BUILD {

// The products of one round of a branch, added where elements are kept; as multiply_branch.
template <class Product>
PK_DEVICE void multiply_dropped_branch(typename Product::Sums& sums, const typename Product::Shared& shared, const Dropout& dropout, int64_t row0, int64_t column0) {
  using H = typename BranchLayouts<Product>::H;
  using B = typename BranchLayouts<Product>::B;
#pragma unroll
  for (int i = 0; i < Product::kRowFragments; ++i) {
    const int row = Product::warp_row() + 16 * i;
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
          mma_m16n8k8_tf32(branch[pair], h[2], lower[pair][0], lower[pair][1]);
          mma_m16n8k8_tf32(branch[pair], h[0], upper[pair][0], upper[pair][1]);
        }
      }
      const int in_warp = static_cast<int>(lane());
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          // A lane has two neighbours, of one word quad.
          const int64_t column = column0 + Product::warp_column() + 8 * (j + pair) + in_warp % 4 * 2;
          const auto four = dropout.words(row0 + row + in_warp / 4 + 8 * half, column);
          const bool upper_half = in_warp % 2 != 0;
          const uint32_t first = upper_half ? four.values[2] : four.values[0], second = upper_half ? four.values[3] : four.values[1];
          float* sum = sums[i][j + pair] + 2 * half;
          sum[0] = first >= dropout.threshold ? sum[0] + branch[pair][2 * half] : sum[0];
          sum[1] = second >= dropout.threshold ? sum[1] + branch[pair][2 * half + 1] : sum[1];
        }
      }
    }
  }
}

// Every thread of the block calls it, when the base's last stage has been read.
template <class Product, class T, class Adapters>
PK_DEVICE void add_dropped_branch(typename Product::Sums& sums, typename Product::Shared& shared, const Adapters& adapters, const ForwardProblem<T>& problem, const ForwardTarget<T>& target,
                                  const ForwardTile& tile) {
  const Adapter adapter = adapter_at(target.adapters, 0, tile.batch);
  for (int64_t rank0 = 0; rank0 < adapter.rank; rank0 += BranchLayouts<Product>::kRanks) {
    barrier();  // what the tiles are laid over has been read
    if (target.adapters.in_f32 != 0) store_b<Product, float>(shared, adapter, target.n, tile.column0, rank0);
    else store_b<Product, T>(shared, adapter, target.n, tile.column0, rank0);
    store_h<Product>(shared, adapters, problem, target, tile, 0, adapter, rank0);
    barrier();
    multiply_dropped_branch<Product>(sums, shared, problem.dropout, tile.batch * problem.m + tile.row0, tile.column0);
  }
}

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_input_gradient_mma(InputGradientProblem<T> problem) {
  using Product = typename Config::Product;
  static_assert(Product::kDepthWarps == 1, "a warp has all of its sums");
  PK_SHARED(typename Config::Shared, shared);
  const ForwardProblem<T>& of = problem.of;
  const ForwardTile tile = forward_tile(of, block_index().x, Product::kTileRows, Product::kTileColumns);

  // One adapter for every row.
  for (int row = static_cast<int>(thread_index().x); row < Product::kTileRows; row += Product::kThreads) shared.adapters.store(static_cast<uint32_t>(row), tile.row0 + row < of.m ? 0 : -1);

  // What dx is added to: -0 leaves all its bits.
  typename Product::Sums sums;
  fill<Product>(sums, problem.dx.base == PK_LORA_BASE_IN_Y ? -0.0f : 0.0f);
  for (int32_t t = 0; t < of.target_count; ++t) {
    if (of.targets[t].base != PK_LORA_BASE_DENSE) continue;
    const auto dy = product_operand<typename Product::Element>(problem.dy[t].batch(tile.batch), of.m);
    const auto w = product_operand<typename Product::Element>(of.targets[t].w.batch(tile.batch), problem.dx.n);
    accumulate_product<Product>(sums, shared.product, dy, w, tile.row0, tile.column0, 0, problem.depth[t]);
    barrier();  // before the next target's copies
  }
  for (int32_t t = 0; t < of.target_count; ++t) {
    if (of.dropout.threshold != 0) add_dropped_branch<Product>(sums, shared.product, shared.adapters, of, of.targets[t], tile);
    else add_branch<Product>(sums, shared.product, shared.adapters, of, of.targets[t], tile);
  }
  barrier();  // operands have been read
  store_tile<Product>(sums, shared.product, of, problem.dx, tile);
}

}  // namespace PK_BUILD
