// left^T * h, the sum over rows: with left = dY and h = H it is dB, with left = x and h = dH it is dA transposed. The problem as the kernels see it, and how their parts are added up.
#pragma once

#include "backward_plan.h"
#include "dropout.cuh"
#include "intermediate.cuh"

namespace PK_BUILD {

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

  // Of a problem with batches, m and such a plan.
  template <class Problem>
  PK_DEVICE OuterPart(const Problem& problem, int64_t part) {
    const int64_t tiles = problem.batches * ((problem.m + kLoraOuterRows - 1) / kLoraOuterRows) / problem.plan.groups;
    const int64_t group = part / problem.plan.parts, of_group = part - group * problem.plan.parts;
    begin = group * tiles + tiles * of_group / problem.plan.parts;
    end = group * tiles + tiles * (of_group + 1) / problem.plan.parts;
  }
};

}  // namespace PK_BUILD
