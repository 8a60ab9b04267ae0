// From the sums of a product to matrices in memory, four neighbouring elements of a row at a time.
//
// Tensor cores leave two neighbours in a lane: through the shared memory that the operands have done with, 16 rows of each warp at a time, neighbouring threads get neighbouring quads.
#pragma once

#include "product.cuh"

namespace PK_BUILD {

// Quads of a matrix of any strides and alignment; what is beyond it reads as zero and is not written.
template <class T>
class Quads {
 public:
  using Element = std::remove_const_t<T>;

  PK_DEVICE Quads(const Matrix<T>& matrix, int64_t rows, int64_t columns)
      : matrix_(matrix),
        rows_(rows),
        columns_(columns),
        vectors_(matrix.column_stride == 1 && matrix.row_stride % 4 == 0 && reinterpret_cast<uintptr_t>(matrix.data) % (4 * sizeof(T)) == 0) {}

  // Whether threads should walk down the rows.
  PK_DEVICE bool by_rows() const { return matrix_.column_stride != 1; }

  PK_DEVICE bool has(int64_t row, int64_t column) const { return row < rows_ && column < columns_; }

  PK_DEVICE Vector<Element, 4> load(int64_t row, int64_t column) const {
    if (!has(row, column)) return {};
    if (vectors_ && columns_ - column >= 4) return load_global(reinterpret_cast<const Vector<Element, 4>*>(matrix_.at(row, column)));
    return gather<Element, 4>(static_cast<const Element*>(matrix_.at(row, column)), matrix_.column_stride, nearest_int(columns_ - column));
  }

  PK_DEVICE void store(int64_t row, int64_t column, const Vector<Element, 4>& values) const {
    if (vectors_ && columns_ - column >= 4) {
      store_global(reinterpret_cast<Vector<Element, 4>*>(matrix_.at(row, column)), values);
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + i < columns_) store_global(matrix_.at(row, column + i), values.values[i]);
    }
  }

 private:
  Matrix<T> matrix_;
  int64_t rows_, columns_;
  bool vectors_;
};

PK_DEVICE Vector<float, 4> operator+(const Vector<float, 4>& left, const Vector<float, 4>& right) {
  Vector<float, 4> sum;
#pragma unroll
  for (int i = 0; i < 4; ++i) sum.values[i] = left.values[i] + right.values[i];
  return sum;
}

PK_DEVICE Vector<float, 4> operator*(const Vector<float, 4>& left, const Vector<float, 4>& right) {
  Vector<float, 4> product;
#pragma unroll
  for (int i = 0; i < 4; ++i) product.values[i] = left.values[i] * right.values[i];
  return product;
}

// The quads of a tile that a thread has, in the order of the fragments: for the same fragment of all warps `kOfFragment`, then for the next.
template <class Config>
struct QuadWalk {
  static constexpr int kOfFragment = (Config::kRowWarps * 4 * Config::kTileColumns + Config::kThreads - 1) / Config::kThreads;
  static constexpr int kQuads = Config::kRowFragments * kOfFragment;

  int row_warp, row_of_fragment;
  int row, column;  // of the tile; none where there are more threads than quads
  bool exists;

  PK_DEVICE QuadWalk(int i, bool by_rows) {
    constexpr int kColumns = Config::kTileColumns / 4, kRows = 16 * Config::kRowWarps;
    const int at = static_cast<int>(thread_index().x) + i % kOfFragment * Config::kThreads;
    const int row_of_all = by_rows ? at % kRows : at / kColumns;
    row_warp = row_of_all / 16;
    row_of_fragment = row_of_all % 16;
    row = row_warp * Config::kWarpRows + i / kOfFragment * 16 + row_of_fragment;
    column = 4 * (by_rows ? at / kRows : at % kColumns);
    exists = at < kRows * kColumns;
  }
};

// Calls take(i, row, column, values) for every quad of the tile, i as QuadWalk counts them. Every thread of the block calls it, after a barrier behind the last use of `shared`; the sums are
// those of the first of the warps that share a part.
template <class Config, class Take>
PK_DEVICE void each_quad(const typename Config::Sums& sums, typename Config::Shared& shared, bool by_rows, Take take) {
  static_assert(Config::kStages >= Config::kRowWarps && Config::kTileColumns % 32 == 0, "16 rows of a warp fit an operand's tile");
  // Columns trade places so that different banks have the 4 rows of a fragment that are written at once, and the quads of 8 rows that are read where threads walk down them.
  const auto word = [](int row, int column) { return static_cast<uint32_t>(row * Config::kTileColumns + (column ^ (row % 4 * 8 + row / 4 % 2 * 4))); };
#pragma unroll
  for (int i = 0; i < Config::kRowFragments; ++i) {
    if (i > 0) barrier();  // the quads before have been read
    if (Config::depth_warp() == 0) {
      auto& tile = shared.right[Config::warp_row() / Config::kWarpRows][0];
#pragma unroll
      for (int j = 0; j < Config::kColumnFragments; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = static_cast<int>(lane()) / 4 + 8 * half, column = Config::warp_column() + 8 * j + static_cast<int>(lane()) % 4 * 2;
          tile.template store_vector<2>(word(row, column), {{bits_of_float(sums[i][j][2 * half]), bits_of_float(sums[i][j][2 * half + 1])}});
        }
      }
    }
    barrier();
#pragma unroll
    for (int of = 0; of < QuadWalk<Config>::kOfFragment; ++of) {
      const int quad = i * QuadWalk<Config>::kOfFragment + of;
      const QuadWalk<Config> at(quad, by_rows);
      if (!at.exists) continue;
      const auto bits = shared.right[at.row_warp][0].template load_vector<4>(word(at.row_of_fragment, at.column));
      take(quad, at.row, at.column, Vector<float, 4>{{float_of_bits(bits.values[0]), float_of_bits(bits.values[1]), float_of_bits(bits.values[2]), float_of_bits(bits.values[3])}});
    }
  }
}

}  // namespace PK_BUILD
