// left * right^T of a tile with tensor cores: operands stream through shared memory, copies running STAGES - 1 stages ahead.
//
// left [rows, depth], right [columns, depth]. Warps are ROW_WARPS x COLUMN_WARPS over the tile, and DEPTH_WARPS of them share each part of it, every one with its own 64 bytes of a stage's
// depth; their sums are added in a fixed order at the end. Bytes copied: tile rows + tile columns times the depth. Each barrier is for 64 bytes of depth a warp.
#pragma once

#include "fragments.cuh"

namespace PK_BUILD {

template <class MATH, int TILE_ROWS, int TILE_COLUMNS, int ROW_WARPS, int COLUMN_WARPS, int DEPTH_WARPS, int STAGES>
struct ProductConfig {
  using Math = MATH;
  using Element = typename Math::Element;
  static constexpr int kTileRows = TILE_ROWS, kTileColumns = TILE_COLUMNS;
  static constexpr int kRowWarps = ROW_WARPS, kDepthWarps = DEPTH_WARPS, kStages = STAGES;
  static constexpr int kWarps = ROW_WARPS * COLUMN_WARPS;  // that make different parts of the tile
  static constexpr int kThreads = 32 * kWarps * DEPTH_WARPS;
  static constexpr int kWarpRows = TILE_ROWS / ROW_WARPS, kWarpColumns = TILE_COLUMNS / COLUMN_WARPS;
  static constexpr int kRowFragments = kWarpRows / 16, kColumnFragments = kWarpColumns / 8;
  static constexpr int kStageDepth = DEPTH_WARPS * 64 / static_cast<int>(sizeof(Element));
  static constexpr int kSums = kRowFragments * kColumnFragments * 4;  // a thread
  static_assert(kWarpRows * ROW_WARPS == TILE_ROWS && kWarpRows % 16 == 0 && kWarpColumns * COLUMN_WARPS == TILE_COLUMNS && kWarpColumns % 16 == 0, "whole fragments");
  static_assert(STAGES >= 2 && kThreads <= 1024, "one stage is copied while another is read");

  template <bool TRANSPOSED>
  using Left = OperandLayout<Element, TILE_ROWS, TRANSPOSED>;
  template <bool TRANSPOSED>
  using Right = OperandLayout<Element, TILE_COLUMNS, TRANSPOSED>;
  using Sums = float[kRowFragments][kColumnFragments][4];

  struct Shared {
    OperandTile<TILE_ROWS> left[STAGES][DEPTH_WARPS];
    OperandTile<TILE_COLUMNS> right[STAGES][DEPTH_WARPS];
    SharedArray<float, DEPTH_WARPS == 1 ? 4 : (DEPTH_WARPS - 1) * kWarps * 32 * kSums> sums;  // of the warps that add to another's
  };

  // Which part of the tile a warp makes, and which part of each stage's depth it multiplies.
  PK_DEVICE static int warp_row() { return static_cast<int>(warp()) % ROW_WARPS * kWarpRows; }
  PK_DEVICE static int warp_column() { return static_cast<int>(warp()) / ROW_WARPS % COLUMN_WARPS * kWarpColumns; }
  PK_DEVICE static int depth_warp() { return static_cast<int>(warp()) / kWarps; }
};

template <class Config>
PK_DEVICE void fill(typename Config::Sums& sums, float value) {
#pragma unroll
  for (int i = 0; i < Config::kRowFragments; ++i) {
#pragma unroll
    for (int j = 0; j < Config::kColumnFragments; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] = value;
    }
  }
}

// sums += scale * product
template <class Config>
PK_DEVICE void add_scaled(typename Config::Sums& sums, float scale, const typename Config::Sums& product) {
#pragma unroll
  for (int i = 0; i < Config::kRowFragments; ++i) {
#pragma unroll
    for (int j = 0; j < Config::kColumnFragments; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[i][j][e] = fma(scale, product[i][j][e], sums[i][j][e]);
    }
  }
}

// What right is multiplied by along its depth: nothing.
struct Unscaled {
  struct Shared {};

  Unscaled() = default;
  PK_DEVICE Unscaled(Shared&, const Matrix<const float>&) {}
  PK_DEVICE void copy(int, int64_t) {}
  template <int COLUMNS>
  PK_DEVICE void apply(uint32_t (&)[COLUMNS][2], int, int) const {}
};

// Whether scales, too, leave no registers for two steps at once, nor for the places of every order: with the largest tiles.
template <class Config, class Scales>
constexpr bool kCrowded = !std::is_same<Scales, Unscaled>::value && Config::kSums >= 128;

// sums += left * (right * scales)^T over `depth`. Every thread of the block calls it; what it leaves in `shared` may still be read by other warps. copy_stage(stage, depth) copies what comes next, of
// which `depth` is left in all, to shared.left[stage] and shared.right[stage].
template <class Config, class LeftLayout, class RightLayout, class CopyStage, class Scales = Unscaled>
PK_DEVICE void accumulate_stages(typename Config::Sums& sums, typename Config::Shared& shared, int64_t depth, CopyStage copy_stage, Scales scales = {}) {
  const int warp_row = Config::warp_row(), warp_column = Config::warp_column(), depth_warp = Config::depth_warp();
  [[maybe_unused]] constexpr int kUnrolled = std::is_same<typename Config::Math, ThreeTf32>::value || kCrowded<Config, Scales> ? 1 : 2;  // parts of two steps would not fit the registers
  int64_t left_to_copy = depth;
  const auto copy_next = [&](int stage) {
    if (left_to_copy > 0) copy_stage(stage, left_to_copy), scales.copy(stage, left_to_copy);
    left_to_copy -= Config::kStageDepth;
    commit_group();
  };
#pragma unroll
  for (int stage = 0; stage < Config::kStages - 1; ++stage) copy_next(stage);

  int stage = 0;
  for (; depth > 0; depth -= Config::kStageDepth) {
    wait_group<Config::kStages - 2>();
    barrier();  // the stage has landed for all, and all have done with the one that is copied to next
    copy_next(stage == 0 ? Config::kStages - 1 : stage - 1);
#pragma unroll kUnrolled
    for (int step = 0; step < 2; ++step) {
      uint32_t a[Config::kRowFragments][4], b[Config::kColumnFragments][2];
#pragma unroll
      for (int i = 0; i < Config::kRowFragments; ++i) load_left<LeftLayout>(a[i], shared.left[stage][depth_warp], warp_row + 16 * i, step);
#pragma unroll
      for (int j = 0; j < Config::kColumnFragments; j += 2) {
        uint32_t pair[2][2];
        load_right<RightLayout>(pair, shared.right[stage][depth_warp], warp_column + 8 * j, step);
        b[j][0] = pair[0][0], b[j][1] = pair[0][1], b[j + 1][0] = pair[1][0], b[j + 1][1] = pair[1][1];
      }
      scales.apply(b, stage, step);
      multiply<typename Config::Math>(sums, a, b);
    }
    stage = stage == Config::kStages - 1 ? 0 : stage + 1;
  }
}

// For operands of the tiles' type whose chunks are contiguous and aligned, in either order.
template <class Config, bool LEFT_TRANSPOSED, bool RIGHT_TRANSPOSED, class T, class Scales = Unscaled>
PK_DEVICE void accumulate_streams(typename Config::Sums& sums, typename Config::Shared& shared, const ProductOperand<T>& left, const ProductOperand<T>& right, int64_t row0, int64_t column0,
                                  int64_t depth_begin, int64_t depth_end, const Scales& scales = {}) {
  using Left = typename Config::template Left<LEFT_TRANSPOSED>;
  using Right = typename Config::template Right<RIGHT_TRANSPOSED>;
  OperandStream<Left, Config::kDepthWarps, Config::kThreads, T> left_stream(left, row0, depth_begin);
  OperandStream<Right, Config::kDepthWarps, Config::kThreads, T> right_stream(right, column0, depth_begin);
  const auto copy_stage = [&](int stage, int64_t depth) {
    left_stream.copy(shared.left[stage], depth);
    right_stream.copy(shared.right[stage], depth);
  };
  accumulate_stages<Config, Left, Right>(sums, shared, depth_end - depth_begin, copy_stage, scales);
}

// For any operands.
template <class Config, class L, class R, class Scales = Unscaled>
PK_DEVICE void accumulate_gathered(typename Config::Sums& sums, typename Config::Shared& shared, const ProductOperand<L>& left, const ProductOperand<R>& right, int64_t row0, int64_t column0,
                                   int64_t depth_begin, int64_t depth_end, const Scales& scales = {}) {
  using Element = typename Config::Element;
  using Left = typename Config::template Left<false>;
  using Right = typename Config::template Right<false>;
  const auto copy_stage = [&](int stage, int64_t depth) {
    gather_operand<Left, Config::kDepthWarps, Config::kThreads, Element>(left, row0, depth_end - depth, depth_end, [&](int tile, int row, int chunk, const auto& values) {
      shared.left[stage][tile].template store_vector<4>(Left::at(row, chunk), words_of(values));
    });
    gather_operand<Right, Config::kDepthWarps, Config::kThreads, Element>(right, column0, depth_end - depth, depth_end, [&](int tile, int row, int chunk, const auto& values) {
      shared.right[stage][tile].template store_vector<4>(Right::at(row, chunk), words_of(values));
    });
  };
  accumulate_stages<Config, Left, Right>(sums, shared, depth_end - depth_begin, copy_stage, scales);
}

// The fastest of these that there is.
template <class Config, class T, class Scales = Unscaled>
PK_DEVICE void accumulate_product(typename Config::Sums& sums, typename Config::Shared& shared, const ProductOperand<T>& left, const ProductOperand<T>& right, int64_t row0, int64_t column0,
                                  int64_t depth_begin, int64_t depth_end, const Scales& scales = {}) {
  if (!left.vectors || !right.vectors || (kCrowded<Config, Scales> && left.transposed())) {
    accumulate_gathered<Config>(sums, shared, left, right, row0, column0, depth_begin, depth_end, scales);
    return;
  }
  if constexpr (!kCrowded<Config, Scales>) {
    if (left.transposed()) {
      if (right.transposed()) accumulate_streams<Config, true, true>(sums, shared, left, right, row0, column0, depth_begin, depth_end, scales);
      else accumulate_streams<Config, true, false>(sums, shared, left, right, row0, column0, depth_begin, depth_end, scales);
      return;
    }
  }
  if (right.transposed()) accumulate_streams<Config, false, true>(sums, shared, left, right, row0, column0, depth_begin, depth_end, scales);
  else accumulate_streams<Config, false, false>(sums, shared, left, right, row0, column0, depth_begin, depth_end, scales);
}

// The sums of warps that share a part of the tile, all added to those of the first of them.
template <class Config>
PK_DEVICE void add_depth_warps(typename Config::Sums& sums, typename Config::Shared& shared) {
  if constexpr (Config::kDepthWarps > 1) {
    const int depth_warp = Config::depth_warp(), part = static_cast<int>(warp()) % Config::kWarps;
    const auto at = [&](int of_warp, int i, int j) {
      const int vector = ((of_warp - 1) * Config::kWarps + part) * (Config::kSums / 4) + i * Config::kColumnFragments + j;
      return static_cast<uint32_t>((vector * 32 + static_cast<int>(lane())) * 4);
    };
    if (depth_warp > 0) {
#pragma unroll
      for (int i = 0; i < Config::kRowFragments; ++i) {
#pragma unroll
        for (int j = 0; j < Config::kColumnFragments; ++j) shared.sums.template store_vector<4>(at(depth_warp, i, j), {{sums[i][j][0], sums[i][j][1], sums[i][j][2], sums[i][j][3]}});
      }
    }
    barrier();
    if (depth_warp == 0) {
#pragma unroll
      for (int other = 1; other < Config::kDepthWarps; ++other) {
#pragma unroll
        for (int i = 0; i < Config::kRowFragments; ++i) {
#pragma unroll
          for (int j = 0; j < Config::kColumnFragments; ++j) {
            const auto more = shared.sums.template load_vector<4>(at(other, i, j));
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] += more.values[e];
          }
        }
      }
    }
  }
}

}  // namespace PK_BUILD
