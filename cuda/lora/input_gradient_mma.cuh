// dx = the sum over targets of dY * (g .* W) + d .* (scale * dH * A) with tensor cores, with g the row scale, or 1, d what dropout leaves and dH of lora_outer_mma.
//
// dY [m, n], W [n, k], A [rank, k], dH [m, rank], dx [m, k]. The product and the branch are those of lora_forward_mma with W and A transposed, which for operands of any order is a matter of
// strides; all targets are added up in one tile's registers. Where a target has a row scale, another instance of the kernel multiplies W's fragments by it (and by 1 for targets without one):
// g .* W is about the merged weight, where g .* dY may be beyond f16.
// Loads, in elements, of each target: dY m * n * ceil(k / tile columns), W n * k * ceil(m / tile rows), dH m * rank * ceil(k / tile columns), A k * rank * ceil(m / tile rows), g n for each tile;
// dx m * k where it is added to. Stores: dx m * k. 2 * m * k * (n + rank) flops a target.
// Roundings of an element of dx: g .* W's to W's type; those of dH and of its ranks, n + n / 16 a target (27 / 8 * n where f32 is multiplied in parts), one sum with what was there, and the one to
// dx's type. With a table, A and dH are those of each row's adapter: 4 bytes say which for each row of a tile, and A is read once for each adapter that its rows have. Any rank, stride, order and alignment.
#pragma once

#include "../tile/depth_scales.cuh"
#include "forward_mma.cuh"
#include "input_gradient.cuh"

namespace PK_BUILD {

// sums = none where an element is dropped, whatever it was. Every thread of the block calls it, when the operands' tiles have been read.
template <class Product>
PK_DEVICE void drop_sums(typename Product::Sums& sums, typename Product::Shared& shared, float none, const Dropout& dropout, int64_t row0, int64_t column0) {
  // A bit an element, 32 columns of a row in a word: drawn once for the block, and with few registers.
  auto& kept = shared.left[0][0];
  static_assert(Product::kTileColumns % 32 == 0 && Product::kTileColumns / 32 <= 16, "as many words as a row of the tile has");
#pragma unroll 1
  for (int at = static_cast<int>(thread_index().x); at < Product::kTileRows * (Product::kTileColumns / 32); at += Product::kThreads) {
    uint32_t bits = 0;
#pragma unroll 1
    for (int column = 0; column < 32; column += 4) {
      const auto four = dropout.words(row0 + at % Product::kTileRows, column0 + at / Product::kTileRows * 32 + column);
#pragma unroll
      for (int i = 0; i < 4; ++i) bits |= (four.values[i] >= dropout.threshold ? 1u : 0u) << (column + i);
    }
    kept.store(static_cast<uint32_t>(at), bits);
  }
  barrier();  // all is drawn
#pragma unroll
  for (int i = 0; i < Product::kRowFragments; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = Product::warp_row() + 16 * i + static_cast<int>(lane()) / 4 + 8 * half;
#pragma unroll
      for (int j = 0; j < Product::kColumnFragments; ++j) {
        const int column = Product::warp_column() + 8 * j + static_cast<int>(lane()) % 4 * 2;
        const uint32_t bits = kept.load(static_cast<uint32_t>(column / 32 * Product::kTileRows + row)) >> (column % 32);
        float* sum = sums[i][j] + 2 * half;
        sum[0] = (bits & 1) != 0 ? sum[0] : none;
        sum[1] = (bits & 2) != 0 ? sum[1] : none;
      }
    }
  }
  barrier();  // before the base's copies
}

template <class PRODUCT, int BLOCKS_TOGETHER, class SCALES>
struct InputGradientMmaConfig {
  using Product = PRODUCT;
  using Scales = SCALES;  // Unscaled, or DepthScales
  static constexpr int kBlocksTogether = BLOCKS_TOGETHER;  // that should fit a multiprocessor

  struct Shared {
    typename Product::Shared product;
    SharedArray<int32_t, Product::kTileRows> adapters;  // of each row, -1: none
    SharedArray<int64_t, 3> place;                      // of the tile, which large tiles' registers have no room for: batch, row, column
    typename Scales::Shared scales;
  };
};

template <class Shared>
PK_DEVICE ForwardTile place_of(const Shared& shared) {
  return {0, shared.place.load(0), shared.place.load(1), shared.place.load(2)};
}

// The adapters of a tile's rows; of rows that there are not, none. A barrier must follow.
template <class Product, class T, class Adapters>
PK_DEVICE void store_adapters(Adapters& adapters, const InputGradientProblem<T>& problem, int32_t target, const ForwardTile& tile) {
#pragma unroll 1
  for (int row = static_cast<int>(thread_index().x); row < Product::kTileRows; row += Product::kThreads) {
    adapters.store(static_cast<uint32_t>(row), tile.row0 + row < problem.of.m ? problem.adapter_of(target, tile.batch * problem.of.m + tile.row0 + row) : -1);
  }
}

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::Product::kThreads, Config::kBlocksTogether) lora_input_gradient_mma(InputGradientProblem<T> problem) {
  using Product = typename Config::Product;
  static_assert(Product::kDepthWarps == 1, "a warp has all of its sums");
  PK_SHARED(typename Config::Shared, shared);
  const ForwardProblem<T>& of = problem.of;
  {
    const ForwardTile tile = forward_tile(of, block_index().x, Product::kTileRows, Product::kTileColumns);
    if (thread_index().x == 0) shared.place.store(0, tile.batch), shared.place.store(1, tile.row0), shared.place.store(2, tile.column0);
    barrier();
  }

  // What dx is added to: -0 leaves all its bits.
  typename Product::Sums sums;
  const float none = problem.dx.base == PK_LORA_BASE_IN_Y ? -0.0f : 0.0f;
  fill<Product>(sums, none);
  // The branches come first, so that what is dropped of them is not dropped of the base.
  for (int32_t t = 0; t < of.target_count; ++t) {
    if (of.targets[t].adapters.max_rank == 0) continue;
    store_adapters<Product>(shared.adapters, problem, t, place_of(shared));
    add_branch<Product>(sums, shared.product, shared.adapters, of, of.targets[t], place_of(shared), 0);
    barrier();  // before the next target's adapters
  }
  if (of.dropout.threshold != 0) {
    const ForwardTile tile = place_of(shared);
    drop_sums<Product>(sums, shared.product, none, of.dropout, tile.batch * of.m + tile.row0, tile.column0);
  }
  for (int32_t t = 0; t < of.target_count; ++t) {
    if (of.targets[t].base != PK_LORA_BASE_DENSE) continue;
    const ForwardTile tile = place_of(shared);
    const auto dy = product_operand<typename Product::Element>(problem.dy[t].batch(tile.batch), of.m);
    const auto w = product_operand<typename Product::Element>(of.targets[t].w.batch(tile.batch), problem.dx.n);
    const typename Config::Scales scales(shared.scales, of.targets[t].row_scale.batch(tile.batch));
    accumulate_product<Product>(sums, shared.product, dy, w, tile.row0, tile.column0, 0, problem.depth[t], scales);
    barrier();  // before the next target's copies, or the sums'
  }
  store_tile<Product>(sums, shared.product, of, problem.dx, place_of(shared));
}

}  // namespace PK_BUILD
