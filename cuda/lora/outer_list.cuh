// left^T * h over the rows of each adapter of a table: with left = dY and h = H the adapter's dB, with left = x and h = dH its dA. The problem as the kernels see it, and where an adapter's sums go.
#pragma once

#include "dropout.cuh"
#include "intermediate.cuh"
#include "row_lists.h"

namespace PK_BUILD {

template <class T>
struct OuterListProblem {
  Batched<const T> left;  // [m, columns]
  int64_t m, columns;
  Dropout dropout;                  // of left
  Batched<const float> left_scale;  // [1, columns], of left's columns; data = null: none
  Intermediate h;                   // [m, the largest rank]
  RowLists lists;
  AdapterSet adapters;  // a table
  const pk_lora_adapter_gradient* gradients;
  int32_t of_b;        // whether they are dB, or dA
  int32_t accumulates; // whether they are added to what is there
};

// A row of a list.
struct ListedRow {
  int64_t of_all, batch, row;

  template <class T>
  PK_DEVICE ListedRow(const OuterListProblem<T>& problem, int64_t at) : of_all(load_global(problem.lists.rows + at)), batch(of_all / problem.m), row(of_all - batch * problem.m) {}
};

// The gradient of an adapter, of which one element is made of a column of left and a rank.
struct ListedGradient {
  int64_t rank;        // 0: nothing is to be done
  int64_t begin, end;  // in the list
  float scale;
  void* data;
  int64_t column_stride, rank_stride;

  template <class T>
  PK_DEVICE ListedGradient(const OuterListProblem<T>& problem, int64_t index) {
    const pk_lora_adapter* adapter = problem.adapters.table + index;
    const pk_lora_adapter_gradient* gradient = problem.gradients + index;
    const int32_t given = load_global(&adapter->rank);
    scale = load_global(&adapter->scale) * problem.adapters.factor;
    begin = load_global(problem.lists.offsets + index);
    end = load_global(problem.lists.offsets + index + 1);
    data = problem.of_b != 0 ? load_global(&gradient->db) : load_global(&gradient->da);
    column_stride = problem.of_b != 0 ? load_global(&gradient->db_row_stride) : load_global(&gradient->da_column_stride);
    rank_stride = problem.of_b != 0 ? load_global(&gradient->db_column_stride) : load_global(&gradient->da_row_stride);
    const bool stays = problem.accumulates != 0 && begin == end;
    rank = given < 0 || given > problem.adapters.max_rank || data == nullptr || stays ? 0 : given;
  }

  template <class T>
  PK_DEVICE void store(const OuterListProblem<T>& problem, int64_t column, int64_t of_rank, float sum) const {
    if (std::is_same<T, float>::value || problem.adapters.in_f32 != 0) store_as<float>(problem.accumulates != 0, column, of_rank, sum);
    else store_as<T>(problem.accumulates != 0, column, of_rank, sum);
  }

 private:
  template <class G>
  PK_DEVICE void store_as(bool accumulates, int64_t column, int64_t of_rank, float sum) const {
    G* to = static_cast<G*>(data) + column * column_stride + of_rank * rank_stride;
    // Without rows 0, whatever the scale is.
    store_global(to, from_float<G>(begin < end ? fma(scale, sum, accumulates ? to_float(load_global(to)) : 0.0f) : 0.0f));
  }
};

}  // namespace PK_BUILD
