// Rows grouped by the adapters of a table that they use.
#pragma once

#include "../core/status.h"
#include "../ptx/launch.cuh"
#include "adapter.cuh"

namespace PK_BUILD {

// Adapter i has the rows of all batches rows[offsets[i]] .. rows[offsets[i + 1] - 1], which ascend. In a workspace.
struct RowLists {
  int64_t *offsets, *rows;  // [adapters + 1], and at most as many as there are
};

// The adapter of each row, -1: none; one that the table lacks is reported.
int32_t row_adapters(const pk_queue& queue, const Operands& operands, const AdapterSet& set, const RowAdapters& choice, int64_t rows, pk_status_record* status, int32_t* indices);

int32_t row_lists(const pk_queue& queue, const Operands& operands, const int32_t* indices, int64_t rows, int64_t adapters, const RowLists& lists);

}  // namespace PK_BUILD
