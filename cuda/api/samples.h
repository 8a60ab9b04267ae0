// Samples as segments of rows.
#pragma once

#include "overlap.h"

namespace peft_kernels_api {

// Of the rows of all batches: with offsets less than 2^31 of them, without as many for each sample. Without `needs_data` the offsets may be null where there will be some.
int32_t check_samples(const char* operation, const pk_samples& samples, int64_t batches, int64_t rows, bool needs_data);

// The offsets.
void add_samples(Operands& operands, const pk_samples& samples);

}  // namespace peft_kernels_api
