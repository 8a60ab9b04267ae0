// Which adapter a row uses: one for all, or one of a table in device memory, named by an index per row or by segments of rows.
#pragma once

#include "../tile/matrix.cuh"

namespace PK_BUILD {

// The adapter of one row, resolved. Rank 0: the base alone.
template <class P>
struct Adapter {
  Matrix<const P> a, b;
  int64_t rank;
  float scale;
};

struct RowAdapters {
  const int32_t* index;             // per row, or null
  const pk_lora_segment* segments;  // sorted and disjoint, or null
  int64_t segment_count;
};

// The adapters of one target.
template <class P>
struct AdapterSet {
  Batched<const P> a, b;         // of the one adapter ...
  float scale;
  const pk_lora_adapter* table;  // ... or a table
  int64_t count, max_rank;
};

// The segment that holds a row, or -1: segments are sorted, so the last one that begins at or before it.
PK_DEVICE int32_t segment_adapter(const RowAdapters& rows, int64_t row) {
  int64_t low = 0, high = rows.segment_count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (load_global(&rows.segments[middle].row_begin) <= row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0 || row >= load_global(&rows.segments[low - 1].row_end)) return -1;
  return load_global(&rows.segments[low - 1].adapter);
}

// The adapter of a row. `failure` becomes a PK_FAILURE_* code when the table has no such adapter.
template <class P>
PK_DEVICE Adapter<P> row_adapter(const AdapterSet<P>& set, const RowAdapters& rows, int64_t row, int64_t batch, uint32_t* failure) {
  const Adapter<P> none{{nullptr, 0, 0}, {nullptr, 0, 0}, 0, 0.0f};
  if (set.table == nullptr) return {set.a.batch(batch), set.b.batch(batch), set.max_rank, set.scale};
  const int32_t index = rows.index != nullptr ? load_global(rows.index + row) : segment_adapter(rows, row);
  if (index == -1) return none;
  if (index < 0 || index >= set.count) {
    *failure = PK_FAILURE_ADAPTER_INDEX;
    return none;
  }
  const pk_lora_adapter* entry = set.table + index;
  const int32_t rank = load_global(&entry->rank);
  if (rank < 0 || rank > set.max_rank) {
    *failure = PK_FAILURE_ADAPTER_RANK;
    return none;
  }
  return {{static_cast<const P*>(load_global(&entry->a)), load_global(&entry->a_row_stride), load_global(&entry->a_column_stride)},
          {static_cast<const P*>(load_global(&entry->b)), load_global(&entry->b_row_stride), load_global(&entry->b_column_stride)},
          rank,
          load_global(&entry->scale)};
}

// Keeps the failure with the smallest index, whatever order the threads come in.
PK_DEVICE void report(pk_status_record* status, uint32_t failure, int64_t index) {
  if (status != nullptr) atomic_max_global(&status->failure, ~static_cast<uint64_t>(index) << 8 | failure);
}

}  // namespace PK_BUILD
