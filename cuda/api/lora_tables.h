// Tables of adapters that rows choose from: what is checked of them, in either direction.
#pragma once

#include "overlap.h"

namespace peft_kernels_api {

// At most one of an index per row and segments.
int32_t check_row_choice(const char* operation, const int32_t* row_adapter, const pk_lora_segment* segments);

// A target's table, or null for one adapter of `rank`, beside what chooses.
int32_t check_table(const char* operation, const pk_lora_adapter* adapters, int64_t count, int64_t max_rank, int64_t rank, bool by_row);

// Of a gradient target with a table: its table of gradients, and what a table does without. Gives it the ranks of its rows' intermediates, in the places of what is not read.
int32_t read_table(const char* operation, const pk_lora_backward_descriptor& descriptor, bool needs_data, pk_lora_gradient_target* target);

// What chooses, and tables.
void add_row_choice(Operands& operands, const int32_t* row_adapter, const pk_lora_segment* segments, int64_t segment_count, int64_t rows);
void add_tables(Operands& operands, const pk_lora_gradient_target& target);

}  // namespace peft_kernels_api
