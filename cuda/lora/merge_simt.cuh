// destination = source + direction * sum over adapters of scale * B * A, rounded once.
//
// source, destination [n, k], A [rank, k], B [n, rank]. A block makes a 16 x 64 tile, a thread 4 elements; A and B come from cache.
// Loads, in elements: source n * k, of each adapter A and B n * k * rank each, the residual n * k when unmerging.
// Stores: destination n * k, the residual n * k when merging. 2 * n * k * (sum of ranks) flops.
// Roundings of an element: rank + 1 for an adapter, one per adapter, one with the source, then the one to the destination's type.
// The residual holds, modulo 2^16, the original bits less those that unmerge computes from the merged weight alone: adding it back gives the original, whatever was lost.
#pragma once

#include "../tile/matrix.cuh"

namespace PK_BUILD {

template <class P>
struct MergeAdapter {
  Matrix<const P> a, b;
  int32_t rank;
  float scale;
};

template <class T, class P>
struct MergeProblem {
  int64_t n, k;
  float direction;  // +1 merges, -1 unmerges
  Matrix<const T> source;
  Matrix<T> destination;
  Matrix<uint16_t> residual;  // data = null: none
  int32_t adapter_count;
  MergeAdapter<P> adapters[PK_LORA_MERGE_ADAPTERS];
};

struct MergeSimtConfig {
  static constexpr int kRows = 16;
  static constexpr int kColumns = 64;
  static constexpr int kThreads = 256;
  static_assert(kRows * kColumns % kThreads == 0, "every thread makes as many elements");
};

template <class P>
PK_DEVICE float merge_delta(const MergeAdapter<P>* adapters, int32_t count, int64_t row, int64_t column) {
  float delta = 0.0f;
  for (int32_t i = 0; i < count; ++i) {
    float product = 0.0f;
    for (int64_t rank = 0; rank < adapters[i].rank; ++rank) {
      product = fma(to_float(load_global(adapters[i].b.at(row, rank))), to_float(load_global(adapters[i].a.at(rank, column))), product);
    }
    delta = adapters[i].rank > 0 ? fma(adapters[i].scale, product, delta) : delta;
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

template <class T, class P>
PK_KERNEL void PK_LAUNCH_BOUNDS(MergeSimtConfig::kThreads) lora_merge_simt(MergeProblem<T, P> problem, int64_t tiles) {
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

      const float delta = problem.direction * merge_delta(problem.adapters, problem.adapter_count, row, column);
      const T original = load_global(problem.source.at(row, column));
      T result = from_float<T>(to_float(original) + delta);
      if (problem.residual.data != nullptr) {
        if (problem.direction > 0) {
          const T recovered = from_float<T>(to_float(result) - delta);
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
