// WaRA: y = base + scale * mid(x * A^T) * B^T, its gradients, and W + scale * D^-1(C), for low-rank coefficients C that are nowhere.
//
// The inverse transform of a product is a product: of a band of coefficients B * A at level l, D^-1 is 2^-l times the product of B with every row 2^l times, and of A with every column 2^l
// times, the second half of them negative along the axes of which the band has the details. So a band is `rank` ranks of a plain low-rank branch whose factors are read through a shift and a
// sign, exactly: no sum is made, nothing is stored. Bands are groups of ranks, r of them in all (3 * levels + 1 times the rank of an image).
// Activation mode has plain factors; there mid transforms the columns of x * A^T along the grid of tokens, scales the bands and transforms back, which is [m, r] and not [m, k] or [m, n].
//
// x [m, k], W [n, k], y [m, n]. Kernels and their loads and stores, in elements as far as caches reach:
//   shrink    h = gain * x * A^T: x, A -> h [m, r] in f32; backward t = gain * scale * dy * B
//   filter    mid(h) and its adjoint, activation mode: h 4^l times a level -> h
//   expand    y = x * W^T + scale * h * B^T; backward dx = dy * W + t * A
//   gradient  dB = scale * (dy folded to bands)^T * h, dA = t^T * (x folded to bands)
//   merge     W + scale * B * A of tiles 64 x 64; W read and written once, A and B once for each row and column of tiles
//   merge (tile) the same of tiles 128 x 128 and up to 3 levels by what is cheaper for a whole delta W: a thread makes the coefficients of its 8 x 8 elements, each once, and transforms them
//             back in registers: a (3 * levels + 1)-th of the products
// Tiles of 64 rows, 64 or 16 columns and 16 of depth in shared memory; a thread makes 4 x 4 or 4 x 1 of it. Any extents, levels, strides. Roundings of an element: one for each product of the
// longest sums (k, n or m, and r; of the merge of tiles a band's rank), those of mid (two sums a level), the gains and the scale, then the one to the output's type.
#pragma once

#include "../tile/quads.cuh"
#include "transform.cuh"

namespace PK_BUILD {

constexpr int kWaraThreads = 256;

// Tiles of sums, so many rows and columns of each of 16 x 16 threads, over 16 of depth at a time.
template <int THREAD_ROWS, int THREAD_COLUMNS>
struct WaraTile {
  static constexpr int kThreadRows = THREAD_ROWS, kThreadColumns = THREAD_COLUMNS, kRows = 16 * THREAD_ROWS, kColumns = 16 * THREAD_COLUMNS, kDepth = 16;
  static constexpr int kLeftPitch = kRows + 4, kRightPitch = kColumns + 4;  // a gap, so that fewer neighbours in depth share a bank
  using Sums = float[kThreadRows][kThreadColumns];

  struct Shared {
    SharedArray<float, kDepth * kLeftPitch> left;
    SharedArray<float, kDepth * kRightPitch> right;
  };

  PK_DEVICE static int row() { return static_cast<int>(thread_index().x) / 16 * kThreadRows; }
  PK_DEVICE static int column() { return static_cast<int>(thread_index().x) % 16 * kThreadColumns; }

  // The tile's part of an operand: value(line, depth) for lines of the operand; neighbouring threads read what lies side by side.
  template <int LINES, int PITCH, class Array, class Value>
  PK_DEVICE static void stage(Array& array, int64_t depth_begin, int64_t depth, bool by_depth, Value value) {
#pragma unroll 2
    for (int i = static_cast<int>(thread_index().x); i < LINES * kDepth; i += kWaraThreads) {
      const int line = by_depth ? i / kDepth : i % LINES, step = by_depth ? i % kDepth : i / LINES;
      array.store(static_cast<uint32_t>(step * PITCH + line), depth_begin + step < depth ? value(line, depth_begin + step) : 0.0f);
    }
  }

  // sums[i][j] += sum over depth of left(row, d) * right(column, d). Every thread of the block calls it. The room is a Shared, of this tile or a larger one.
  template <class Room, class Left, class Right>
  PK_DEVICE static void accumulate(Sums& sums, Room& shared, int64_t depth, bool left_by_depth, bool right_by_depth, Left left, Right right) {
    for (int64_t begin = 0; begin < depth; begin += kDepth) {
      stage<kRows, kLeftPitch>(shared.left, begin, depth, left_by_depth, left);
      stage<kColumns, kRightPitch>(shared.right, begin, depth, right_by_depth, right);
      barrier();
#pragma unroll 4
      for (int step = 0; step < kDepth; ++step) {
        const auto l = shared.left.template load_vector<kThreadRows>(static_cast<uint32_t>(step * kLeftPitch + row()));
        const auto r = shared.right.template load_vector<kThreadColumns>(static_cast<uint32_t>(step * kRightPitch + column()));
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = fma(l.values[i], r.values[j], sums[i][j]);
        }
      }
      barrier();  // before the next parts
    }
  }

  // visit(row, column, sum) for a thread's elements that are within the matrix.
  template <class Visit>
  PK_DEVICE static void each(const Sums& sums, int64_t row0, int64_t column0, int64_t rows, int64_t columns, Visit visit) {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) {
        if (row0 + row() + i < rows && column0 + column() + j < columns) visit(row0 + row() + i, column0 + column() + j, sums[i][j]);
      }
    }
  }
};

template <class T>
struct WaraProblem {
  HaarWaraPlan plan;
  int64_t m, n, k;
  Matrix<const T> x, w, dy;  // dy and w: data = null where there is none
  Matrix<T> y, dx;
  int32_t in_y;   // y holds the base
  float *h, *t;   // [m, ranks], what follows the filter
};

PK_DEVICE float wara_sign(int64_t index, int32_t level, int32_t detail) { return detail != 0 && (index >> (level - 1) & 1) != 0 ? -1.0f : 1.0f; }

// The group's A [rank, k] and B [n, rank].
template <class P>
PK_DEVICE float wara_a(const HaarWaraGroup& group, int64_t rank, int64_t column) {
  const Matrix<const P> a{static_cast<const P*>(group.a), group.a_row_stride, group.a_column_stride};
  return wara_sign(column, group.level, group.column_detail) * to_float(load_global(a.at(rank, group.column_first + (column >> group.level))));
}

template <class P>
PK_DEVICE float wara_b(const HaarWaraGroup& group, int64_t row, int64_t rank) {
  const Matrix<const P> b{static_cast<const P*>(group.b), group.b_row_stride, group.b_column_stride};
  return wara_sign(row, group.level, group.row_detail) * to_float(load_global(b.at(group.row_first + (row >> group.level), rank)));
}

// h = gain * x * A^T, or with BACKWARD t = gain * scale * dy * B, of one group's ranks: `tiles` are those of all groups.
template <class T, class P, bool BACKWARD>
PK_KERNEL void PK_LAUNCH_BOUNDS(kWaraThreads, 2) haar_wara_shrink_simt(WaraProblem<T> problem, int64_t tiles) {
  using Tile = WaraTile<4, 1>;
  PK_SHARED(Tile::Shared, shared);
  const HaarWaraPlan& plan = problem.plan;
  const Matrix<const T>& source = BACKWARD ? problem.dy : problem.x;
  float* const destination = BACKWARD ? problem.t : problem.h;
  const int64_t row_tiles = (problem.m + Tile::kRows - 1) / Tile::kRows;
  for (int64_t tile = block_index().x; tile < tiles; tile += grid_extent().x) {
    int64_t rank0 = tile / row_tiles * Tile::kColumns;
    int32_t number = 0;
    for (int32_t rounded = (plan.groups[0].rank + 15) / 16 * 16; rank0 >= rounded; rounded = (plan.groups[number].rank + 15) / 16 * 16) rank0 -= rounded, ++number;
    const HaarWaraGroup& group = plan.groups[number];
    const int64_t row0 = tile % row_tiles * Tile::kRows;
    const bool factor_by_depth = BACKWARD ? group.b_row_stride == 1 : group.a_column_stride == 1;
    Tile::Sums sums = {};
    Tile::accumulate(
        sums, shared, BACKWARD ? problem.n : problem.k, source.row_major(), factor_by_depth,
        [&](int row, int64_t depth) { return row0 + row < problem.m ? to_float(load_global(source.at(row0 + row, depth))) : 0.0f; },
        [&](int column, int64_t depth) {
          if (rank0 + column >= group.rank) return 0.0f;
          return BACKWARD ? wara_b<P>(group, depth, rank0 + column) : wara_a<P>(group, rank0 + column, depth);
        });
    const float factor = BACKWARD ? group.gain * plan.scale : group.gain;
    Tile::each(sums, row0, rank0, problem.m, group.rank, [&](int64_t row, int64_t column, float sum) { store_global(destination + row * plan.ranks + group.first + column, factor * sum); });
  }
}

// The transform of h along the grid of tokens, its bands times their gains, and back; or the adjoint. An element of a thread at a time, of all levels.
PK_KERNEL void PK_LAUNCH_BOUNDS(kWaraThreads, 2) haar_wara_filter_simt(HaarWaraPlan plan, const float* source, float* destination, int64_t elements, int32_t adjoint) {
  const int64_t step = int64_t{grid_extent().x} * kWaraThreads, tokens = plan.grid_rows * plan.grid_columns;
  const int32_t boundary = adjoint != 0 ? PK_HAAR_BOUNDARY_ZERO : plan.boundary;
  for (int64_t element = int64_t{block_index().x} * kWaraThreads + thread_index().x; element < elements; element += step) {
    const int64_t channel = element % plan.ranks, token = element / plan.ranks % tokens, first = element - token * plan.ranks;
    int32_t group = 0;
    while (group + 1 < plan.group_count && channel >= plan.groups[group + 1].first) ++group;
    float result = 0.0f;
    HaarCopies of_row(adjoint != 0, plan.boundary, token / plan.grid_columns, plan.grid_rows, plan.levels);
    for (int64_t row = of_row.next(); row >= 0; row = of_row.next()) {
      HaarCopies of_column(adjoint != 0, plan.boundary, token % plan.grid_columns, plan.grid_columns, plan.levels);
      for (int64_t column = of_column.next(); column >= 0; column = of_column.next()) {
        for (int32_t level = plan.levels, band = 1; level > 0; --level, band += 3) {
          // The coefficients of the level here, without their factor: sums of quarters of what they cover.
          const int64_t half = int64_t{1} << (level - 1);
          float a = 0.0f, h = 0.0f, v = 0.0f, d = 0.0f;
#pragma unroll 1
          for (int quarter = 0; quarter < 4; ++quarter) {
            const bool lower = quarter >= 2, right = quarter % 2 != 0;
            const int64_t row_begin = (row & (-2 * half)) + (lower ? half : 0), column_begin = (column & (-2 * half)) + (right ? half : 0);
            float sum = 0.0f;
#pragma unroll 1
            for (int64_t r = row_begin; r < row_begin + half; ++r) {
              const int64_t token_row = haar_extended(r, plan.grid_rows, plan.levels, boundary);
#pragma unroll 1
              for (int64_t c = column_begin; token_row >= 0 && c < column_begin + half; ++c) {
                const int64_t token_column = haar_extended(c, plan.grid_columns, plan.levels, boundary);
                if (token_column >= 0) sum += load_global(source + first + (token_row * plan.grid_columns + token_column) * plan.ranks);
              }
            }
            a += sum;
            h += lower ? -sum : sum;
            v += right ? -sum : sum;
            d += lower != right ? -sum : sum;
          }
          const auto gain = [&](int32_t number) { return plan.per_band == 0 || group == number ? plan.gains[number] : 0.0f; };
          const float row_sign = (row & half) != 0 ? -1.0f : 1.0f, column_sign = (column & half) != 0 ? -1.0f : 1.0f;
          float sum = level == plan.levels ? gain(0) * a : 0.0f;
          sum += gain(band) * row_sign * h;
          sum += gain(band + 1) * column_sign * v;
          sum += gain(band + 2) * row_sign * column_sign * d;
          result += sum / static_cast<float>(int64_t{1} << (2 * level));
        }
      }
    }
    store_global(destination + element, result);
  }
}

// y = base + scale * h * B^T, or with BACKWARD dx = dy * W + t * A.
template <class T, class P, bool BACKWARD>
PK_KERNEL void PK_LAUNCH_BOUNDS(kWaraThreads, 2) haar_wara_expand_simt(WaraProblem<T> problem, int64_t tiles) {
  using Tile = WaraTile<4, 4>;
  PK_SHARED(Tile::Shared, shared);
  const HaarWaraPlan& plan = problem.plan;
  const Matrix<const T>&source = BACKWARD ? problem.dy : problem.x, &w = problem.w;
  const Matrix<T>& destination = BACKWARD ? problem.dx : problem.y;
  const float* const intermediate = BACKWARD ? problem.t : problem.h;
  const int64_t columns = BACKWARD ? problem.k : problem.n, row_tiles = (problem.m + Tile::kRows - 1) / Tile::kRows;
  for (int64_t tile = block_index().x; tile < tiles; tile += grid_extent().x) {
    const int64_t row0 = tile % row_tiles * Tile::kRows, column0 = tile / row_tiles * Tile::kColumns;
    Tile::Sums base = {}, branch = {};
    if (w.data != nullptr) {
      Tile::accumulate(
          base, shared, BACKWARD ? problem.n : problem.k, source.row_major(), w.row_major() != BACKWARD,
          [&](int row, int64_t depth) { return row0 + row < problem.m ? to_float(load_global(source.at(row0 + row, depth))) : 0.0f; },
          [&](int column, int64_t depth) { return column0 + column < columns ? to_float(load_global(BACKWARD ? w.at(depth, column0 + column) : w.at(column0 + column, depth))) : 0.0f; });
    }
    for (int32_t number = 0; number < plan.group_count; ++number) {
      const HaarWaraGroup& group = plan.groups[number];
      const bool factor_by_depth = BACKWARD ? group.a_row_stride == 1 : group.b_column_stride == 1;
      Tile::accumulate(
          branch, shared, group.rank, true, factor_by_depth,
          [&](int row, int64_t depth) { return row0 + row < problem.m ? load_global(intermediate + (row0 + row) * plan.ranks + group.first + depth) : 0.0f; },
          [&](int column, int64_t depth) {
            if (column0 + column >= columns) return 0.0f;
            return BACKWARD ? wara_a<P>(group, depth, column0 + column) : wara_b<P>(group, column0 + column, depth);
          });
    }
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < Tile::kThreadColumns; ++j) base[i][j] = BACKWARD ? base[i][j] + branch[i][j] : fma(plan.scale, branch[i][j], base[i][j]);
    }
    Tile::each(base, row0, column0, problem.m, columns, [&](int64_t row, int64_t column, float sum) {
      if (!BACKWARD && problem.in_y != 0) sum += to_float(load_global(problem.y.at(row, column)));
      store_global(destination.at(row, column), from_float<T>(sum));
    });
  }
}

// The gradient of factor number `factor`: dB [rows, rank], or without OF_B dA [rank, columns], which is made transposed.
template <class T, class P, bool OF_B>
PK_KERNEL void PK_LAUNCH_BOUNDS(kWaraThreads, 2) haar_wara_gradient_simt(WaraProblem<T> problem, Matrix<P> gradient, int32_t factor, int64_t places, int32_t rank, int64_t tiles) {
  using Tile = WaraTile<4, 1>;
  PK_SHARED(Tile::Shared, shared);
  const HaarWaraPlan& plan = problem.plan;
  const Matrix<const T>& source = OF_B ? problem.dy : problem.x;
  const float* const intermediate = OF_B ? problem.h : problem.t;
  const int64_t extent = OF_B ? problem.n : problem.k, place_tiles = (places + Tile::kRows - 1) / Tile::kRows;
  for (int64_t tile = block_index().x; tile < tiles; tile += grid_extent().x) {
    const int64_t place0 = tile % place_tiles * Tile::kRows, rank0 = tile / place_tiles * Tile::kColumns;
    Tile::Sums sums = {};
    for (int32_t number = 0; number < plan.group_count; ++number) {
      const HaarWaraGroup& group = plan.groups[number];
      const int64_t begin = OF_B ? group.row_first : group.column_first, count = OF_B ? group.row_count : group.column_count;
      if (group.factor != factor || place0 >= begin + count || place0 + Tile::kRows <= begin) continue;
      const int32_t detail = OF_B ? group.row_detail : group.column_detail;
      Tile::accumulate(
          sums, shared, problem.m, !source.row_major(), false,
          [&](int row, int64_t depth) {
            const int64_t place = place0 + row - begin;
            float sum = 0.0f;
            if (place < 0) return sum;  // of places beyond a group's, there are no elements
            const int64_t first = place << group.level;
#pragma unroll 1
            for (int64_t i = first; i < minimum(first + (int64_t{1} << group.level), extent); ++i) sum += wara_sign(i, group.level, detail) * to_float(load_global(source.at(depth, i)));
            return sum;
          },
          [&](int column, int64_t depth) { return rank0 + column < rank ? load_global(intermediate + depth * plan.ranks + group.first + rank0 + column) : 0.0f; });
    }
    Tile::each(sums, place0, rank0, places, rank, [&](int64_t place, int64_t column, float sum) {
      store_global(OF_B ? gradient.at(place, column) : gradient.at(column, place), from_float<P>(OF_B ? plan.scale * sum : sum));
    });
  }
}

// destination = source + scale * sum over groups of gain * B * A. An unmerge has the scale's negative.
template <class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(kWaraThreads, 2) haar_wara_merge_simt(WaraProblem<T> problem, int64_t tiles) {
  using Tile = WaraTile<4, 4>;
  PK_SHARED(Tile::Shared, shared);
  const HaarWaraPlan& plan = problem.plan;
  const int64_t column_tiles = (problem.k + Tile::kColumns - 1) / Tile::kColumns;
  for (int64_t tile = block_index().x; tile < tiles; tile += grid_extent().x) {
    const int64_t row0 = tile / column_tiles * Tile::kRows, column0 = tile % column_tiles * Tile::kColumns;
    Tile::Sums delta = {};
    for (int32_t number = 0; number < plan.group_count; ++number) {
      const HaarWaraGroup& group = plan.groups[number];
      Tile::Sums product = {};
      Tile::accumulate(
          product, shared, group.rank, group.b_column_stride == 1, group.a_row_stride == 1,
          [&](int row, int64_t depth) { return row0 + row < problem.n ? wara_b<P>(group, row0 + row, depth) : 0.0f; },
          [&](int column, int64_t depth) { return column0 + column < problem.k ? wara_a<P>(group, depth, column0 + column) : 0.0f; });
#pragma unroll
      for (int i = 0; i < Tile::kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::kThreadColumns; ++j) delta[i][j] = fma(group.gain, product[i][j], delta[i][j]);
      }
    }
    Tile::each(delta, row0, column0, problem.n, problem.k, [&](int64_t row, int64_t column, float sum) {
      store_global(problem.y.at(row, column), from_float<T>(fma(plan.scale, sum, to_float(load_global(problem.w.at(row, column))))));
    });
  }
}

// ---- the merge of tiles -------------------------------------------------------------------------------------------------------------------------------------

struct WaraMergeConfig {
  static constexpr int kRows = 128, kColumns = 128, kPitch = kColumns + 4;  // a gap, so that neighbouring rows lie in different banks
  static_assert(kRows == 16 * 8 && kColumns == 16 * 8, "a thread has 8 x 8 elements: whole subtrees of 3 levels");

  struct Shared {
    WaraTile<4, 4>::Shared factors;
    SharedArray<float, kRows * kPitch> delta;
  };
  static_assert(kRows == kHaarWaraMergeTile && sizeof(Shared) <= kHaarWaraMergeShared && 1 << kHaarWaraMergeLevels == 8, "what the choice of kernel knows");
};

using WaraElements = float[8][8];  // of a thread, each at its interleaved position

// The bands of a level of the tile that begins at (row0, column0), and the approximations above it. Gains have the factors of the transform.
template <class P, int LEVEL>
PK_DEVICE void wara_synthesis(WaraElements& elements, WaraMergeConfig::Shared& shared, const HaarWaraPlan& plan, int64_t row0, int64_t column0) {
  using Tile = WaraTile<(8 >> LEVEL), (8 >> LEVEL)>;
  constexpr int kStep = 1 << LEVEL, kHalf = kStep / 2;
  if (LEVEL > plan.levels) return;
  const int64_t row_begin = row0 >> LEVEL, column_begin = column0 >> LEVEL;
  // 0 are the approximations, of the deepest level alone, 1 the details along rows, 2 along columns, 3 along both.
#pragma unroll 1
  for (int kind = LEVEL == plan.levels ? 0 : 1; kind < 4; ++kind) {
    const HaarWaraGroup& group = plan.groups[3 * (plan.levels - LEVEL) + kind];
    const Matrix<const P> a{static_cast<const P*>(group.a), group.a_row_stride, group.a_column_stride}, b{static_cast<const P*>(group.b), group.b_row_stride, group.b_column_stride};
    typename Tile::Sums sums = {};
    Tile::accumulate(
        sums, shared.factors, group.rank, b.row_major(), a.row_stride == 1,
        [&](int row, int64_t depth) { return row_begin + row < group.row_count ? to_float(load_global(b.at(group.row_first + row_begin + row, depth))) : 0.0f; },
        [&](int column, int64_t depth) { return column_begin + column < group.column_count ? to_float(load_global(a.at(depth, group.column_first + column_begin + column))) : 0.0f; });
#pragma unroll
    for (int i = 0; i < 8; i += kStep) {
#pragma unroll
      for (int j = 0; j < 8; j += kStep) {
        const float value = group.gain * sums[i / kStep][j / kStep];
        if (kind == 0) elements[i][j] = value;
        if (kind == 1) elements[i + kHalf][j] = value;
        if (kind == 2) elements[i][j + kHalf] = value;
        if (kind == 3) elements[i + kHalf][j + kHalf] = value;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 8; i += kStep) {
#pragma unroll
    for (int j = 0; j < 8; j += kStep) {
      const float a = elements[i][j], v = elements[i][j + kHalf], h = elements[i + kHalf][j], d = elements[i + kHalf][j + kHalf];
      elements[i][j] = (a + v) + (h + d);
      elements[i][j + kHalf] = (a - v) + (h - d);
      elements[i + kHalf][j] = (a + v) - (h + d);
      elements[i + kHalf][j + kHalf] = (a - v) - (h - d);
    }
  }
}

template <class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(kWaraThreads, 2) haar_wara_merge_tile(WaraProblem<T> problem) {
  using Config = WaraMergeConfig;
  PK_SHARED(Config::Shared, shared);
  const int64_t column_tiles = (problem.k + Config::kColumns - 1) / Config::kColumns;
  const int64_t row0 = block_index().x / column_tiles * Config::kRows, column0 = block_index().x % column_tiles * Config::kColumns;
  {
    WaraElements elements = {};
    wara_synthesis<P, 3>(elements, shared, problem.plan, row0, column0);
    wara_synthesis<P, 2>(elements, shared, problem.plan, row0, column0);
    wara_synthesis<P, 1>(elements, shared, problem.plan, row0, column0);
    const int thread = static_cast<int>(thread_index().x), row = thread / 16 * 8, column = thread % 16 * 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; j += 4) {
        const Vector<float, 4> quad{{elements[i][j], elements[i][j + 1], elements[i][j + 2], elements[i][j + 3]}};
        shared.delta.template store_vector<4>(static_cast<uint32_t>((row + i) * Config::kPitch + column + j), quad);
      }
    }
  }
  barrier();
  const Quads<const T> source(problem.w, problem.n, problem.k);
  const Quads<T> destination(problem.y, problem.n, problem.k);
  const bool by_rows = destination.by_rows();
#pragma unroll 1
  for (int i = static_cast<int>(thread_index().x); i < Config::kRows * Config::kColumns / 4; i += kWaraThreads) {
    const int row = by_rows ? i % Config::kRows : i / (Config::kColumns / 4), column = 4 * (by_rows ? i / Config::kRows : i % (Config::kColumns / 4));
    if (!destination.has(row0 + row, column0 + column)) continue;
    const auto delta = shared.delta.template load_vector<4>(static_cast<uint32_t>(row * Config::kPitch + column));
    const auto weights = convert<float>(source.load(row0 + row, column0 + column));
    Vector<float, 4> sum;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum.values[j] = fma(problem.plan.scale, delta.values[j], weights.values[j]);
    destination.store(row0 + row, column0 + column, convert<T>(sum));
  }
}

}  // namespace PK_BUILD
