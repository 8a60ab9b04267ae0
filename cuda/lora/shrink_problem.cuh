// What makes H, or dH, from operands of a backward call: a forward problem of one target for the shrink kernels.
#pragma once

#include "forward.cuh"
#include "forward_launch.h"

namespace PK_BUILD {

static inline bool in_f32(int32_t element_type, int32_t activations) { return element_type == PK_F32 && activations != PK_F32; }

static inline int64_t bytes_of(int32_t element_type) { return element_type == PK_F32 ? 4 : 2; }

static inline Factor factor_of(const pk_matrix& matrix) { return {matrix.data, matrix.row_stride, matrix.column_stride}; }

// h [batches * m, row_stride] = x * a^T, in its first `rank` columns.
template <class T>
ForwardProblem<T> shrink_problem(const pk_matrix& x, int64_t batches, const Factor& a, int64_t a_batch_bytes, int64_t rank, int64_t row_stride, int32_t adapter_element_type, float* h) {
  ForwardProblem<T> problem{};
  problem.x = batched<const T>(x);
  problem.batches = batches;
  problem.m = x.rows;
  problem.k = x.columns;
  problem.h_planes = 1;
  problem.splits = 1;
  problem.target_count = 1;
  AdapterSet& adapters = problem.targets[0].adapters;
  adapters.one = {a, a, rank, 1.0f};
  adapters.a_batch_bytes = a_batch_bytes;
  adapters.max_rank = row_stride;
  adapters.in_f32 = in_f32(adapter_element_type, x.element_type);
  problem.targets[0].h = h;
  return problem;
}

}  // namespace PK_BUILD
