// dx = the sum over targets of dY * (g .* W) + d .* (scale * dH * A), with g the row scale, or 1, and d what dropout leaves: the problem as the kernels see it.
#pragma once

#include "forward.cuh"

namespace PK_BUILD {

// As a forward whose targets share their y: in `of`, W is W transposed, B is A transposed and H is dH, so that `adapters.max_rank` is dH's row stride; dx has n columns.
template <class T>
struct InputGradientProblem {
  ForwardProblem<T> of;
  ForwardTarget<T> dx;  // where it goes, and whether it is added to what is there (PK_LORA_BASE_IN_Y)
  Batched<const T> dy[PK_LORA_BACKWARD_TARGETS];
  int64_t depth[PK_LORA_BACKWARD_TARGETS];           // columns of dY
  const int32_t* indices[PK_LORA_BACKWARD_TARGETS];  // of each row of all batches the adapter of a table, -1: none; null: one adapter for every row

  // Of a row of all batches, of a target with ranks.
  PK_DEVICE int32_t adapter_of(int32_t target, int64_t row) const { return indices[target] != nullptr ? load_global(indices[target] + row) : 0; }
};

}  // namespace PK_BUILD
