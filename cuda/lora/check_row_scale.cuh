// Which rows an unmerge cannot get back: those whose scale is 0. A thread a row; loads 4 bytes each.
#pragma once

#include "adapter.cuh"

namespace PK_BUILD {

constexpr int kCheckRowScaleThreads = 256;

PK_KERNEL void PK_LAUNCH_BOUNDS(kCheckRowScaleThreads) lora_check_row_scale(Matrix<const float> row_scale, int64_t n, pk_status_record* status) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * kCheckRowScaleThreads;
  for (int64_t row = static_cast<int64_t>(block_index().x) * kCheckRowScaleThreads + thread_index().x; row < n; row += threads) {
    if (load_global(row_scale.at(0, row)) == 0.0f) report(status, PK_FAILURE_ZERO_ROW_SCALE, row);
  }
}

}  // namespace PK_BUILD
