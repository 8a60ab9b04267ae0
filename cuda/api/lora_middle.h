// What lies between A and B: what is checked of it.
#pragma once

#include "overlap.h"

namespace peft_kernels_api {

// Of an adapter a [rank, k], b [after, n] for rows of m. Without `needs_data` pointers may be null, but a list in host memory is read where there is one.
int32_t check_middle(const char* operation, const pk_lora_middle& middle, const pk_matrix& a, const pk_matrix& b, int64_t batches, int64_t m, int32_t adapter_element_type, bool needs_data);

// What it reads.
void add_middle(Operands& operands, const pk_lora_middle& middle, int64_t batches);

}  // namespace peft_kernels_api
