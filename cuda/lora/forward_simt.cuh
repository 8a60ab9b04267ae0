// y = row scale .* (x * W^T + scale * H * B^T) + bias, with H = x * A^T of lora_shrink_simt.
//
// x [m, k], W [n, k], B [n, rank], H [m, rank], y [m, n]. A block makes a 64 x 64 tile of y: 16 x 16 threads of 4 x 4 elements, W and x in shared memory 16 columns at a time.
// Loads, in elements: x m * k * ceil(n / 64), W n * k * ceil(m / 64), H 16 * m * rank * ceil(n / 64) and B m * n * rank from cache, bias m * n, a base in y m * n, a row scale m * n
// from cache.
// Stores: y m * n. 2 * m * n * (k + rank) flops, all FFMA in f32.
// Roundings of an element of y: k (base) or those of H + rank + 1 (branch), then 3 for the sums and the row scale, then the one to y's type. Any rank, stride and order; the fallback of every chip from 8.0 on.
#pragma once

#include "forward.cuh"

namespace PK_BUILD {

struct ForwardSimtConfig {
  static constexpr int kTile = 64;                 // rows and columns of y a block
  static constexpr int kDepth = 16;                // columns of x and W at a time
  static constexpr int kPerThread = 4;             // rows and columns of y a thread
  static constexpr int kSide = kTile / kPerThread; // threads along each
  static constexpr int kThreads = kSide * kSide;
  static constexpr int kPitch = kTile + 1;         // odd: a column of the tile spreads over all banks
  static_assert(kSide == 16 && kThreads == 256, "a warp covers two rows of threads");

  struct Shared {
    SharedArray<float, kDepth * kPitch> x, w;
  };
};

// base += x * W^T for a tile from row0 of x on, with the tile of W that load_tile(k0) leaves in shared.w for columns k0 ... .
template <class T, class LoadTile>
PK_DEVICE void accumulate_base(float (&base)[4][4], ForwardSimtConfig::Shared& shared, const Matrix<const T>& x, int64_t row0, int64_t m, int64_t k_extent, int thread_row, int thread_column,
                               LoadTile load_tile) {
  using Config = ForwardSimtConfig;
  for (int64_t k0 = 0; k0 < k_extent; k0 += Config::kDepth) {
    load_transposed<Config::kTile, Config::kDepth, Config::kPitch, Config::kThreads>(shared.x, x, row0, k0, m, k_extent);
    load_tile(k0);
    barrier();
#pragma unroll
    for (int k = 0; k < Config::kDepth; ++k) {
      float x_values[4], w_values[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x_values[i] = shared.x.load(k * Config::kPitch + thread_row + i * Config::kSide);
        w_values[i] = shared.w.load(k * Config::kPitch + thread_column + i * Config::kSide);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) base[i][j] = fma(x_values[i], w_values[j], base[i][j]);
      }
    }
    barrier();
  }
}

// A tile of a W in memory, its columns scaled.
template <class T, class Scale = NoColumnScale>
PK_DEVICE void load_w(ForwardSimtConfig::Shared& shared, const Matrix<const T>& w, int64_t column0, int64_t n, int64_t k0, int64_t k_extent, Scale scale = {}) {
  using Config = ForwardSimtConfig;
  load_transposed<Config::kTile, Config::kDepth, Config::kPitch, Config::kThreads>(shared.w, w, column0, k0, n, k_extent, scale);
}

// Tiles of y, a block's one after the other. load_tile(tile, k0) loads the tile of W.
template <class T, class LoadTile>
PK_DEVICE void make_simt_tiles(ForwardSimtConfig::Shared& shared, const ForwardProblem<T>& problem, int64_t tiles, LoadTile load_tile) {
  using Config = ForwardSimtConfig;
  const int thread = static_cast<int>(thread_index().x);
  for (int64_t work = block_index().x; work < tiles; work += grid_extent().x) {
    const ForwardTile tile = forward_tile(problem, work, Config::kTile, Config::kTile);
    const ForwardTarget<T>& target = problem.targets[tile.target];
    const int64_t batch = tile.batch, row0 = tile.row0, column0 = tile.column0;
    const Matrix<T> y = target.y.batch(batch);
    // Neighbouring threads write neighbouring elements in either order of y.
    const int thread_row = y.row_major() ? thread / Config::kSide : thread % Config::kSide;
    const int thread_column = y.row_major() ? thread % Config::kSide : thread / Config::kSide;

    float base[4][4] = {};
    if (target.base == PK_LORA_BASE_DENSE || target.base == PK_LORA_BASE_QUANTIZED) {
      accumulate_base(base, shared, problem.x.batch(batch), row0, problem.m, problem.k, thread_row, thread_column, [&](int64_t k0) { load_tile(tile, k0); });
    }

#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = row0 + thread_row + i * Config::kSide;
      if (row >= problem.m) continue;
      uint32_t failure = 0;  // reported by the shrink kernel
      const int32_t index = adapter_index(target.adapters, problem.rows, batch * problem.m + row, &failure);
      float branch[4] = {}, scale = 0.0f;
      if (index != -1) {
        const Adapter adapter = adapter_at(target.adapters, index, batch);
        scale = adapter.scale;
        for (int64_t rank = 0; rank < adapter.rank; ++rank) {
          const float h = load_global(target.h + (batch * problem.m + row) * target.adapters.max_rank + rank);
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int64_t column = column0 + thread_column + j * Config::kSide;
            if (column < target.n) branch[j] = fma(h, load_factor<T>(adapter.b, target.adapters.in_f32 != 0, column, rank), branch[j]);
          }
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t column = column0 + thread_column + j * Config::kSide;
        if (column >= target.n) continue;
        float value = target.base == PK_LORA_BASE_IN_Y ? to_float(load_global(y.at(row, column))) : base[i][j];
        if (index != -1) value = fma(scale, branch[j], value);
        if (target.row_scale.first.data != nullptr) value *= load_global(target.row_scale.batch(batch).at(0, column));
        if (target.bias.first.data != nullptr) value += to_float(load_global(target.bias.batch(batch).at(0, column)));
        store_global(y.at(row, column), from_float<T>(value));
      }
    }
  }
}

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(ForwardSimtConfig::kThreads, 2) lora_forward_simt(ForwardProblem<T> problem, int64_t tiles) {
  PK_SHARED(ForwardSimtConfig::Shared, shared);
  make_simt_tiles(shared, problem, tiles, [&](const ForwardTile& tile, int64_t k0) {
    const ForwardTarget<T>& target = problem.targets[tile.target];
    load_w(shared, target.w.batch(tile.batch), tile.column0, target.n, k0, problem.k);
  });
}

}  // namespace PK_BUILD
