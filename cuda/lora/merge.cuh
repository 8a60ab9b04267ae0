// destination = g .* (source + sum over adapters of scale * B * A), or source ./ g less that sum: the problem as the kernels see it.
#pragma once

#include "adapter.cuh"
#include "algorithms.h"

namespace PK_BUILD {

struct MergeAdapter {
  Factor a, b;
  int32_t rank;
  float scale;
};

template <class T>
struct MergeProblem {
  int64_t n, k;
  float direction;  // +1 merges, -1 unmerges
  Matrix<const T> source;
  Matrix<T> destination;
  Matrix<uint16_t> residual;      // data = null: none
  Matrix<const float> row_scale;  // g [1, n]; data = null: none
  int32_t adapters_in_f32;        // where source is not
  int32_t adapter_count;
  MergeAdapter adapters[PK_LORA_MERGE_ADAPTERS];

  PK_DEVICE bool merges() const { return direction > 0.0f; }
  PK_DEVICE float scale_of_row(int64_t row) const { return row_scale.data != nullptr ? load_global(row_scale.at(0, row)) : 1.0f; }
};

// A weight on its way under the row scale g, or back from under it. A g of 1 changes no bit.
PK_DEVICE float with_delta(bool merges, float g, float weight, float delta) {
  if (merges || g == 1.0f) return g * (weight + delta);
  return weight / g + delta;
}

}  // namespace PK_BUILD
