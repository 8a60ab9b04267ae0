// dmagnitude = (the sum over rows of dY .* (y - bias)) / magnitude: the gradient of DoRA's magnitude, from the y that forward has written.
//
// dY, y [m, n]; bias, magnitude, dmagnitude [n]. A block has 64 columns and a part of the rows, 64 at a time: tiles of dY and of y lie in shared memory as they do in memory, so that whole sectors
// of either order are read, and a thread adds up 16 rows of a column. A second kernel adds up the parts and divides.
// Loads, in elements: dY and y m * n, bias n for each tile of rows (from cache); parts * n sums, magnitude n, and dmagnitude n where it is added to. Stores, of f32: parts * n sums, dmagnitude n.
// 3 * m * n flops. Roundings: y - bias, 16 rows of each tile of a part, 4 threads, the parts; the quotient, and the sum with what was there. Any stride, order and alignment.
#pragma once

#include "../tile/quads.cuh"
#include "outer.cuh"

namespace PK_BUILD {

struct MagnitudeGradientConfig {
  static constexpr int kTile = kLoraOuterRows, kThreads = 256;
  static constexpr int kRowsOfThread = kTile * kTile / kThreads, kQuads = kTile / 4;
  static constexpr int kPitch = kTile + 4;  // of a line: quads of 8 neighbours lie in different banks
  static_assert(kLoraOuterColumns == kTile && kRowsOfThread % 4 == 0, "a thread reads quads of a column");
  using Tile = SharedArray<float, kTile * kPitch>;

  struct Shared {
    Tile dy, y;
    SharedArray<float, kThreads> sums;
  };
};

template <class T>
struct MagnitudeGradientProblem {
  Batched<const T> dy, y, bias;  // bias: data = null for none
  int64_t batches, m, n;
  LoraOuterPlan plan;
  float* sums;  // [groups * parts, n]
};

// A tile of a matrix [rows, columns], its lines those of memory: rows, or else columns.
template <class T>
PK_DEVICE void lay_down_lines(MagnitudeGradientConfig::Tile& tile, const Matrix<const T>& matrix, int64_t row0, int64_t column0, int64_t rows, int64_t columns) {
  using Config = MagnitudeGradientConfig;
  const bool by_rows = matrix.row_major();
  const Quads<const T> lines(by_rows ? matrix : Matrix<const T>{matrix.data, matrix.column_stride, matrix.row_stride}, by_rows ? rows : columns, by_rows ? columns : rows);
  const int64_t line0 = by_rows ? row0 : column0, along0 = by_rows ? column0 : row0;
#pragma unroll
  for (int at = static_cast<int>(thread_index().x); at < Config::kTile * Config::kQuads; at += Config::kThreads) {
    const int line = at / Config::kQuads, along = 4 * (at % Config::kQuads);
    tile.store_vector<4>(static_cast<uint32_t>(line * Config::kPitch + along), convert<float>(lines.load(line0 + line, along0 + along)));
  }
}

// Four rows of a column of it.
PK_DEVICE Vector<float, 4> four_rows(const MagnitudeGradientConfig::Tile& tile, bool by_rows, int row, int column) {
  constexpr int kPitch = MagnitudeGradientConfig::kPitch;
  if (!by_rows) return tile.load_vector<4>(static_cast<uint32_t>(column * kPitch + row));
  Vector<float, 4> values;
#pragma unroll
  for (int i = 0; i < 4; ++i) values.values[i] = tile.load(static_cast<uint32_t>((row + i) * kPitch + column));
  return values;
}

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(MagnitudeGradientConfig::kThreads, 4) lora_magnitude_gradient_simt(MagnitudeGradientProblem<T> problem) {
  using Config = MagnitudeGradientConfig;
  PK_SHARED(Config::Shared, shared);
  const auto thread = static_cast<int>(thread_index().x);
  const int column_of_tile = thread % Config::kTile, first_row = thread / Config::kTile * Config::kRowsOfThread;
  const int64_t column_tiles = (problem.n + Config::kTile - 1) / Config::kTile, row_tiles = (problem.m + Config::kTile - 1) / Config::kTile;
  const int64_t part = block_index().x / column_tiles, column0 = block_index().x % column_tiles * Config::kTile, column = column0 + column_of_tile;
  const OuterPart tiles(problem, part);
  const bool has_bias = problem.bias.first.data != nullptr && column < problem.n;

  float sum = 0.0f;
#pragma unroll 1
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const int64_t batch = tile / row_tiles, row0 = (tile - batch * row_tiles) * Config::kTile;
    const Matrix<const T> dy = problem.dy.batch(batch), y = problem.y.batch(batch);
    lay_down_lines(shared.dy, dy, row0, column0, problem.m, problem.n);
    lay_down_lines(shared.y, y, row0, column0, problem.m, problem.n);
    const float bias = has_bias ? to_float(load_global(problem.bias.batch(batch).at(0, column))) : 0.0f;
    barrier();  // the tiles are there
#pragma unroll
    for (int row = first_row; row < first_row + Config::kRowsOfThread; row += 4) {
      const auto of_dy = four_rows(shared.dy, dy.row_major(), row, column_of_tile), of_y = four_rows(shared.y, y.row_major(), row, column_of_tile);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum = row0 + row + i < problem.m ? fma(of_dy.values[i], of_y.values[i] - bias, sum) : sum;  // an infinite bias is not the padding's
    }
    barrier();  // and have been read
  }

  shared.sums.store(static_cast<uint32_t>(thread), sum);
  barrier();
  if (thread >= Config::kTile || column >= problem.n) return;
#pragma unroll
  for (int i = thread + Config::kTile; i < Config::kThreads; i += Config::kTile) sum += shared.sums.load(static_cast<uint32_t>(i));
  store_global(problem.sums + part * problem.n + column, sum);
}

constexpr int kMagnitudeThreads = 256;

struct MagnitudeQuotients {
  const float* sums;  // [groups * parts, n]
  int64_t n;
  LoraOuterPlan plan;
  Batched<const float> magnitude;
  Batched<float> gradient;
  int32_t accumulate;
  pk_status_record* status;
};

// An element a thread.
PK_KERNEL void PK_LAUNCH_BOUNDS(kMagnitudeThreads) lora_magnitude_gradient_divide(MagnitudeQuotients problem) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * kMagnitudeThreads;
  for (int64_t i = static_cast<int64_t>(block_index().x) * kMagnitudeThreads + thread_index().x; i < problem.plan.groups * problem.n; i += threads) {
    const int64_t group = i / problem.n, column = i - group * problem.n;
    float sum = 0.0f;
#pragma unroll 4  // loads that wait together
    for (int64_t part = group * problem.plan.parts; part < (group + 1) * problem.plan.parts; ++part) sum += load_global(problem.sums + part * problem.n + column);
    const float magnitude = load_global(problem.magnitude.batch(group).at(0, column));
    if (magnitude == 0.0f) report(problem.status, PK_FAILURE_ZERO_MAGNITUDE, i);
    const float quotient = magnitude == 0.0f ? 0.0f : sum / magnitude;
    float* gradient = problem.gradient.batch(group).at(0, column);
    store_global(gradient, (problem.accumulate != 0 ? load_global(gradient) : 0.0f) + quotient);  // a zero has no sign
  }
}

}  // namespace PK_BUILD
