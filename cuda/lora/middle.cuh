// H' = core * (gate .* (scale .* H)): what lies between A and B, for every row of every target.
//
// H [m, rank] in planes or as it was saved, scale [rank], gate [m, rank], core [after, rank], H' [m, after] in f32; without a core `after` is rank. Where a gate is 0 so is its product, whatever
// H and the scale are: numbers that are none go no further in a rank that is not chosen.
// A block makes a 64 x 64 tile of H', 16 x 16 threads of 4 x 4 elements; with a core it goes through the ranks 16 at a time, laid down in shared memory.
// Loads, in elements, each ceil(after / 64) times with a core: H planes * m * rank, a gate m * rank, a scale m * rank (from cache); core after * rank * ceil(m / 64). With a list of ranks also
// 4 bytes for each element of H (from cache). Stores: H' m * after. 2 * m * rank * after flops with a core.
// Roundings of an element of H': planes, the scale, the gate; with a core then rank. Any rank, stride and order; the same bits for a row among any others.
#pragma once

#include "../ptx/overlap.cuh"
#include "forward.cuh"
#include "intermediate.cuh"

namespace PK_BUILD {

struct MiddleConfig {
  static constexpr int kTile = 64;                  // rows and columns of a block's tile
  static constexpr int kDepth = 16;                 // of the summed extent at a time
  static constexpr int kPerThread = 4;              // rows and columns a thread
  static constexpr int kSide = kTile / kPerThread;  // threads along each
  static constexpr int kThreads = kSide * kSide;
  static constexpr int kPitch = kTile + 2;          // 16 of the summed extent at two rows lie in different banks
  static_assert(kThreads == 256 && kDepth == 16, "a warp has two rows of either");

  struct Shared {
    SharedArray<float, kDepth * kPitch> left, right;
  };
  using Sums = float[kPerThread][kPerThread];
};

// Of one target.
struct Middle {
  Intermediate h;        // data = null: nobody asks for it
  int64_t rank, after;   // columns of H and of H'
  Factor scale, core;    // data = null: no scale
  int64_t scale_batch_bytes, core_batch_bytes;
  int32_t has_core;
  int32_t in_f32;        // whether they are where activations are not
  Batched<const float> gate;  // data = null: none
  const int32_t* ranks;  // of the scale and the gate that H's columns are, -1: of none; or null, all in their order
};

PK_DEVICE Factor of_batch(const Factor& factor, int64_t batch_bytes, int64_t batch) {
  return {static_cast<const char*>(factor.data) + batch * batch_bytes, factor.row_stride, factor.column_stride};
}

// What meets at an element of H: gate * (scale * h), and nothing where the gate is 0.
struct MiddleElement {
  int64_t rank;  // of the scale and the gate, -1: none
  float h, scale, gate;

  PK_DEVICE float times_gate(float value) const { return gate == 0.0f ? 0.0f : gate * value; }
};

template <class T>
PK_DEVICE MiddleElement middle_element(const Middle& middle, int64_t batch, int64_t row, int64_t column) {
  const int64_t rank = middle.ranks != nullptr ? load_global(middle.ranks + column) : column;
  if (rank < 0) return {-1, 0.0f, 0.0f, 0.0f};
  MiddleElement element{rank, 0.0f, 1.0f, 1.0f};
  if (middle.h.data != nullptr) element.h = load_intermediate<T>(middle.h, batch, row, column);
  if (middle.scale.data != nullptr) element.scale = load_factor<T>(of_batch(middle.scale, middle.scale_batch_bytes, batch), middle.in_f32 != 0, 0, rank);
  if (middle.gate.first.data != nullptr) element.gate = load_global(middle.gate.batch(batch).at(row, rank));
  return element;
}

template <class T>
PK_DEVICE float before_core(const Middle& middle, int64_t batch, int64_t row, int64_t column) {
  const MiddleElement element = middle_element<T>(middle, batch, row, column);
  return element.times_gate(element.scale * element.h);
}

template <class T>
PK_DEVICE float core_element(const Middle& middle, int64_t batch, int64_t row, int64_t column) {
  return load_factor<T>(of_batch(middle.core, middle.core_batch_bytes, batch), middle.in_f32 != 0, row, column);
}

// sums[i][j] += the sum over d < depth of left(row, d) * right(column, d), for a thread's rows and columns of a tile. Neighbouring threads lay down neighbours along the summed extent, or across.
template <bool ALONG_DEPTH, class Left, class Right>
PK_DEVICE void add_products(MiddleConfig::Sums& sums, MiddleConfig::Shared& shared, int64_t depth, Left left, Right right) {
  using Config = MiddleConfig;
  const int thread = static_cast<int>(thread_index().x);
  for (int64_t depth0 = 0; depth0 < depth; depth0 += Config::kDepth) {
#pragma unroll 1
    for (int at = thread; at < Config::kDepth * Config::kTile; at += Config::kThreads) {
      const int d = ALONG_DEPTH ? at % Config::kDepth : at / Config::kTile, i = ALONG_DEPTH ? at / Config::kDepth : at % Config::kTile;
      const bool inside = depth0 + d < depth;
      shared.left.store(d * Config::kPitch + i, inside ? left(i, depth0 + d) : 0.0f);
      shared.right.store(d * Config::kPitch + i, inside ? right(i, depth0 + d) : 0.0f);
    }
    barrier();  // the tiles are there
#pragma unroll
    for (int d = 0; d < Config::kDepth; ++d) {
      float lefts[Config::kPerThread], rights[Config::kPerThread];
#pragma unroll
      for (int i = 0; i < Config::kPerThread; ++i) {
        lefts[i] = shared.left.load(d * Config::kPitch + thread / Config::kSide + i * Config::kSide);
        rights[i] = shared.right.load(d * Config::kPitch + thread % Config::kSide + i * Config::kSide);
      }
#pragma unroll
      for (int i = 0; i < Config::kPerThread; ++i) {
#pragma unroll
        for (int j = 0; j < Config::kPerThread; ++j) sums[i][j] = fma(lefts[i], rights[j], sums[i][j]);
      }
    }
    barrier();  // and have been read
  }
}

// Calls take(row of the tile, column of the tile, which of the thread's columns that is, sum) for a thread's.
template <class Take>
PK_DEVICE void each_sum_of_tile(const MiddleConfig::Sums& sums, Take take) {
  const int thread = static_cast<int>(thread_index().x);
#pragma unroll
  for (int i = 0; i < MiddleConfig::kPerThread; ++i) {
#pragma unroll
    for (int j = 0; j < MiddleConfig::kPerThread; ++j) take(thread / MiddleConfig::kSide + i * MiddleConfig::kSide, thread % MiddleConfig::kSide + j * MiddleConfig::kSide, j, sums[i][j]);
  }
}

struct MiddleProblem {
  static constexpr int kMaxTargets = 8;

  struct Target {
    Middle middle;
    float* h;  // H'
  };
  int64_t batches, m;
  int32_t target_count;
  Target targets[kMaxTargets];

  PK_HOST_DEVICE int64_t row_tiles() const { return (m + MiddleConfig::kTile - 1) / MiddleConfig::kTile; }
  PK_HOST_DEVICE int64_t column_tiles(int32_t target) const { return (targets[target].middle.after + MiddleConfig::kTile - 1) / MiddleConfig::kTile; }
};

template <class T>
PK_KERNEL void PK_LAUNCH_BOUNDS(MiddleConfig::kThreads, 2) lora_middle(MiddleProblem problem, int64_t tiles) {
  using Config = MiddleConfig;
  PK_SHARED(Config::Shared, shared);
  let_next_launch_start();
  wait_for_previous_launch();  // H is there

  for (int64_t work = block_index().x; work < tiles; work += grid_extent().x) {
    // Tiles in the order target, batch, rows, columns.
    int64_t rest = work;
    int32_t number = 0;
    for (int64_t of_target; rest >= (of_target = problem.batches * problem.row_tiles() * problem.column_tiles(number)); ++number) rest -= of_target;
    const MiddleProblem::Target& target = problem.targets[number];
    const Middle& middle = target.middle;
    const int64_t column_tiles = problem.column_tiles(number), column0 = rest % column_tiles * Config::kTile;
    const int64_t row0 = rest / column_tiles % problem.row_tiles() * Config::kTile, batch = rest / column_tiles / problem.row_tiles();

    Config::Sums sums = {};
    if (middle.has_core != 0) {
      add_products<true>(
          sums, shared, middle.rank, [&](int row, int64_t rank) { return row0 + row < problem.m ? before_core<T>(middle, batch, row0 + row, rank) : 0.0f; },
          [&](int column, int64_t rank) { return column0 + column < middle.after ? core_element<T>(middle, batch, column0 + column, rank) : 0.0f; });
    }
    each_sum_of_tile(sums, [&](int row, int column, int, float sum) {
      if (row0 + row >= problem.m || column0 + column >= middle.after) return;
      const float value = middle.has_core != 0 ? sum : before_core<T>(middle, batch, row0 + row, column0 + column);
      store_global(target.h + (batch * problem.m + row0 + row) * middle.after + column0 + column, value);
    });
  }
}

}  // namespace PK_BUILD
