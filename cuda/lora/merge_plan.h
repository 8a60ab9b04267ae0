// What a merge of adapters with middles needs: how its factors are multiplied, and the workspace that they are made in. Pure functions of the descriptor.
#pragma once

#include "algorithms.h"

static inline LoraListedAdapter lora_merge_adapter(const pk_lora_merge_descriptor& descriptor, int64_t i) {
  const pk_lora_middle* middle = descriptor.middles != nullptr ? descriptor.middles + i : nullptr;
  return lora_listed_adapter(descriptor.adapters[i], middle, descriptor.source.rows, descriptor.source.columns, descriptor.adapter_element_type);
}

// Ranks that are summed up. One without ranks is nothing, whatever a core makes of it.
static inline int64_t lora_merge_rank(const LoraListedAdapter& adapter) { return lora_rank(adapter) > 0 ? lora_rank_after(adapter) : 0; }

// Whether factors of 16 bits are multiplied as f32: what a scale or a core makes of an A has more digits, and all factors of a launch are of one type.
static inline bool lora_merge_widens(const pk_lora_merge_descriptor& descriptor) {
  bool made = false;
  for (int64_t i = 0; descriptor.middles != nullptr && i < descriptor.adapter_count; ++i) made = made || lora_has_middle(descriptor.middles[i]);
  return made && descriptor.adapter_element_type != PK_F32;
}

// An adapter's part of the workspace, in bytes, aligned, one after the other: its listed ranks, what its middle makes of A, and B in f32. 0 for a factor that is read where it is.
struct LoraMergeLayout {
  int64_t ranks, a, b;

  int64_t bytes() const { return ranks + a + b; }
};

static inline LoraMergeLayout lora_merge_layout(const LoraListedAdapter& adapter, bool widens) {
  const int64_t after = lora_merge_rank(adapter);
  const bool makes_a = widens || lora_has_middle(adapter.middle);
  return {lora_ranks_layout(adapter, 1).bytes(), makes_a ? lora_aligned(after * adapter.a.columns * 4) : 0, widens ? lora_aligned(adapter.b.rows * after * 4) : 0};
}

static inline int64_t lora_merge_workspace_bytes(const pk_lora_merge_descriptor& descriptor) {
  const bool widens = lora_merge_widens(descriptor);
  int64_t bytes = 0;
  for (int64_t i = 0; i < descriptor.adapter_count; ++i) bytes += lora_merge_layout(lora_merge_adapter(descriptor, i), widens).bytes();
  return bytes;
}

static inline bool lora_merge_scales_rows(const pk_lora_merge_descriptor& descriptor) { return descriptor.row_scale.columns > 0; }

static inline int64_t lora_largest_merge_rank(const pk_lora_merge_descriptor& descriptor) {
  int64_t rank = 0;
  for (int64_t i = 0; i < descriptor.adapter_count; ++i) {
    const int64_t after = lora_merge_rank(lora_merge_adapter(descriptor, i));
    rank = rank < after ? after : rank;
  }
  return rank;
}

// Of what is made before the products that the merge kernels sum up, and after them.
static inline int64_t lora_merge_other_rounding_steps(const pk_lora_merge_descriptor& descriptor) {
  int64_t middle = 0;
  for (int64_t i = 0; i < descriptor.adapter_count; ++i) {
    const int64_t steps = lora_middle_rounding_steps(lora_merge_adapter(descriptor, i));
    middle = middle < steps ? steps : middle;
  }
  return middle + lora_merge_scales_rows(descriptor);
}
