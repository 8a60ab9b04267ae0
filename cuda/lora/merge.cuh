// destination = source + direction * sum over adapters of scale * B * A: the problem as the kernels see it.
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
  Matrix<uint16_t> residual;  // data = null: none
  int32_t adapters_in_f32;    // where source is not
  int32_t adapter_count;
  MergeAdapter adapters[PK_LORA_MERGE_ADAPTERS];
};

}  // namespace PK_BUILD
