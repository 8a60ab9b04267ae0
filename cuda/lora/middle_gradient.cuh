// The gradients of H, of the scale and of the gate, from dH' = dY * (r .* B), r the row scale or 1; and that of the core. With f = dH' * core, or dH' itself without one:
//
//   dH = gate .* (scale .* f)          d gate = s * f .* (scale .* H)          d scale = s * the sum over rows of f .* (gate .* H)          d core = s * dH'^T * (gate .* (scale .* H))
//
// dH' [m, after] in f32, dH [m, rank] in f32, the others as in middle.cuh; s is the adapter's scale and the factor of dropout. A row counts in the sums as its sample weighs. lora_middle_gradient: a
// block goes through a part of the rows, 64 at a time, for 64 ranks, as lora_middle does; the sums of the scale stay in registers. lora_core_gradient: a block goes through a part of the
// rows, 16 at a time, for 64 x 64 elements of the core. Sums over rows are parts of them, a pure function of the shape, which lora_add_parts adds up in their order.
// Loads, in elements. lora_middle_gradient: dH' m * after * ceil(rank / 64), m * rank without a core; core after * rank * ceil(m / 64); H planes * m * rank for the scale or the gate; a scale and
// a gate m * rank (from cache); a gradient of the gate that is added to. lora_core_gradient: dH' m * after * ceil(rank / 64), H planes * m * rank, a scale and a gate m * rank, each
// ceil(after / 64) times. Both: a weight for each of these elements of dH' (from cache). Stores: dH m * rank, d gate m * rank, parts * rank; parts * after * rank.
// 2 * m * rank * after flops each, with a core. Roundings: dH those of dH', after with a core, scale, gate; d gate three; the sums those of their elements, the rows of a part and 16, the parts.
#pragma once

#include "middle.cuh"
#include "outer.cuh"

namespace PK_BUILD {

struct MiddleGradientProblem {
  Middle middle;
  int64_t batches, m;
  LoraOuterPlan plan;        // parts of the rows
  const float* after;        // dH'
  const float* row_weights;  // or null
  float* dh;                 // dH, or null
  int64_t dh_stride;         // between its rows
  Batched<float> dgate;      // data = null: not asked for
  int32_t gate_accumulates;
  float scale;               // s, of the gate's gradient
  float* scale_sums;         // [groups * parts, rank], or null
  float* core_sums;          // [groups * parts, after, rank]; lora_core_gradient's

  PK_DEVICE float weight(int64_t row_of_all) const { return row_weights != nullptr ? load_global(row_weights + row_of_all) : 1.0f; }
  PK_DEVICE float after_element(int64_t row_of_all, int64_t column) const { return load_global(after + row_of_all * middle.after + column); }
};

struct MiddleGradientConfig : MiddleConfig {
  struct Shared {
    MiddleConfig::Shared products;
    SharedArray<float, kSide * kTile> scale;
  };
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(MiddleConfig::kThreads, 2) lora_middle_gradient(MiddleGradientProblem problem) {
  using Config = MiddleGradientConfig;
  PK_SHARED(Config::Shared, shared);
  const Middle& middle = problem.middle;
  const int thread = static_cast<int>(thread_index().x);
  const int64_t row_tiles = (problem.m + Config::kTile - 1) / Config::kTile, column_tiles = (middle.rank + Config::kTile - 1) / Config::kTile;

  const int64_t part = block_index().x / column_tiles, column0 = block_index().x % column_tiles * Config::kTile;
  const OuterPart tiles(problem, part);
  float scale_sums[Config::kPerThread] = {};
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const int64_t batch = tile / row_tiles, row0 = (tile - batch * row_tiles) * Config::kTile, row_of_all = batch * problem.m + row0;
    Config::Sums sums = {};
    if (middle.has_core != 0) {
      add_products<true>(
          sums, shared.products, middle.after, [&](int row, int64_t i) { return row0 + row < problem.m ? problem.after_element(row_of_all + row, i) : 0.0f; },
          [&](int column, int64_t i) { return column0 + column < middle.rank ? core_element<T>(middle, batch, i, column0 + column) : 0.0f; });
    }
    each_sum_of_tile(sums, [&](int row, int of_tile, int j, float sum) {
      const int64_t column = column0 + of_tile;
      if (row0 + row >= problem.m || column >= middle.rank) return;
      const MiddleElement element = middle_element<T>(middle, batch, row0 + row, column);
      const float f = middle.has_core != 0 ? sum : problem.after_element(row_of_all + row, column);
      if (problem.dh != nullptr) store_global(problem.dh + (row_of_all + row) * problem.dh_stride + column, element.times_gate(element.scale * f));
      if (problem.scale_sums != nullptr) scale_sums[j] += problem.weight(row_of_all + row) * (f * element.times_gate(element.h));
      if (problem.dgate.first.data == nullptr || element.rank < 0) return;
      float* to = problem.dgate.batch(batch).at(row0 + row, element.rank);
      store_global(to, fma(problem.scale, f * (element.scale * element.h), problem.gate_accumulates != 0 ? load_global(to) : 0.0f));
    });
  }
  if (problem.scale_sums == nullptr) return;
#pragma unroll
  for (int j = 0; j < Config::kPerThread; ++j) shared.scale.store(thread / Config::kSide * Config::kTile + thread % Config::kSide + j * Config::kSide, scale_sums[j]);
  barrier();  // all rows of threads have theirs
  if (thread >= Config::kTile || column0 + thread >= middle.rank) return;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < Config::kSide; ++i) sum += shared.scale.load(i * Config::kTile + thread);
  store_global(problem.scale_sums + part * middle.rank + column0 + thread, sum);
}

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(MiddleConfig::kThreads, 2) lora_core_gradient(MiddleGradientProblem problem) {
  using Config = MiddleConfig;
  PK_SHARED(Config::Shared, shared);
  const Middle& middle = problem.middle;
  const int64_t row_tiles = (problem.m + Config::kTile - 1) / Config::kTile;
  const int64_t after_tiles = (middle.after + Config::kTile - 1) / Config::kTile, rank_tiles = (middle.rank + Config::kTile - 1) / Config::kTile;

  const int64_t rank0 = block_index().x % rank_tiles * Config::kTile, after0 = block_index().x / rank_tiles % after_tiles * Config::kTile;
  const int64_t part = block_index().x / rank_tiles / after_tiles;
  const OuterPart tiles(problem, part);
  Config::Sums sums = {};
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const int64_t batch = tile / row_tiles, row0 = (tile - batch * row_tiles) * Config::kTile, row_of_all = batch * problem.m + row0;
    add_products<false>(
        sums, shared, minimum<int64_t>(problem.m - row0, Config::kTile),
        [&](int i, int64_t row) { return after0 + i < middle.after ? problem.weight(row_of_all + row) * problem.after_element(row_of_all + row, after0 + i) : 0.0f; },
        [&](int i, int64_t row) { return rank0 + i < middle.rank ? before_core<T>(middle, batch, row0 + row, rank0 + i) : 0.0f; });
  }
  each_sum_of_tile(sums, [&](int i, int j, int, float sum) {
    if (after0 + i < middle.after && rank0 + j < middle.rank) store_global(problem.core_sums + (part * middle.after + after0 + i) * middle.rank + rank0 + j, sum);
  });
}

}  // namespace PK_BUILD
