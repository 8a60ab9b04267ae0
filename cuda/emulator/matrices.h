// ldmatrix, stmatrix and mma.sync: what a warp does together with matrices that are spread over its registers.
#pragma once

#include <cstdint>

#include "site.h"

namespace PK_BUILD {

// Rows of 16 bytes have been checked; null where a lane names none.
void load_matrices(uint32_t* fragments, uint32_t count, const void* row, bool transposed, Site site);
void store_matrices(void* row, const uint32_t* fragments, uint32_t count, bool transposed, Site site);

enum class MatrixKind { f16, bf16, tf32, f64 };
// sums += a * b, with the registers of this lane. Products are exact; the sum is rounded to its type after each, in the order of k, where a device sums several at once and truncates. So results
// agree with a device's bit for bit only where all sums are exact.
void multiply_matrices(MatrixKind kind, void* sums, const void* a, const void* b, Site site);

}  // namespace PK_BUILD
