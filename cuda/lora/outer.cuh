// left^T * h, the sum over rows: with left = dY and h = H it is dB, with left = x and h = dH it is dA transposed. The problem as the kernels see it, and how their parts are added up.
#pragma once

#include "backward_plan.h"
#include "dropout.cuh"
#include "adapter.cuh"

namespace PK_BUILD {

// H or dH, in the workspace or as the caller saved it.
struct Intermediate {
  const void* data;
  int64_t batch_stride, row_stride, column_stride;  // in elements
  int32_t in_f32;                                   // where activations are not
  int32_t planes;                                   // which add up to it, f32
  int64_t plane_stride;

  template <class P>
  PK_DEVICE Matrix<const P> matrix(int64_t batch, int32_t plane) const {
    return {static_cast<const P*>(data) + batch * batch_stride + plane * plane_stride, row_stride, column_stride};
  }
};

template <class T>
struct OuterProblem {
  Batched<const T> left;  // [m, columns]
  int64_t batches, m, columns;
  Dropout dropout;  // of left
  LoraOuterPlan plan;
  int64_t rank;        // columns of h
  int32_t makes_sums;  // of left^T * h
  Intermediate h;
  // left * b, a pass's planes of it: [column_groups, batches * m, rank]. Null: not asked for.
  Factor b;  // [columns, rank]
  int64_t b_batch_bytes;
  int32_t b_in_f32;
  Batched<const float> b_scale;  // [1, columns], of b's rows; data = null: none
  float* dh;
  float* sums;       // [groups * parts, columns, rank]
  float* bias_sums;  // [groups * parts, columns], the sums of left's columns, or null
};

// The tiles of 64 rows of all batches that a part has.
struct OuterPart {
  int64_t begin, end;

  template <class Problem>
  PK_DEVICE OuterPart(const Problem& problem, int64_t part) {
    const int64_t tiles = problem.batches * ((problem.m + kLoraOuterRows - 1) / kLoraOuterRows) / problem.plan.groups;
    const int64_t group = part / problem.plan.parts, of_group = part - group * problem.plan.parts;
    begin = group * tiles + tiles * of_group / problem.plan.parts;
    end = group * tiles + tiles * (of_group + 1) / problem.plan.parts;
  }
};

}  // namespace PK_BUILD
