#include "haar_check.h"

namespace peft_kernels_api {

int64_t haar_coefficient_extent(int64_t extent, int32_t levels, int32_t layout) {
  if (layout == PK_HAAR_INTERLEAVED) return haar_count(extent, levels) << levels;
  int64_t sum = haar_count(extent, levels);
  for (int32_t level = 1; level <= levels; ++level) sum += haar_count(extent, level);
  return sum;
}

int32_t check_range(const char* operation, const char* argument, int32_t value, int32_t first, int32_t last) {
  if (value >= first && value <= last) return PK_OK;
  return fail(PK_ERROR_ARGUMENT, "%s: %s is %d, expected %d to %d", operation, argument, value, first, last);
}

int32_t check_haar_axis(const char* operation, const char* axis, int64_t extent, int32_t levels, int32_t boundary) {
  int32_t most = 0;
  while (most < kHaarLevels && extent >> (most + 1) > 0) ++most;
  if (levels > most) {
    return fail(PK_ERROR_ARGUMENT, "%s: %d levels along %s of %" PRId64 " elements, expected at most %d", operation, levels, axis, extent, most);
  }
  const int64_t multiple = int64_t{1} << levels;
  if (boundary == PK_HAAR_BOUNDARY_NONE && extent % multiple != 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " elements along %s without a boundary mode, expected a multiple of %" PRId64 " for %d levels, or a mode that pads", operation, extent, axis,
                multiple, levels);
  }
  return PK_OK;
}

}  // namespace peft_kernels_api
