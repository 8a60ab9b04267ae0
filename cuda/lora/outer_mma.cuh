// One pass over left with tensor cores: sums = left^T * h, dh = left * (scale .* b), and the sums of left's columns. With left = dY it makes the parts of dB, dH and the bias' gradient, with left = x
// those of dA.
//
// left [m, columns], h [m, rank], b [columns, rank]. A block goes through a part of the rows, 64 at a time, for 128 or 256 columns and 16 or 64 ranks. It lays each 64 x 64 of left down twice, by rows
// for left * b and by columns for left^T * h, so that memory is read once for both products. Sums over its rows stay in registers; those over columns are added to in dh, by the thread that wrote
// them: planes of dh are as many as its size allows, and a block with several such column tiles goes through them one after the other.
// Loads, in elements: left m * columns * ceil(rank / tile ranks), h m * rank * ceil(columns / tile columns), b columns * rank * parts, scale columns * tile ranks * parts (from cache), dh m * rank for
// each column tile but the first of a plane (in L2). Stores, of f32: sums parts * columns * rank, bias sums parts * columns, dh m * rank for each column tile. 4 * m * columns * rank flops.
// Everything is multiplied as f32 in two parts of tf32, f32 factors and intermediates are not rounded to 16 bits. Roundings of a sum: 27 / 8 of the rows of its part; of dh: b's
// scale, 27 / 8 of the columns and one for each 64 of them. Any rank, stride, order and alignment.
#pragma once

#include "../tile/quads.cuh"
#include "outer.cuh"

namespace PK_BUILD {

// 16 rows of left as lines of 64 columns, read as an operand whose rows are left's columns. Chunks trade places so that different banks have those of 8 rows at one chunk and of 2 rows at 4, which
// are written at once in either order of left, and of 4 rows at 2, which a fragment takes.
struct ByColumnsLayout {
  static constexpr bool kTransposed = true;
  static constexpr int kChunk = 4, kChunks = kLoraOuterColumns / kChunk;

  PK_DEVICE static uint32_t at(int line, int chunk) { return static_cast<uint32_t>(4 * (line * kChunks + (chunk ^ (line % 2 * 4 + line / 2 % 2 * 2 + line / 4 % 2)))); }
  PK_DEVICE static uint32_t element(int depth, int row) { return at(depth, row / kChunk) + static_cast<uint32_t>(row % kChunk); }
};

template <int RANKS>
struct OuterMmaConfig {
  static constexpr int kRanks = RANKS, kColumnTiles = lora_outer_tiles(RANKS);
  static constexpr int kThreads = 128, kDepth = 16;     // elements of f32 along the summed extent of an operand's tile
  static constexpr int kTiles = kLoraOuterRows / kDepth;  // that follow each other in depth
  static constexpr int kFragments = RANKS / 8;
  static_assert(kLoraOuterRows == kLoraOuterColumns && kLoraOuterRows == kThreads / 32 * 16, "a warp has 16 rows of either product");
  using ByRows = OperandLayout<float, kLoraOuterRows, false>;
  using ByColumns = ByColumnsLayout;
  using B = OperandLayout<float, RANKS, false>;
  using H = OperandLayout<float, RANKS, true>;
  using Sums = float[1][kFragments][4];

  struct Shared {
    OperandTile<kLoraOuterRows> by_rows[kTiles], by_columns[kTiles];
    OperandTile<RANKS> b[kColumnTiles][kTiles], h[kTiles];
  };
};

// 64 x 64 of left, as f32, in both orders.
template <class Config, class T>
PK_DEVICE void lay_down(typename Config::Shared& shared, const OuterProblem<T>& problem, int64_t batch, int64_t row0, int64_t column0) {
  using ByRows = typename Config::ByRows;
  using ByColumns = typename Config::ByColumns;
  const auto left = product_operand<float>(problem.left.batch(batch), problem.m);
  gather_operand<ByRows, Config::kTiles, Config::kThreads, float>(left, row0, column0, problem.columns, [&](int tile, int row, int chunk, auto values) {
    problem.dropout.drop(values, batch * problem.m + row0 + row, column0 + tile * ByRows::kDepth + chunk * ByRows::kChunk);
    const auto words = words_of(values);
    if (problem.dh != nullptr) shared.by_rows[tile].template store_vector<4>(ByRows::at(row, chunk), words);
    shared.by_columns[row / Config::kDepth].template store_vector<4>(ByColumns::at(row % Config::kDepth, tile * ByRows::kChunks + chunk), words);
  });
}

// Four ranks of a row of h.
template <class T>
PK_DEVICE Vector<float, 4> h_quad(const Intermediate& h, int64_t m, int64_t ranks, int64_t batch, int64_t row, int64_t rank) {
  if (!std::is_same<T, float>::value && h.in_f32 == 0) return convert<float>(Quads<const T>(h.matrix<T>(batch, 0), m, ranks).load(row, rank));
  auto values = Quads<const float>(h.matrix<float>(batch, 0), m, ranks).load(row, rank);
  for (int32_t plane = 1; plane < h.planes; ++plane) values = values + Quads<const float>(h.matrix<float>(batch, plane), m, ranks).load(row, rank);
  return values;
}

// 64 rows of h.
template <class Config, class T>
PK_DEVICE void lay_down_h(typename Config::Shared& shared, const OuterProblem<T>& problem, int64_t batch, int64_t row0, int64_t rank0) {
  constexpr int kQuads = Config::kRanks / 4;
#pragma unroll 1
  for (int at = static_cast<int>(thread_index().x); at < kLoraOuterRows * kQuads; at += Config::kThreads) {
    const int row = at / kQuads, quad = at % kQuads;
    const auto values = h_quad<T>(problem.h, problem.m, problem.rank, batch, row0 + row, rank0 + 4 * quad);
    shared.h[row / Config::kDepth].template store_vector<4>(Config::H::at(row % Config::kDepth, quad), words_of(values));
  }
}

// 64 rows of b from `column0` on, scaled and transposed.
template <class Config, class P, class T>
PK_DEVICE void lay_down_b(OperandTile<Config::kRanks> (&tiles)[Config::kTiles], const OuterProblem<T>& problem, int64_t batch, int64_t column0, int64_t rank0) {
  const auto* data = reinterpret_cast<const P*>(static_cast<const char*>(problem.b.data) + batch * problem.b_batch_bytes);
  const auto b = product_operand<float>(Matrix<const P>{data, problem.b.column_stride, problem.b.row_stride}, problem.rank);
  const Quads<const float> scales(problem.b_scale.batch(batch), 1, problem.columns);
  const bool scaled = problem.b_scale.first.data != nullptr;
  gather_operand<typename Config::B, Config::kTiles, Config::kThreads, float>(b, rank0, column0, problem.columns, [&](int tile, int row, int chunk, auto values) {
    if (scaled) values = values * scales.load(0, column0 + tile * Config::B::kDepth + chunk * Config::B::kChunk);
    tiles[tile].template store_vector<4>(Config::B::at(row, chunk), words_of(values));
  });
}

// sums += left * right^T, 16 rows of left of each warp.
template <class Config, class Left, class Right, class LeftTile>
PK_DEVICE void multiply_tiles(typename Config::Sums& sums, const LeftTile (&left)[Config::kTiles], const OperandTile<Config::kRanks> (&right)[Config::kTiles]) {
#pragma unroll 1
  for (int step = 0; step < 2 * Config::kTiles; ++step) {
    uint32_t a[1][4], b[Config::kFragments][2];
    load_left<Left>(a[0], left[step / 2], static_cast<int>(warp()) * 16, step % 2);
#pragma unroll
    for (int j = 0; j < Config::kFragments; j += 2) {
      uint32_t pair[2][2];
      load_right<Right>(pair, right[step / 2], 8 * j, step % 2);
      b[j][0] = pair[0][0], b[j][1] = pair[0][1], b[j + 1][0] = pair[1][0], b[j + 1][1] = pair[1][1];
    }
    multiply<ThreeTf32>(sums, a, b);
  }
}

// sums += the sums of left's columns, in all columns of a fragment.
template <class Config>
PK_DEVICE void add_columns(float (&sums)[4], const typename Config::Shared& shared) {
  const uint32_t one = bits_of_float(1.0f);
#pragma unroll 1
  for (int step = 0; step < 2 * Config::kTiles; ++step) {
    uint32_t a[1][4];
    Tf32Parts parts[4];
    load_left<typename Config::ByColumns>(a[0], shared.by_columns[step / 2], static_cast<int>(warp()) * 16, step % 2);
    split(parts, a[0]);
    const uint32_t lower[4] = {parts[0].lower, parts[1].lower, parts[2].lower, parts[3].lower}, upper[4] = {parts[0].upper, parts[1].upper, parts[2].upper, parts[3].upper};
    mma_m16n8k8_tf32(sums, lower, one, one);
    mma_m16n8k8_tf32(sums, upper, one, one);
  }
}

// Calls take(row of 64, rank of the tile, sum) for what a lane has.
template <class Config, class Take>
PK_DEVICE void each_sum(const typename Config::Sums& sums, Take take) {
#pragma unroll
  for (int j = 0; j < Config::kFragments; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) take(static_cast<int>(warp()) * 16 + static_cast<int>(lane()) / 4 + e / 2 * 8, 8 * j + static_cast<int>(lane()) % 4 * 2 + e % 2, sums[0][j][e]);
  }
}

template <class Config, class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(Config::kThreads, Config::kRanks == 16 ? 3 : 2) lora_outer_mma(OuterProblem<T> problem) {
  PK_SHARED(typename Config::Shared, shared);
  constexpr int kSuper = Config::kColumnTiles * kLoraOuterColumns;
  const auto rank_tiles = static_cast<uint32_t>(problem.rank > 0 ? (problem.rank + Config::kRanks - 1) / Config::kRanks : 1);
  const auto column_groups = static_cast<uint32_t>(problem.plan.column_groups);
  const int64_t rank0 = int64_t{block_index().x % rank_tiles} * Config::kRanks, column_group = block_index().x / rank_tiles % column_groups, part = block_index().x / rank_tiles / column_groups;
  const int64_t supers = (problem.columns + kSuper - 1) / kSuper, row_tiles = (problem.m + kLoraOuterRows - 1) / kLoraOuterRows, rows = problem.batches * problem.m;
  const int64_t super_begin = supers * column_group / column_groups, super_end = supers * (column_group + 1) / column_groups;
  const OuterPart tiles(problem, part);
  const bool makes_sums = problem.makes_sums != 0, makes_bias = problem.bias_sums != nullptr && rank0 == 0;

  for (int64_t super = super_begin; super < super_end; ++super) {
    typename Config::Sums sums[Config::kColumnTiles] = {};
    float bias[Config::kColumnTiles][4] = {};
    if (problem.dh != nullptr && tiles.begin < tiles.end) {
#pragma unroll 1
      for (int i = 0; i < Config::kColumnTiles; ++i) {
        const int64_t column0 = super * kSuper + i * kLoraOuterColumns;
        if (problem.b_in_f32 != 0) lay_down_b<Config, float>(shared.b[i], problem, tiles.begin / row_tiles, column0, rank0);
        else lay_down_b<Config, T>(shared.b[i], problem, tiles.begin / row_tiles, column0, rank0);
      }
    }
    for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      const int64_t batch = tile / row_tiles, row0 = (tile - batch * row_tiles) * kLoraOuterRows;
      typename Config::Sums dh = {};
      if (makes_sums) lay_down_h<Config>(shared, problem, batch, row0, rank0);
#pragma unroll
      for (int i = 0; i < Config::kColumnTiles; ++i) {
        const int64_t column0 = super * kSuper + i * kLoraOuterColumns;
        if (column0 >= problem.columns) break;
        lay_down<Config>(shared, problem, batch, row0, column0);
        barrier();  // the tiles are there
        if (problem.dh != nullptr) multiply_tiles<Config, typename Config::ByRows, typename Config::B>(dh, shared.by_rows, shared.b[i]);
        if (makes_sums) multiply_tiles<Config, typename Config::ByColumns, typename Config::H>(sums[i], shared.by_columns, shared.h);
        if (makes_bias) add_columns<Config>(bias[i], shared);
        barrier();  // and have been read
      }
      if (problem.dh == nullptr) continue;
      each_sum<Config>(dh, [&](int row, int rank, float sum) {
        if (row0 + row >= problem.m || rank0 + rank >= problem.rank) return;
        float* to = problem.dh + (column_group * rows + batch * problem.m + row0 + row) * problem.rank + rank0 + rank;
        store_global(to, super > super_begin ? load_global(to) + sum : sum);
      });
    }
#pragma unroll
    for (int i = 0; i < Config::kColumnTiles; ++i) {
      const int64_t column0 = super * kSuper + i * kLoraOuterColumns;
      if (makes_sums) {
        each_sum<Config>(sums[i], [&](int column, int rank, float sum) {
          if (column0 + column < problem.columns && rank0 + rank < problem.rank) store_global(problem.sums + (part * problem.columns + column0 + column) * problem.rank + rank0 + rank, sum);
        });
      }
      if (makes_bias && lane() % 4 == 0) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int64_t column = column0 + static_cast<int>(warp()) * 16 + static_cast<int>(lane()) / 4 + 8 * half;
          if (column < problem.columns) store_global(problem.bias_sums + part * problem.columns + column, bias[i][2 * half]);
        }
      }
    }
  }
}

}  // namespace PK_BUILD
