// dx = the sum over targets of dY * (g .* W) + d .* (scale * dH * A), with g the row scale, or 1, d what dropout leaves and dH = dY * (g .* B) of lora_shrink_simt.
//
// dY [m, n], W [n, k], A [rank, k], dH [m, rank], dx [m, k]. A block makes a 64 x 64 tile of dx, as lora_forward_simt makes one of y.
// Loads, in elements, of each target: dY m * n * ceil(k / 64), W n * k * ceil(m / 64), dH 16 * m * rank * ceil(k / 64), A m * k * rank and g n * k * ceil(m / 64) from cache;
// dx m * k where it is added to. Stores: dx m * k. 2 * m * k * (n + rank) flops a target, all FFMA in f32.
// Roundings of an element of dx: g's product, all targets' n, for the branch those of dH + rank + 1, then a sum for each target, one with what was there, and the one to dx's type. The fallback of
// every chip. With a table A and dH are those of each row's adapter, of which 4 bytes say which.
#pragma once

#include "forward_simt.cuh"
#include "input_gradient.cuh"

namespace PK_BUILD {

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(ForwardSimtConfig::kThreads, 2) lora_input_gradient_simt(InputGradientProblem<T> problem, int64_t tiles) {
  using Config = ForwardSimtConfig;
  PK_SHARED(Config::Shared, shared);
  const int thread = static_cast<int>(thread_index().x);
  const ForwardProblem<T>& of = problem.of;
  const int64_t m = of.m, k = problem.dx.n, row_tiles = (m + Config::kTile - 1) / Config::kTile, column_tiles = (of.targets[0].count + Config::kTile - 1) / Config::kTile;

  for (int64_t work = block_index().x; work < tiles; work += grid_extent().x) {
    const int64_t batch = work / (row_tiles * column_tiles), row0 = work / column_tiles % row_tiles * Config::kTile, column0 = of.targets[0].first + work % column_tiles * Config::kTile;
    const Matrix<T> dx = problem.dx.y.batch(batch);
    // Neighbouring threads write neighbouring elements in either order of dx.
    const int thread_row = dx.row_major() ? thread / Config::kSide : thread % Config::kSide;
    const int thread_column = dx.row_major() ? thread % Config::kSide : thread / Config::kSide;
    float base[4][4] = {};
    for (int32_t t = 0; t < of.target_count; ++t) {
      if (of.targets[t].base != PK_LORA_BASE_DENSE) continue;
      const Matrix<const float> scales = of.targets[t].row_scale.batch(batch);
      const bool scaled = of.targets[t].row_scale.first.data != nullptr;
      const auto scale = [&](int64_t row_of_w) { return scaled ? load_global(scales.at(0, row_of_w)) : 1.0f; };
      const Matrix<const T> w = of.targets[t].w.batch(batch);
      accumulate_base(base, shared, problem.dy[t].batch(batch), row0, m, problem.depth[t], thread_row, thread_column,
                      [&](int64_t n0) { load_w(shared, w, column0, k, n0, problem.depth[t], scale); });
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = row0 + thread_row + i * Config::kSide;
      if (row >= m) continue;
      float branches[4] = {};
      for (int32_t t = 0; t < of.target_count; ++t) {
        const ForwardTarget<T>& target = of.targets[t];
        if (target.adapters.max_rank == 0) continue;
        const int32_t index = problem.adapter_of(t, batch * m + row);
        if (index == -1) continue;
        const Adapter adapter = adapter_at(target.adapters, index, batch);
        float branch[4] = {};
        for (int64_t rank = 0; rank < adapter.rank; ++rank) {
          const float dh = load_global(target.h + (batch * m + row) * target.adapters.max_rank + rank);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int64_t column = column0 + thread_column + j * Config::kSide;
            if (column < k) branch[j] = fma(dh, load_factor<T>(adapter.b, target.adapters.in_f32 != 0, column, rank), branch[j]);
          }
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) branches[j] = fma(adapter.scale, branch[j], branches[j]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t column = column0 + thread_column + j * Config::kSide;
        if (column >= k) continue;
        float value = base[i][j];
        if (of.dropout.keeps(batch * m + row, column)) value += branches[j];
        if (problem.dx.base == PK_LORA_BASE_IN_Y) value += to_float(load_global(dx.at(row, column)));
        store_global(dx.at(row, column), from_float<T>(value));
      }
    }
  }
}

}  // namespace PK_BUILD
