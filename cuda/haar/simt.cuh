// The Haar transform by its definition: every coefficient is a sum of 2^l elements (4^l of a matrix), every element one of all levels' coefficients at its place.
//
// A thread makes an element of the result, in f64. Loads, in elements of the source: forward, of each level all that it covers, so rows * columns * (3 * levels + 1) along both axes and
// rows * columns * (levels + 1) along one; inverse, rows * columns * (3 * levels + 1) or (levels + 1). Stores: the destination. Roundings: to f32 for the factor, the factor itself and the
// product with it, then the one to the destination's type.
// Any extents, levels, boundary and strides; for what a tile does not hold, and for the adjoint of an extension.
#pragma once

#include "transform.cuh"

namespace PK_BUILD {

constexpr int kHaarSimtThreads = 256;

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(kHaarSimtThreads) haar_forward_simt(HaarProblem<T> problem) {
  const HaarAxes axes = problem.axes;
  const int64_t rows = problem.padded_rows(), columns = problem.padded_columns(), step = int64_t{grid_extent().x} * kHaarSimtThreads;
  for (int64_t i = int64_t{block_index().x} * kHaarSimtThreads + thread_index().x; i < problem.batches * rows * columns; i += step) {
    const HaarElement at(i, rows, columns);
    const HaarPlace place = haar_place(problem, axes, at.row, at.column);
    if (!place.is_coefficient && problem.interleaved == 0) continue;
    double sum = 0.0;
    if (place.is_coefficient) {
      const Matrix<const T> source = problem.source.batch(at.batch);
      const int64_t row_span = has_rows(axes) ? int64_t{1} << place.level : 1, column_span = has_columns(axes) ? int64_t{1} << place.level : 1;
      const bool row_detail = (at.row & (row_span - 1)) != 0, column_detail = (at.column & (column_span - 1)) != 0;
      for (int64_t r = 0; r < row_span; ++r) {
        const int64_t row = haar_extended((at.row & -row_span) + r, problem.rows, problem.row_levels(), problem.boundary);
        for (int64_t c = 0; row >= 0 && c < column_span; ++c) {
          const int64_t column = haar_extended((at.column & -column_span) + c, problem.columns, problem.column_levels(), problem.boundary);
          const bool negative = (row_detail && r >= row_span / 2) != (column_detail && c >= column_span / 2);
          const double value = column >= 0 ? static_cast<double>(to_float(load_global(source.at(row, column)))) : 0.0;
          sum += negative ? -value : value;
        }
      }
    }
    store_global(problem.destination.batch(at.batch).at(place.row, place.column), from_float<T>(static_cast<float>(sum) * problem.factors[place.level]));
  }
}

// One coefficient, with its factor; zero where there is none.
template <class T>
PK_DEVICE double haar_coefficient(const HaarProblem<T>& problem, const Matrix<const T>& source, int64_t row, int64_t column) {
  const HaarPlace place = haar_place(problem, problem.axes, row, column);
  return place.is_coefficient ? static_cast<double>(to_float(load_global(source.at(place.row, place.column))) * problem.factors[place.level]) : 0.0;
}

// An element of the extended signal.
template <class T>
PK_DEVICE double haar_synthesis(const HaarProblem<T>& problem, const Matrix<const T>& source, int64_t row, int64_t column) {
  const bool rows = has_rows(problem.axes), columns = has_columns(problem.axes);
  double sum = 0.0;
#pragma unroll 1
  for (int32_t level = problem.levels; level > 0; --level) {
    const int64_t half = int64_t{1} << (level - 1), mask = -2 * half;
    const int64_t row_begin = rows ? row & mask : row, column_begin = columns ? column & mask : column;
    const double row_sign = (row & half) != 0 ? -1.0 : 1.0, column_sign = (column & half) != 0 ? -1.0 : 1.0;
    if (level == problem.levels) sum = haar_coefficient(problem, source, row_begin, column_begin);
    if (columns) sum += column_sign * haar_coefficient(problem, source, row_begin, column_begin + half);
    if (rows) sum += row_sign * haar_coefficient(problem, source, row_begin + half, column_begin);
    if (rows && columns) sum += row_sign * column_sign * haar_coefficient(problem, source, row_begin + half, column_begin + half);
  }
  return sum;
}

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(kHaarSimtThreads, 2) haar_inverse_simt(HaarProblem<T> problem) {
  const int64_t rows = problem.rows, columns = problem.columns, step = int64_t{grid_extent().x} * kHaarSimtThreads;
  for (int64_t i = int64_t{block_index().x} * kHaarSimtThreads + thread_index().x; i < problem.batches * rows * columns; i += step) {
    const HaarElement at(i, rows, columns);
    const Matrix<const T> source = problem.source.batch(at.batch);
    double sum = 0.0;
    HaarCopies of_row(problem.fold != 0, problem.boundary, at.row, rows, problem.row_levels());
    for (int64_t row = of_row.next(); row >= 0; row = of_row.next()) {
      HaarCopies of_column(problem.fold != 0, problem.boundary, at.column, columns, problem.column_levels());
      for (int64_t column = of_column.next(); column >= 0; column = of_column.next()) sum += haar_synthesis(problem, source, row, column);
    }
    store_global(problem.destination.batch(at.batch).at(at.row, at.column), from_float<T>(static_cast<float>(sum)));
  }
}

// Zeros where bands of different extents leave room between each other: next to the approximations of a level, up to where its details begin. Along both axes, in the Mallat layout.
template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(kHaarSimtThreads) haar_gaps_simt(HaarProblem<T> problem) {
  const int64_t step = int64_t{grid_extent().x} * kHaarSimtThreads, first = int64_t{block_index().x} * kHaarSimtThreads + thread_index().x;
  for (int32_t level = 1; level <= problem.levels; ++level) {
    const int64_t row_count = haar_count(problem.rows, level), column_count = haar_count(problem.columns, level);
    const int64_t row_gap = problem.row_offsets[level] - row_count, column_gap = problem.column_offsets[level] - column_count;
    for (int64_t i = first; i < problem.batches * row_gap * column_count; i += step) {
      const HaarElement at(i, row_gap, column_count);
      store_global(problem.destination.batch(at.batch).at(row_count + at.row, problem.column_offsets[level] + at.column), from_float<T>(0.0f));
    }
    for (int64_t i = first; i < problem.batches * row_count * column_gap; i += step) {
      const HaarElement at(i, row_count, column_gap);
      store_global(problem.destination.batch(at.batch).at(problem.row_offsets[level] + at.row, column_count + at.column), from_float<T>(0.0f));
    }
  }
}

}  // namespace PK_BUILD
