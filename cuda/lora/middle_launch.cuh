// How a middle becomes a launch: of a forward call, or of a backward call that makes H' again.
#pragma once

#include "forward_launch.h"
#include "middle.cuh"
#include "shrink_problem.cuh"

namespace PK_BUILD {

// What the launches of a call with a middle may read.
inline void read_middle(Operands& operands, const pk_lora_middle& middle, int64_t batches) {
  if ((middle.has & PK_LORA_MIDDLE_SCALE) != 0) operands.read("middle.scale", middle.scale, batches);
  if ((middle.has & PK_LORA_MIDDLE_GATE) != 0) operands.read("middle.gate", middle.gate, batches);
  if ((middle.has & PK_LORA_MIDDLE_CORE) != 0) operands.read("middle.core", middle.core, batches);
}

// Of a target whose listed ranks have been gathered.
template <class Target>
Middle middle_of(const Target& target, int32_t activations, const Intermediate& h) {
  const pk_lora_middle& given = target.middle;
  const int64_t size = bytes_of(target.adapter_element_type);
  Middle middle{};
  middle.h = h;
  middle.rank = lora_rank(target);
  middle.after = lora_rank_after(target);
  middle.in_f32 = in_f32(target.adapter_element_type, activations);
  if ((given.has & PK_LORA_MIDDLE_SCALE) != 0) middle.scale = factor_of(given.scale), middle.scale_batch_bytes = given.scale.batch_stride * size;
  middle.has_core = (given.has & PK_LORA_MIDDLE_CORE) != 0;
  if (middle.has_core != 0) middle.core = factor_of(given.core), middle.core_batch_bytes = given.core.batch_stride * size;
  if ((given.has & PK_LORA_MIDDLE_GATE) != 0) middle.gate = batched<const float>(given.gate);
  if (lora_lists_ranks(given)) middle.ranks = given.ranks;
  return middle;
}

template <class T>
auto middle(const Operands& operands, const MiddleProblem& problem) {
  int64_t tiles = 0;
  for (int32_t i = 0; i < problem.target_count; ++i) tiles += problem.batches * problem.row_tiles() * problem.column_tiles(i);
  return prepared({"lora_middle", grid_of(std::max<int64_t>(tiles, 1)), MiddleConfig::kThreads, shared_bytes<MiddleConfig::Shared>()}, operands, lora_middle<T>, problem, tiles);
}

}  // namespace PK_BUILD
