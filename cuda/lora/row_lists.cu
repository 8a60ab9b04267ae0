// Rows grouped by the adapters of a table that they use, in their order.
//
// lora_row_adapters: a thread a row. Loads: 4 bytes of an index a row, or log2(segments) begins, a segment's end and its adapter, and a rank of the table, from cache. Stores: 4 bytes a row.
// lora_row_lists: a block an adapter. Its warps share out the rows, of which each first counts its own and those of adapters before; then each knows where its own go. Loads: up to 8 bytes a row
// and adapter, from L2 (the second 4 where a warp has any): 4 MB for 64 adapters of 8192 rows. Stores: 8 bytes a row that has an adapter, and 8 an adapter.
#include "row_lists.h"

#include "../core/operations.h"
#include "forward_launch.h"

namespace PK_BUILD {
namespace {

constexpr int kRowThreads = 256;

struct RowListsConfig {
  static constexpr int kWarps = 16;
  static constexpr int kThreads = 32 * kWarps;

  struct Shared {
    SharedArray<int64_t, kWarps> before, own;  // rows of a warp, of adapters before and of this one
  };
};

}  // namespace

PK_KERNEL void PK_LAUNCH_BOUNDS(kRowThreads) lora_row_adapters(AdapterSet set, RowAdapters choice, int64_t rows, pk_status_record* status, int32_t* indices) {
  const int64_t threads = static_cast<int64_t>(grid_extent().x) * kRowThreads;
  for (int64_t row = static_cast<int64_t>(block_index().x) * kRowThreads + thread_index().x; row < rows; row += threads) {
    uint32_t failure = 0;
    store_global(indices + row, adapter_index(set, choice, row, &failure));
    if (failure != 0) report(status, failure, row);
  }
}

PK_KERNEL void PK_LAUNCH_BOUNDS(RowListsConfig::kThreads) lora_row_lists(const int32_t* indices, int64_t rows, int64_t adapters, RowLists lists) {
  using Config = RowListsConfig;
  PK_SHARED(Config::Shared, shared);
  const int64_t of_warp = (rows + Config::kThreads - 1) / Config::kThreads * 32, begin = warp() * of_warp, end = minimum(rows, begin + of_warp);
  const int64_t adapter = block_index().x;
  int64_t before = 0, own = 0;  // rows of none are before all adapters'
#pragma unroll 4  // loads that wait together
  for (int64_t row = begin + lane(); row < end; row += 32) {
    const int64_t index = load_global(indices + row);
    before += index < adapter ? 1 : 0;
    own += index == adapter ? 1 : 0;
  }
#pragma unroll
  for (uint32_t distance = 16; distance > 0; distance /= 2) {
    before += shuffle_xor(before, distance);
    own += shuffle_xor(own, distance);
  }
  if (lane() == 0) {
    shared.before.store(warp(), before);
    shared.own.store(warp(), own);
  }
  barrier();  // all have counted
  int64_t first = 0, place = 0, count = 0;  // of the adapter's rows, of this warp's after it, and of all its rows
#pragma unroll 1
  for (uint32_t other = 0; other < Config::kWarps; ++other) {
    first += shared.before.load(other);
    const int64_t of_other = shared.own.load(other);
    place += other < warp() ? of_other : 0;
    count += of_other;
  }
  place += first;
  if (thread_index().x == 0) {
    store_global(lists.offsets + adapter, first);
    if (adapter == adapters - 1) store_global(lists.offsets + adapters, first + count);
  }
  for (int64_t row0 = begin; own > 0 && row0 < end; row0 += 32) {
    const int64_t row = row0 + lane();
    const bool mine = row < end && load_global(indices + row) == adapter;
    const uint32_t votes = ballot(mine);
    if (mine) store_global(lists.rows + place + set_bits(votes & ((1u << lane()) - 1)), row);
    place += set_bits(votes);
  }
}

int32_t row_adapters(const pk_queue& queue, const Operands& operands, const AdapterSet& set, const RowAdapters& choice, int64_t rows, pk_status_record* status, int32_t* indices) {
  if (rows == 0) return PK_OK;
  return launch(queue, {"lora_row_adapters", grid_of(tiles_of(rows, kRowThreads)), kRowThreads, 0}, operands, lora_row_adapters, set, choice, rows, status, indices);
}

int32_t row_lists(const pk_queue& queue, const Operands& operands, const int32_t* indices, int64_t rows, int64_t adapters, const RowLists& lists) {
  if (adapters == 0) return PK_OK;
  const LaunchShape shape{"lora_row_lists", grid_of(adapters), RowListsConfig::kThreads, shared_bytes<RowListsConfig::Shared>()};
  return launch(queue, shape, operands, lora_row_lists, indices, rows, adapters, lists);
}

}  // namespace PK_BUILD

extern "C" int32_t PK_OPERATION(lora_row_lists_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_row_adapters));
  return prepare(lora_row_lists);
}
