// The rows of a sample, and the sample of a row.
#pragma once

#include "../tile/matrix.cuh"

namespace PK_BUILD {

struct SampleRows {
  int64_t begin, end;
  bool sound;  // the offsets name rows that there are, in their order
};

PK_DEVICE SampleRows sample_rows(const pk_samples& samples, int64_t sample, int64_t rows) {
  if (samples.offsets == nullptr) {
    const int64_t each = rows / samples.count;
    return {sample * each, (sample + 1) * each, true};
  }
  const int64_t from = load_global(samples.offsets + sample), to = load_global(samples.offsets + sample + 1);
  const int64_t begin = maximum<int64_t>(from, 0), end = minimum(maximum(to, begin), rows);  // before `begin` where that is beyond the rows
  return {begin, end, begin == from && end == to};
}

// Of a row, or -1. Offsets ascend, so that of those at or before the row the last begins its sample.
PK_DEVICE int64_t sample_of(const pk_samples& samples, int64_t row, int64_t rows) {
  if (samples.offsets == nullptr) return row / (rows / samples.count);
  int64_t low = 0, high = samples.count + 1;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (load_global(samples.offsets + middle) <= row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low > samples.count ? -1 : low - 1;
}

}  // namespace PK_BUILD
