// Which adapter a row uses: one for all, or one of a table in device memory, named by an index per row or by segments of rows.
#pragma once

#include "../tile/matrix.cuh"

namespace PK_BUILD {

// A or B of an adapter, of the activations' type or of f32.
struct Factor {
  const void* data;
  int64_t row_stride, column_stride;

  template <class P>
  PK_DEVICE Matrix<const P> matrix() const {
    return {static_cast<const P*>(data), row_stride, column_stride};
  }
};

PK_HOST_DEVICE Factor transposed(const Factor& factor) { return {factor.data, factor.column_stride, factor.row_stride}; }

// An element of a factor of T, or of f32.
template <class T>
PK_DEVICE float load_factor(const Factor& factor, bool in_f32, int64_t row, int64_t column) {
  if (std::is_same<T, float>::value || in_f32) return load_global(factor.matrix<float>().at(row, column));
  return to_float(load_global(factor.matrix<T>().at(row, column)));
}

struct Adapter {
  Factor a, b;
  int64_t rank;
  float scale;
};

struct RowAdapters {
  const int32_t* index;             // per row, or null
  const pk_lora_segment* segments;  // each beginning where the one before ends or later, empty ones too; or null
  int64_t segment_count;
};

// The adapters of one target.
struct AdapterSet {
  Adapter one;                   // for every row, of the first batch ...
  int64_t a_batch_bytes, b_batch_bytes;
  const pk_lora_adapter* table;  // ... or a table
  int64_t count, max_rank;
  int32_t in_f32;  // whether factors are f32 where activations are not
  float factor;    // that the scales of the table are multiplied by, for what dropout leaves
  int32_t exchanged;  // of a table: B transposed stands for A, and A transposed for B, as gradients read them
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

// The adapter of a row, or -1 for the base alone. `failure` becomes a PK_FAILURE_* code when the table has no such adapter.
PK_DEVICE int32_t adapter_index(const AdapterSet& set, const RowAdapters& rows, int64_t row, uint32_t* failure) {
  if (set.table == nullptr) return set.max_rank > 0 ? 0 : -1;
  const int32_t index = rows.index != nullptr ? load_global(rows.index + row) : segment_adapter(rows, row);
  if (index == -1) return -1;
  if (index < 0 || index >= set.count) {
    *failure = PK_FAILURE_ADAPTER_INDEX;
    return -1;
  }
  const int32_t rank = load_global(&set.table[index].rank);
  if (rank < 0 || rank > set.max_rank) {
    *failure = PK_FAILURE_ADAPTER_RANK;
    return -1;
  }
  return rank > 0 ? index : -1;
}

// An adapter by its index.
PK_DEVICE Adapter adapter_at(const AdapterSet& set, int32_t index, int64_t batch) {
  if (set.table == nullptr) {
    Adapter adapter = set.one;
    adapter.a.data = static_cast<const char*>(adapter.a.data) + batch * set.a_batch_bytes;
    adapter.b.data = static_cast<const char*>(adapter.b.data) + batch * set.b_batch_bytes;
    return adapter;
  }
  const pk_lora_adapter* entry = set.table + index;
  const Factor a{load_global(&entry->a), load_global(&entry->a_row_stride), load_global(&entry->a_column_stride)};
  const Factor b{load_global(&entry->b), load_global(&entry->b_row_stride), load_global(&entry->b_column_stride)};
  const int64_t rank = load_global(&entry->rank);
  const float scale = load_global(&entry->scale) * set.factor;
  if (set.exchanged != 0) return {transposed(b), transposed(a), rank, scale};
  return {a, b, rank, scale};
}

// Keeps the failure with the smallest index, whatever order the threads come in.
PK_DEVICE void report(pk_status_record* status, uint32_t failure, int64_t index) {
  if (status != nullptr) atomic_max_global(&status->failure, ~static_cast<uint64_t>(index) << 8 | failure);
}

// Of rows whose adapters' indices are in shared memory: the smallest index above `previous`, or -1 after the last. Starts with -1; every warp of a block finds the same.
template <int ROWS, int COUNT>
PK_DEVICE int32_t next_adapter(const SharedArray<int32_t, COUNT>& adapters, int32_t previous) {
  constexpr uint32_t kNone = 0xffffffffu;
  uint32_t next = kNone;
#pragma unroll
  for (int first = 0; first < ROWS; first += 32) {
    const int row = first + static_cast<int>(lane());
    const int32_t index = row < ROWS ? adapters.load(static_cast<uint32_t>(row)) : -1;
    if (index > previous) next = minimum(next, static_cast<uint32_t>(index));
  }
  next = reduce_min(next);
  return next == kNone ? -1 : static_cast<int32_t>(next);
}

}  // namespace PK_BUILD
