// H = x * A^T from the workspace to where the caller keeps it for backward, in f32 or the activations' type.
//
// A thread an element. Loads: planes * m * rank of f32 (in L2). Stores: m * rank. Of rows without an adapter, and beyond an adapter's rank, nothing is stored. Roundings: planes, then the one to the
// saved type.
#pragma once

#include "forward.cuh"

namespace PK_BUILD {

template <class T>
struct SavedH {
  Batched<T> own;  // data = null where it is saved in f32 ...
  Batched<float> in_f32;  // ... or not at all
};

template <class T>
struct SavedHs {
  SavedH<T> targets[ForwardProblem<T>::kMaxTargets];
};

struct SaveHConfig {
  static constexpr int kThreads = 256;
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(SaveHConfig::kThreads) lora_save_h(ForwardProblem<T> problem, SavedHs<T> saved) {
  const int64_t rows = problem.batches * problem.m, threads = static_cast<int64_t>(grid_extent().x) * SaveHConfig::kThreads;
  for (int32_t t = 0; t < problem.target_count; ++t) {
    const ForwardTarget<T>& target = problem.targets[t];
    const SavedH<T>& to = saved.targets[t];
    if (to.own.first.data == nullptr && to.in_f32.first.data == nullptr) continue;
    const int64_t rank = target.adapters.max_rank, plane = rows * rank;
    for (int64_t i = static_cast<int64_t>(block_index().x) * SaveHConfig::kThreads + thread_index().x; i < plane; i += threads) {
      const int64_t row = i / rank, column = i - row * rank, batch = row / problem.m;
      uint32_t failure = 0;  // reported by the shrink kernel
      const int32_t index = adapter_index(target.adapters, problem.rows, row, &failure);
      if (index == -1 || column >= adapter_at(target.adapters, index, batch).rank) continue;
      float sum = load_global(target.h + i);
      for (int32_t other = 1; other < problem.h_planes; ++other) sum += load_global(target.h + other * plane + i);
      if (to.in_f32.first.data != nullptr) store_global(to.in_f32.batch(batch).at(row - batch * problem.m, column), sum);
      else store_global(to.own.batch(batch).at(row - batch * problem.m, column), from_float<T>(sum));
    }
  }
}

}  // namespace PK_BUILD
