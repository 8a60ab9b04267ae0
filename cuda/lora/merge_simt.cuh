// destination = g .* (source + sum over adapters of scale * B * A), or source ./ g less that sum, rounded once.
//
// source, destination [n, k], A [rank, k], B [n, rank]. A block makes a 16 x 64 tile, a thread 4 elements; A and B come from cache.
// Loads, in elements: source n * k, of each adapter A and B n * k * rank each, the residual n * k when unmerging; a row scale n * k (from cache).
// Stores: destination n * k, the residual n * k when merging. 2 * n * k * (sum of ranks) flops.
// Roundings of an element: rank + 1 for an adapter, one per adapter, one with the source, one with a row scale, then the one to the destination's type.
// The residual holds, modulo 2^16, the original bits less those that unmerge computes from the merged weight alone: adding it back gives the original, whatever was lost.
#pragma once

#include "merge.cuh"

namespace PK_BUILD {

struct MergeSimtConfig {
  static constexpr int kRows = 16;
  static constexpr int kColumns = 64;
  static constexpr int kThreads = 256;
  static_assert(kRows * kColumns % kThreads == 0, "every thread makes as many elements");
};

template <class T>
PK_DEVICE float merge_delta(const MergeProblem<T>& problem, int64_t row, int64_t column) {
  const bool in_f32 = problem.adapters_in_f32 != 0;
  float delta = 0.0f;
  for (int32_t i = 0; i < problem.adapter_count; ++i) {
    const MergeAdapter& adapter = problem.adapters[i];
    float product = 0.0f;
    for (int64_t rank = 0; rank < adapter.rank; ++rank) {
      product = fma(load_factor<T>(adapter.b, in_f32, row, rank), load_factor<T>(adapter.a, in_f32, rank, column), product);
    }
    delta = adapter.rank > 0 ? fma(adapter.scale, product, delta) : delta;
  }
  return delta;
}

// Sixteen-bit types only; other types have no residual.
PK_DEVICE uint16_t bits_of(f16 value) { return value.bits; }
PK_DEVICE uint16_t bits_of(bf16 value) { return value.bits; }
PK_DEVICE uint16_t bits_of(float) { return 0; }
PK_DEVICE void add_bits(f16& value, uint16_t bits) { value.bits = static_cast<uint16_t>(value.bits + bits); }
PK_DEVICE void add_bits(bf16& value, uint16_t bits) { value.bits = static_cast<uint16_t>(value.bits + bits); }
PK_DEVICE void add_bits(float&, uint16_t) {}

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(MergeSimtConfig::kThreads) lora_merge_simt(MergeProblem<T> problem, int64_t tiles) {
  using Config = MergeSimtConfig;
  const int64_t tile_rows = (problem.n + Config::kRows - 1) / Config::kRows;
  const bool row_major = problem.destination.row_major();

  for (int64_t work = block_index().x; work < tiles; work += grid_extent().x) {
    const int64_t row0 = work % tile_rows * Config::kRows;
    const int64_t column0 = work / tile_rows * Config::kColumns;
    for (int i = static_cast<int>(thread_index().x); i < Config::kRows * Config::kColumns; i += Config::kThreads) {
      const int64_t row = row0 + (row_major ? i / Config::kColumns : i % Config::kRows);
      const int64_t column = column0 + (row_major ? i % Config::kColumns : i / Config::kRows);
      if (row >= problem.n || column >= problem.k) continue;

      const float delta = problem.direction * merge_delta(problem, row, column);
      const T original = load_global(problem.source.at(row, column));
      const float g = problem.scale_of_row(row);
      T result = from_float<T>(with_delta(problem.merges(), g, to_float(original), delta));
      if (problem.residual.data != nullptr) {
        if (problem.merges()) {
          const T recovered = from_float<T>(with_delta(false, g, to_float(result), -delta));
          store_global(problem.residual.at(row, column), static_cast<uint16_t>(bits_of(original) - bits_of(recovered)));
        } else {
          add_bits(result, load_global(problem.residual.at(row, column)));
        }
      }
      store_global(problem.destination.at(row, column), result);
    }
  }
}

}  // namespace PK_BUILD
