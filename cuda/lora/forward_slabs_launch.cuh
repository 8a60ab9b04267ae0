// A forward call with a quantised W as launches: of the kernel that reads its codes, or, where rows are many, of those for a W in memory, of which the workspace holds a part at a time.
#pragma once

#include <algorithm>

#include "forward_launch.h"
#include "forward_quantized.cuh"
#include "quantized_launch.h"

namespace PK_BUILD {
namespace {

template <class T>
int64_t forward_tiles(const ForwardProblem<T>& problem, const LoraTile& tile) {
  int64_t tiles = 0;
  for (int32_t i = 0; i < problem.target_count; ++i) tiles += problem.batches * tiles_of(problem.m, tile.rows) * tiles_of(problem.targets[i].count, tile.columns);
  return tiles;
}

bool has_quantized(const ForwardLaunch& call) {
  return std::any_of(call.targets, call.targets + call.count, [](const pk_lora_target& target) { return target.base == PK_LORA_BASE_QUANTIZED; });
}

QuantizedBases quantized_bases(const ForwardLaunch& call) {
  QuantizedBases bases{};
  for (int32_t i = 0; i < call.count; ++i) {
    const pk_lora_target& target = call.targets[i];
    if (target.base != PK_LORA_BASE_QUANTIZED) continue;
    bases.books = quantized_books(target.quantized);  // of all
    bases.of[i] = quantized_matrix(target.quantized, call.descriptor.x.columns);
  }
  return bases;
}

// The product as launches whose quantised W is in the slab: of each target as many rows as there is room for, and as many targets; run(part) for each.
template <class T, class Run>
int32_t each_slab(const ForwardLaunch& call, const ForwardProblem<T>& problem, const LoraTile& tile, Run run) {
  const int64_t k = problem.k, pitch = lora_slab_pitch(k, sizeof(T)), row_bytes = pitch * static_cast<int64_t>(sizeof(T));
  ForwardProblem<T> part = problem;
  part.target_count = 0;
  int64_t used = 0;  // bytes of the slab
  const auto flush = [&] {
    PK_TRY(run(part));
    // The next part's tiles are others: their sums and their arrivals are elsewhere.
    const int64_t tiles = forward_tiles(part, tile);
    if (problem.splits > 1) part.partial_sums += tiles * problem.splits * tile.rows * tile.columns, part.arrivals += tiles;
    part.target_count = 0;
    used = 0;
    return PK_OK;
  };
  for (int32_t i = 0; i < problem.target_count; ++i) {
    ForwardTarget<T> target = problem.targets[i];
    if (target.base != PK_LORA_BASE_QUANTIZED || k == 0) {
      if (target.base == PK_LORA_BASE_QUANTIZED) target.base = PK_LORA_BASE_NONE;  // a product of no depth
      part.targets[part.target_count++] = target;
      continue;
    }
    target.base = PK_LORA_BASE_DENSE;
    while (target.first < target.n) {
      const int64_t left = target.n - target.first, room = (call.slab_bytes - used) / row_bytes;
      target.count = left <= room ? left : room / kLoraSlabMultiple * kLoraSlabMultiple;
      if (target.count == 0) {
        PK_TRY(flush());
        continue;
      }
      auto* w = reinterpret_cast<T*>(call.slab + used);
      PK_TRY(dequantize_slab<T>(call.queue, call.targets[i].quantized, k, {target.first, target.count, 0, k, pitch}, w));
      target.w = {{w - target.first * pitch, pitch, 1}, 0};
      part.targets[part.target_count++] = target;
      used += target.count * row_bytes;
      target.first += target.count;
    }
  }
  return flush();
}

}  // namespace
}  // namespace PK_BUILD
