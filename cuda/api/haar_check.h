// What all operations of the Haar family check.
#pragma once

#include "../haar/algorithms.h"
#include "check.h"

namespace peft_kernels_api {

// Places that the coefficients of an extent take.
int64_t haar_coefficient_extent(int64_t extent, int32_t levels, int32_t layout);

int32_t check_range(const char* operation, const char* argument, int32_t value, int32_t first, int32_t last);

// So many levels are possible along an axis with this boundary.
int32_t check_haar_axis(const char* operation, const char* axis, int64_t extent, int32_t levels, int32_t boundary);

}  // namespace peft_kernels_api
