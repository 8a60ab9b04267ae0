// The listed ranks of an adapter: the list as it is, with -1 for what it cannot name, and A's rows and B's columns side by side, zeros where the list has -1.
//
// A [ranks, k], B [n, ranks] of any order; the copies are [count, k] and [n, count] in row-major order, bits as they are. A thread an element, neighbours along the copies' rows.
// Loads, in elements: count * k + n * count, 4 bytes of the list for each (from cache); of a list in device memory also count^2 / 2 entries (from cache), to find those that repeat. Stores: as
// many. No roundings.
#pragma once

#include "adapter.cuh"

namespace PK_BUILD {

struct RanksConfig {
  static constexpr int kThreads = 256;
  static constexpr int kFromHost = 512;  // entries of a list in host memory that a launch's parameters hold
};

// A part of a list in host memory, which the host has checked.
struct HostRanks {
  int32_t ranks[RanksConfig::kFromHost];
};

PK_KERNEL void PK_LAUNCH_BOUNDS(RanksConfig::kThreads) lora_store_ranks(HostRanks from, int32_t count, int32_t* list) {
  for (int32_t i = static_cast<int32_t>(thread_index().x); i < count; i += RanksConfig::kThreads) store_global(list + i, from.ranks[i]);
}

// A list in device memory: an entry that the adapter does not have, or that is there before, becomes -1 and is reported.
PK_KERNEL void PK_LAUNCH_BOUNDS(RanksConfig::kThreads) lora_check_ranks(const int32_t* given, int64_t count, int64_t ranks, pk_status_record* status, int32_t* list) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * RanksConfig::kThreads;
  for (int64_t i = static_cast<int64_t>(block_index().x) * RanksConfig::kThreads + thread_index().x; i < count; i += threads) {
    const int32_t rank = load_global(given + i);
    bool sound = rank >= 0 && rank < ranks;
    for (int64_t before = 0; before < i; ++before) sound = sound && load_global(given + before) != rank;
    if (!sound) report(status, PK_FAILURE_RANK, i);
    store_global(list + i, sound ? rank : -1);
  }
}

// [outer, inner] of each batch, the source's ranks along one of the two.
template <class E>
struct GatheredRanks {
  Batched<const E> source;
  int64_t batches, outer, inner;
  int32_t ranks_are_outer;
  const int32_t* list;
  E* copy;
};

template <class E>
PK_KERNEL void PK_LAUNCH_BOUNDS(RanksConfig::kThreads) lora_gather_ranks(GatheredRanks<E> ranks) {
  const int64_t of_batch = ranks.outer * ranks.inner, threads = static_cast<int64_t>(grid_extent().x) * RanksConfig::kThreads;
  for (int64_t i = static_cast<int64_t>(block_index().x) * RanksConfig::kThreads + thread_index().x; i < ranks.batches * of_batch; i += threads) {
    const int64_t batch = i / of_batch, outer = (i - batch * of_batch) / ranks.inner, inner = i - batch * of_batch - outer * ranks.inner;
    const bool by_row = ranks.ranks_are_outer != 0;
    const int32_t rank = load_global(ranks.list + (by_row ? outer : inner));
    store_global(ranks.copy + i, rank < 0 ? E{} : load_global(ranks.source.batch(batch).at(by_row ? rank : outer, by_row ? inner : rank)));
  }
}

}  // namespace PK_BUILD
