// A matrix as codes in blocks that share a scale: what is checked of its lists, wherever they are given.
#pragma once

#include "overlap.h"

namespace peft_kernels_api {

// Of a matrix of this name. Without `needs_data` pointers may be null; with `quantizes` the books are read the other way.
int32_t check_quantized(const char* operation, const char* matrix, int64_t rows, int64_t columns, const pk_lora_quantized& lists, bool quantizes, bool needs_data);

// The room for what is made of it in a workspace.
int32_t check_slab_bytes(const char* operation, int64_t slab_bytes);

// What it reads.
void add_quantized(Operands& operands, const pk_lora_quantized& lists);

}  // namespace peft_kernels_api
