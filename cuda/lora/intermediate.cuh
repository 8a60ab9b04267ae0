// H or dH, or what a middle makes of them: [m, rank] of every batch, in the workspace or as the caller saved it.
#pragma once

#include "adapter.cuh"

namespace PK_BUILD {

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
PK_DEVICE float load_intermediate(const Intermediate& h, int64_t batch, int64_t row, int64_t rank) {
  if (!std::is_same<T, float>::value && h.in_f32 == 0) return to_float(load_global(h.matrix<T>(batch, 0).at(row, rank)));
  float sum = load_global(h.matrix<float>(batch, 0).at(row, rank));
  for (int32_t plane = 1; plane < h.planes; ++plane) sum += load_global(h.matrix<float>(batch, plane).at(row, rank));
  return sum;
}

}  // namespace PK_BUILD
