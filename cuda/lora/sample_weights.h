// What a row counts, from what its sample weighs.
#pragma once

#include "../core/status.h"
#include "../include/peft_kernels.h"

namespace PK_BUILD {

// row_weights [rows], in a workspace; 0 for rows of no sample.
int32_t row_weights(const pk_queue& queue, const pk_samples& samples, const float* weights, int64_t rows, float* row_weights);

}  // namespace PK_BUILD
