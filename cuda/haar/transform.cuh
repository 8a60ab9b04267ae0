// What all kernels of a Haar transform agree on: where coefficients are, and what a signal holds beyond its end.
//
// Positions are those of the interleaved layout: a signal of n elements is extended to n_L * 2^L of them, n_l = ceil(n / 2^l), and of each 2^l neighbours the first becomes the approximation,
// the middle one the detail. Extension is by whole subtrees, so that every level sees what the boundary mode says of it.
#pragma once

#include "../tile/matrix.cuh"
#include "algorithms.h"

namespace PK_BUILD {

enum class HaarAxes : int32_t { columns = PK_HAAR_ALONG_COLUMNS, rows = PK_HAAR_ALONG_ROWS, both = PK_HAAR_ALONG_BOTH };

PK_HOST_DEVICE constexpr bool has_rows(HaarAxes axes) { return axes != HaarAxes::columns; }
PK_HOST_DEVICE constexpr bool has_columns(HaarAxes axes) { return axes != HaarAxes::rows; }

template <class T>
struct HaarProblem {
  Batched<const T> source;
  Batched<T> destination;
  int64_t batches, rows, columns;  // of the signal
  HaarAxes axes;
  int32_t levels, boundary;
  int32_t interleaved, fold;  // fold: what the extension copied is added up where it came from
  int32_t source_vectors, destination_vectors;  // 16 bytes of a row are contiguous and aligned, in every band
  int64_t row_offsets[kHaarLevels + 1], column_offsets[kHaarLevels + 1];  // where the details of a level begin
  float factors[kHaarLevels + 1];                                         // of a level's coefficients

  PK_HOST_DEVICE int32_t row_levels() const { return has_rows(axes) ? levels : 0; }
  PK_HOST_DEVICE int32_t column_levels() const { return has_columns(axes) ? levels : 0; }
  PK_HOST_DEVICE int64_t padded_rows() const { return haar_count(rows, row_levels()) << row_levels(); }
  PK_HOST_DEVICE int64_t padded_columns() const { return haar_count(columns, column_levels()) << column_levels(); }
};

// Which element of the signal is at a position of its extension, or -1 for zero.
PK_DEVICE int64_t haar_extended(int64_t position, int64_t extent, int32_t levels, int32_t boundary) {
  if (position < extent) return position;
  int64_t index = position >> levels;
  if (index >= haar_count(extent, levels) || boundary == PK_HAAR_BOUNDARY_ZERO) return -1;
#pragma unroll 1
  for (int32_t level = levels - 1; level >= 0; --level) {
    index = 2 * index + (position >> level & 1);
    const int64_t count = haar_count(extent, level);
    if (index >= count) index = boundary == PK_HAAR_BOUNDARY_PERIODIC ? 0 : count - 1;
  }
  return index;
}

// The positions of the extension that are copies of an element, itself first: call next() until it returns -1.
class HaarCopies {
 public:
  // Without `fold` an element is its only copy.
  PK_DEVICE HaarCopies(bool fold, int32_t boundary, int64_t element, int64_t extent, int32_t levels)
      : element_(element), extent_(extent), next_(element), end_(haar_count(extent, levels) << levels), levels_(levels), boundary_(boundary) {
    // Copies are of the last 2^levels elements, or of the first.
    const bool periodic = boundary_ == PK_HAAR_BOUNDARY_PERIODIC;
    const bool copied = fold && boundary_ != PK_HAAR_BOUNDARY_ZERO && (periodic ? element >> levels == 0 : element >> levels == (extent - 1) >> levels);
    if (!copied) end_ = extent;
  }

  // The element itself, then its copies, then -1; no more is asked for.
  PK_DEVICE int64_t next() {
    const int64_t current = next_;
#pragma unroll 1
    for (next_ = current == element_ ? extent_ : current + 1; next_ < end_; ++next_) {
      if (haar_extended(next_, extent_, levels_, boundary_) == element_) return current;
    }
    next_ = -1;
    return current;
  }

 private:
  int64_t element_, extent_, next_, end_;
  int32_t levels_, boundary_;
};

// The first level at which a position is a detail, less one; at least `levels` for an approximation.
PK_DEVICE int32_t haar_step(int64_t position, int32_t levels) { return position == 0 ? levels : static_cast<int32_t>(lowest_bit(static_cast<uint64_t>(position))); }

struct HaarPlace {
  int64_t row, column;  // in the matrix of coefficients
  int32_t level;
  bool is_coefficient;  // else nothing is there, or with the interleaved layout a zero
};

// Where the coefficient of a position of the extension is. The position is within it.
template <class T>
PK_DEVICE HaarPlace haar_place(const HaarProblem<T>& problem, HaarAxes axes, int64_t row, int64_t column) {
  const int32_t levels = problem.levels;
  const int32_t row_step = has_rows(axes) ? haar_step(row, levels) : levels, column_step = has_columns(axes) ? haar_step(column, levels) : levels;
  const int32_t step = minimum(row_step, column_step);
  const int32_t level = minimum(step + 1, levels), row_shift = has_rows(axes) ? level : 0, column_shift = has_columns(axes) ? level : 0;
  const bool inside = row >> row_shift < haar_count(problem.rows, row_shift) && column >> column_shift < haar_count(problem.columns, column_shift);
  if (problem.interleaved != 0) return {row, column, level, inside};
  const bool row_detail = has_rows(axes) && step < levels && row_step == step, column_detail = has_columns(axes) && step < levels && column_step == step;
  return {(row >> row_shift) + (row_detail ? problem.row_offsets[level] : 0), (column >> column_shift) + (column_detail ? problem.column_offsets[level] : 0), level, inside};
}

// The part of the work that is in a matrix of `rows` x `columns`, in the order of its rows.
struct HaarElement {
  int64_t batch, row, column;

  PK_DEVICE HaarElement(int64_t index, int64_t rows, int64_t columns) : batch(index / (rows * columns)), row(index / columns % rows), column(index % columns) {}
};

}  // namespace PK_BUILD
