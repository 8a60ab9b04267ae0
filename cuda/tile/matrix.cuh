// A matrix in global memory with two strides, and how a block copies a tile of it into shared memory.
#pragma once

#include "../include/peft_kernels.h"
#include "../ptx/ptx.cuh"

namespace PK_BUILD {

template <class T>
struct Matrix {
  T* data;
  int64_t row_stride, column_stride;

  PK_HOST_DEVICE T* at(int64_t row, int64_t column) const { return data + row * row_stride + column * column_stride; }
  // Consecutive columns lie side by side, or else consecutive rows do.
  PK_HOST_DEVICE bool row_major() const { return column_stride == 1; }
};

// A matrix per batch.
template <class T>
struct Batched {
  Matrix<T> first;
  int64_t batch_stride;

  PK_HOST_DEVICE Matrix<T> batch(int64_t index) const { return {first.data + index * batch_stride, first.row_stride, first.column_stride}; }
};

// What is not there is not there in any batch, whatever its strides say.
template <class T>
Batched<T> batched(const pk_matrix& matrix) {
  return {{static_cast<T*>(matrix.data), matrix.row_stride, matrix.column_stride}, matrix.data != nullptr ? matrix.batch_stride : 0};
}

// An element as another type, rounded where it must be.
template <class T, class S>
PK_DEVICE T convert(S value) {
  if constexpr (std::is_same<T, S>::value) return value;
  else return from_float<T>(to_float(value));
}

template <class T, class S, int COUNT>
PK_DEVICE Vector<T, COUNT> convert(const Vector<S, COUNT>& vector) {
  Vector<T, COUNT> converted;
#pragma unroll
  for (int i = 0; i < COUNT; ++i) converted.values[i] = convert<T>(vector.values[i]);
  return converted;
}

// A scale of columns that leaves them as they are.
struct NoColumnScale {
  PK_DEVICE float operator()(int64_t) const { return 1.0f; }
};

// tile(column, row) = scale(column0 + column) * source(row0 + row, column0 + column) as f32, zero outside rows x columns. Tile is [COLUMNS][PITCH], so that a column of it is contiguous: the operand
// order of an outer product. Neighbouring threads read neighbouring elements in either order of the source.
template <int ROWS, int COLUMNS, int PITCH, int THREADS, class T, class Shared, class Scale = NoColumnScale>
PK_DEVICE void load_transposed(Shared& tile, const Matrix<const T>& source, int64_t row0, int64_t column0, int64_t rows, int64_t columns, Scale scale = {}) {
  static_assert(ROWS * COLUMNS % THREADS == 0, "every thread copies as many elements");
  static_assert(PITCH >= ROWS, "a column fits its pitch");
  const int thread = static_cast<int>(thread_index().x);
  const bool row_major = source.row_major();
  for (int i = thread; i < ROWS * COLUMNS; i += THREADS) {
    const int row = row_major ? i / COLUMNS : i % ROWS;
    const int column = row_major ? i % COLUMNS : i / ROWS;
    const bool inside = row0 + row < rows && column0 + column < columns;
    tile.store(column * PITCH + row, inside ? scale(column0 + column) * to_float(load_global(source.at(row0 + row, column0 + column))) : 0.0f);
  }
}

}  // namespace PK_BUILD
