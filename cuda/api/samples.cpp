// Samples as segments of rows: what is checked of them.
#include "samples.h"

#include "check.h"

namespace peft_kernels_api {

namespace {

uint64_t offset_bytes(const pk_samples& samples) { return samples.offsets != nullptr ? (static_cast<uint64_t>(samples.count) + 1) * sizeof(int32_t) : 0; }

}  // namespace

int32_t check_samples(const char* operation, const pk_samples& samples, int64_t batches, int64_t rows, bool needs_data) {
  constexpr int64_t kMostSamples = INT64_C(1) << 31;
  const double all = static_cast<double>(batches) * static_cast<double>(rows);
  if (samples.count < 0 || samples.count >= kMostSamples || (samples.count == 0 && all > 0)) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " samples of %.0f rows, expected at least 1 where there are rows, and less than 2^31", operation, samples.count, all);
  }
  if (samples.offsets != nullptr) {
    if (all > INT32_MAX) return fail(PK_ERROR_ARGUMENT, "%s: sample offsets among %.0f rows, expected less than 2^31 rows", operation, all);
    return needs_data ? check_pointer(operation, "samples.offsets", samples.offsets, alignof(int32_t)) : PK_OK;
  }
  if (needs_data && samples.count > 0 && batches * rows % samples.count != 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " samples of %.0f rows, expected a number that divides them, or offsets", operation, samples.count, all);
  }
  return PK_OK;
}

void add_samples(Operands& operands, const pk_samples& samples) { operands.input_bytes("samples.offsets", samples.offsets, offset_bytes(samples)); }

}  // namespace peft_kernels_api
