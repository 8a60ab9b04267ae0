// H = x * A^T for every row of every target, each row with the adapter that it uses; x's columns scaled where it is dY, of which a row scale makes dH.
//
// x [m, k], A [rank, k], H [m, rank] in f32 (never rounded to 16 bits, so that it cannot overflow where y is finite).
// One warp a row and target: lanes run along k with 8 ranks in registers, then a fixed tree of shuffles adds the lanes up.
// Loads, in elements: x m * k * ceil(rank / 8), A m * k * rank (from L2). Stores: H m * rank. 2 * m * k * rank flops.
// Roundings of an element of H: ceil(k / 32) + 5, and a scale's product. Any rank, stride and order; the fallback of every chip from 8.0 on.
#pragma once

#include "../ptx/overlap.cuh"
#include "forward.cuh"

namespace PK_BUILD {

struct ShrinkSimtConfig {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRanks = 8;  // accumulators a lane
  static_assert(kRanks <= 32, "a lane each to write them");
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(ShrinkSimtConfig::kThreads) lora_shrink_simt(ForwardProblem<T> problem) {
  using Config = ShrinkSimtConfig;
  const int lane = static_cast<int>(thread_index().x) % 32;
  const int64_t warp = block_index().x * static_cast<int64_t>(Config::kWarps) + thread_index().x / 32;
  const int64_t warps = grid_extent().x * static_cast<int64_t>(Config::kWarps);
  const int64_t rows = problem.batches * problem.m;
  let_next_launch_start();
  clear_arrivals(problem);

  for (int64_t work = warp; work < rows * problem.target_count; work += warps) {
    const ForwardTarget<T>& target = problem.targets[work / rows];
    const int64_t row = work % rows;
    uint32_t failure = 0;
    const int32_t index = adapter_index(target.adapters, problem.rows, row, &failure);
    if (failure != 0 && lane == 0) report(problem.status, failure, row);
    if (index == -1) continue;
    const Adapter adapter = adapter_at(target.adapters, index, row / problem.m);
    const bool in_f32 = target.adapters.in_f32 != 0;
    const Matrix<const T> x = problem.x.batch(row / problem.m);
    const Matrix<const float> x_scale = problem.x_scale.batch(row / problem.m);

    for (int64_t rank0 = 0; rank0 < adapter.rank; rank0 += Config::kRanks) {
      float sum[Config::kRanks] = {};
#pragma unroll 2  // dropout's draws and more would not fit the registers
      for (int64_t k = lane; k < problem.k; k += 32) {
        float x_value = problem.dropout.keeps(row, k) ? to_float(load_global(x.at(row % problem.m, k))) : 0.0f;
        if (problem.x_scale.first.data != nullptr) x_value *= load_global(x_scale.at(0, k));
#pragma unroll
        for (int j = 0; j < Config::kRanks; ++j) {
          if (rank0 + j < adapter.rank) sum[j] = fma(x_value, load_factor<T>(adapter.a, in_f32, rank0 + j, k), sum[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < Config::kRanks; ++j) {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum[j] += shuffle_xor(sum[j], distance);
        if (lane == j && rank0 + j < adapter.rank) store_global(target.h + row * target.adapters.max_rank + rank0 + j, sum[j]);
      }
    }
  }
}

}  // namespace PK_BUILD
