#include "overlap.h"

#include <algorithm>

#include "check.h"

namespace peft_kernels_api {
namespace {

constexpr int64_t kNothing = -1;

// The element type of bytes without structure, which no caller can name.
constexpr int32_t kByte = INT32_MIN;

int64_t size_of(int32_t element_type) { return element_type == kByte ? 1 : element_size(element_type); }

// Runs of bytes at equal distances: `count` of `length` bytes each, `pitch` apart.
struct Runs {
  int64_t first, count, pitch, length;

  int64_t end() const { return first + (count - 1) * pitch + length; }

  // The first byte that run i of this and run j of the other share.
  int64_t meet(int64_t i, const Runs& other, int64_t j) const {
    const int64_t a = first + i * pitch, b = other.first + j * other.pitch;
    return a < b + other.length && b < a + length ? std::max(a, b) : kNothing;
  }
};

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

int64_t shared(const Runs& a, const Runs& b) {
  if (a.first >= b.end() || b.first >= a.end()) return kNothing;
  if (a.count > b.count) return shared(b, a);
  if (a.pitch == b.pitch && a.pitch > 0) {
    // Runs i and j depend on i - j alone: the smallest difference that reaches into the other's run.
    const int64_t difference = std::max(floor_divide(b.first - a.first - a.length, a.pitch) + 1, 1 - b.count);
    const int64_t i = std::max<int64_t>(difference, 0), j = std::max<int64_t>(-difference, 0);
    return i < a.count ? a.meet(i, b, j) : kNothing;
  }
  for (int64_t i = 0; i < a.count; ++i) {
    const int64_t j = b.pitch == 0 ? 0 : std::max<int64_t>(floor_divide(a.first + i * a.pitch - b.length - b.first, b.pitch) + 1, 0);
    const int64_t address = j < b.count ? a.meet(i, b, j) : kNothing;
    if (address != kNothing) return address;
  }
  return kNothing;
}

Runs runs_of(const pk_matrix& matrix, int64_t batch) {
  const int64_t size = size_of(matrix.element_type);
  const int64_t first = static_cast<int64_t>(reinterpret_cast<uintptr_t>(matrix.data)) + batch * matrix.batch_stride * size;
  // The axis whose elements lie side by side makes the runs; one of a single element always can.
  const bool along_columns = matrix.columns == 1 || matrix.column_stride == 1;
  const int64_t length = (along_columns ? matrix.columns : matrix.rows) * size;
  const int64_t count = along_columns ? matrix.rows : matrix.columns;
  const int64_t pitch = (along_columns ? matrix.row_stride : matrix.column_stride) * size;
  if (count == 1 || pitch == 0) return {first, 1, 0, length};
  if (pitch == length) return {first, 1, 0, count * length};
  return {first, count, pitch, length};
}

// The bytes from the first element of the first batch to the last of the last.
Runs span_of(const pk_matrix& matrix, int64_t batches) {
  const Runs first = runs_of(matrix, 0);
  return {first.first, 1, 0, runs_of(matrix, batches - 1).end() - first.first};
}

int64_t shared(const pk_matrix& a, int64_t batches_of_a, const pk_matrix& b, int64_t batches_of_b) {
  if (a.batch_stride == 0) batches_of_a = 1;
  if (b.batch_stride == 0) batches_of_b = 1;
  if (shared(span_of(a, batches_of_a), span_of(b, batches_of_b)) == kNothing) return kNothing;
  // Where batches are equally far apart, the difference of their numbers alone decides.
  const bool equal = a.batch_stride * size_of(a.element_type) == b.batch_stride * size_of(b.element_type);
  const int64_t pairs = equal ? batches_of_a + batches_of_b - 1 : batches_of_a * batches_of_b;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const int64_t difference = pair - batches_of_b + 1;
    const int64_t i = equal ? std::max<int64_t>(difference, 0) : pair / batches_of_b, j = equal ? std::max<int64_t>(-difference, 0) : pair % batches_of_b;
    const int64_t address = shared(runs_of(a, i), runs_of(b, j));
    if (address != kNothing) return address;
  }
  return kNothing;
}

// Whether two batches of a matrix share an element: then the first and another do. A batch stride of 0 says that there is one for all.
bool batches_meet(const pk_matrix& matrix, int64_t batches) {
  const Runs first = runs_of(matrix, 0);
  for (int64_t batch = 1; matrix.batch_stride > 0 && batch < batches; ++batch) {
    const Runs other = runs_of(matrix, batch);
    if (other.first >= first.end()) return false;
    if (shared(first, other) != kNothing) return true;
  }
  return false;
}

}  // namespace

pk_matrix Operands::of_bytes(const void* data, uint64_t bytes) {
  return {const_cast<void*>(data), 1, static_cast<int64_t>(bytes), 0, 1, 0, kByte, 0};
}

int32_t Operands::check_disjoint(const char* operation) const {
  for (const Operand& operand : operands_) {
    if (!operand.written || operand.matrix.rows * operand.matrix.columns == 0 || !batches_meet(operand.matrix, operand.batches)) continue;
    return fail(PK_ERROR_ARGUMENT, "%s: %s has batch stride %" PRId64 " with %" PRId64 " batches: they would overlap", operation, operand.name.c_str(),
                operand.matrix.batch_stride, operand.batches);
  }
  for (std::size_t i = 0; i < operands_.size(); ++i) {
    for (std::size_t j = i + 1; j < operands_.size(); ++j) {
      const Operand &a = operands_[i], &b = operands_[j];
      if (!a.written && !b.written) continue;
      if (a.matrix.rows * a.matrix.columns == 0 || b.matrix.rows * b.matrix.columns == 0) continue;
      const int64_t address = shared(a.matrix, a.batches, b.matrix, b.batches);
      if (address == kNothing) continue;
      return fail(PK_ERROR_ARGUMENT, "%s: %s and %s share the byte at address %#" PRIx64 ", expected disjoint memory", operation, (a.written ? a : b).name.c_str(),
                  (a.written ? b : a).name.c_str(), static_cast<uint64_t>(address));
    }
  }
  return PK_OK;
}

}  // namespace peft_kernels_api
