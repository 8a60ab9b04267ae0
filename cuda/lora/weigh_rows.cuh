// out = weight of the row * h, where rows count for more or less in what is summed over them.
//
// h [batches * m, rank] in planes, as it was made or saved; out in f32, which may be its first plane. A thread an element. Loads, in elements: h times its planes, and a weight (from cache). Stores: h.
// Roundings: planes, the product.
#pragma once

#include "outer_simt.cuh"

namespace PK_BUILD {

struct WeighRowsConfig {
  static constexpr int kThreads = 256;
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(WeighRowsConfig::kThreads) lora_weigh_rows(Intermediate h, const float* row_weights, int64_t rows, int64_t m, int64_t rank, float* out) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * WeighRowsConfig::kThreads;
  for (int64_t i = static_cast<int64_t>(block_index().x) * WeighRowsConfig::kThreads + thread_index().x; i < rows * rank; i += threads) {
    const int64_t row = i / rank, batch = row / m;
    store_global(out + i, load_global(row_weights + row) * load_intermediate<T>(h, batch, row - batch * m, i - row * rank));
  }
}

}  // namespace PK_BUILD
