// The C interface of the Walsh-Hadamard transform: checks, choice of kernel, dispatch to the builds.
#include <cstdio>

#include "../core/operations.h"
#include "../haar/algorithms.h"
#include "check.h"
#include "overlap.h"

namespace peft_kernels_api {
namespace {

int32_t check_diagonal(const char* operation, const char* argument, const pk_haar_hadamard_descriptor& descriptor, const pk_matrix& diagonal, bool needs_data) {
  if (diagonal.rows == 0 && diagonal.data == nullptr) return PK_OK;
  PK_TRY_API(check_matrix(operation, argument, diagonal, 1, descriptor.source.columns));
  if (diagonal.element_type != descriptor.source.element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: %s has element type %s, expected %s", operation, argument, element_type_name(diagonal.element_type), element_type_name(descriptor.source.element_type));
  }
  return needs_data ? check_data(operation, argument, diagonal) : PK_OK;
}

int32_t read_hadamard(const char* operation, const pk_haar_hadamard_descriptor* given, bool needs_data, pk_haar_hadamard_descriptor* descriptor) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  PK_TRY_API(read_descriptor(operation, given, given->size, descriptor));
  PK_TRY_API(check_flags(operation, descriptor->flags));
  const pk_matrix& source = descriptor->source;
  PK_TRY_API(check_element_types(operation, source.element_type, source.element_type));
  if (descriptor->destination.element_type != source.element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: destination has element type %s, expected %s", operation, element_type_name(descriptor->destination.element_type),
                element_type_name(source.element_type));
  }
  if (descriptor->batch_count < 0) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches, expected at least 1", operation, descriptor->batch_count);
  if (descriptor->batch_count == 0) descriptor->batch_count = 1;
  if (descriptor->normalized != 0 && descriptor->normalized != 1) return fail(PK_ERROR_ARGUMENT, "%s: normalized is %d, expected 0 or 1", operation, descriptor->normalized);
  PK_TRY_API(check_matrix(operation, "source", source, -1, -1));
  const int64_t n = source.columns;
  if (n < 1 || n > PK_HAAR_HADAMARD_COLUMNS || (n & (n - 1)) != 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: source has %" PRId64 " columns, expected a power of two up to %d", operation, n, PK_HAAR_HADAMARD_COLUMNS);
  }
  if (source.rows == 0 || source.rows > int64_t{1} << kHaarLevels) {
    return fail(PK_ERROR_ARGUMENT, "%s: source has %" PRId64 " rows, expected 1 to 2^%d", operation, source.rows, kHaarLevels);
  }
  PK_TRY_API(check_matrix(operation, "destination", descriptor->destination, source.rows, n));
  PK_TRY_API(check_diagonal(operation, "before", *descriptor, descriptor->before, needs_data));
  PK_TRY_API(check_diagonal(operation, "after", *descriptor, descriptor->after, needs_data));
  if (!needs_data) return PK_OK;
  PK_TRY_API(check_data(operation, "source", source));
  return check_data(operation, "destination", descriptor->destination);
}

int32_t check_operands(const char* operation, const pk_haar_hadamard_descriptor& descriptor) {
  const pk_matrix &source = descriptor.source, &destination = descriptor.destination;
  const bool in_place = source.data == destination.data && source.row_stride == destination.row_stride && source.column_stride == destination.column_stride &&
                        (descriptor.batch_count == 1 || source.batch_stride == destination.batch_stride);
  Operands operands;
  operands.output("destination", destination, descriptor.batch_count);
  if (!in_place) operands.input("source", source, descriptor.batch_count);
  if (descriptor.before.data != nullptr) operands.input("before", descriptor.before, 1);
  if (descriptor.after.data != nullptr) operands.input("after", descriptor.after, 1);
  return operands.check_disjoint(operation);
}

int32_t pick_hadamard(const char* operation, const pk_haar_hadamard_descriptor& descriptor, const pk_chip& chip, bool in_place, pk_kernel_choice* choice) {
  int32_t bits = 0;
  while (int64_t{1} << bits < descriptor.source.columns) ++bits;
  const int64_t elements = haar_hadamard_elements(bits), shared = elements * 4;
  const double blocks = static_cast<double>(descriptor.batch_count) * static_cast<double>(descriptor.source.rows) * static_cast<double>(descriptor.source.columns) / static_cast<double>(elements);
  const bool possible = shared <= chip.shared_memory_per_block && blocks + 1 <= INT32_MAX;
  const int32_t algorithm = descriptor.algorithm != 0 ? descriptor.algorithm : possible ? PK_HAAR_TILE : PK_HAAR_SIMT;
  if (algorithm != PK_HAAR_SIMT && algorithm != PK_HAAR_TILE) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic), %d (simt) or %d (tile)", operation, algorithm, PK_HAAR_SIMT, PK_HAAR_TILE);
  }
  if (algorithm == PK_HAAR_TILE && !possible) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (tile) needs %" PRId64 " bytes of shared memory a block and at most %d blocks, this chip has %" PRId64, operation, algorithm, shared, INT32_MAX,
                chip.shared_memory_per_block);
  }
  if (algorithm == PK_HAAR_SIMT && in_place) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (simt) in place, expected %d (tile), which needs %" PRId64 " bytes of shared memory a block; this chip has %" PRId64, operation, algorithm,
                PK_HAAR_TILE, shared, chip.shared_memory_per_block);
  }
  const bool tile = algorithm == PK_HAAR_TILE;
  *choice = pk_kernel_choice{algorithm, 0, tile ? bits + 4 : int64_t{5}, {}};
  std::snprintf(choice->name, sizeof choice->name, "haar_hadamard_%s", tile ? "tile" : "simt");
  return PK_OK;
}

}  // namespace
}  // namespace peft_kernels_api

using namespace peft_kernels_api;

extern "C" {

int32_t pk_haar_hadamard(const pk_queue* queue, const pk_haar_hadamard_descriptor* given) {
  const char* operation = "pk_haar_hadamard";
  pk_queue known_queue;
  pk_haar_hadamard_descriptor descriptor;
  pk_kernel_choice choice;
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_hadamard(operation, given, true, &descriptor));
  PK_TRY_API(check_operands(operation, descriptor));
  PK_TRY_API(PK_DISPATCH(known_queue, queue_chip(&known_queue, &chip)));
  PK_TRY_API(pick_hadamard(operation, descriptor, chip, descriptor.source.data == descriptor.destination.data, &choice));
  descriptor.algorithm = choice.algorithm;
  return PK_DISPATCH(known_queue, haar_hadamard(&known_queue, &descriptor));
}

int32_t pk_haar_hadamard_pick(const pk_chip* chip, const pk_haar_hadamard_descriptor* given, pk_kernel_choice* choice) {
  const char* operation = "pk_haar_hadamard_pick";
  pk_haar_hadamard_descriptor descriptor;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  if (chip == nullptr || chip->size < sizeof(pk_chip)) return fail(PK_ERROR_VERSION, "%s: chip is null or of fewer than %zu bytes", operation, sizeof(pk_chip));
  PK_TRY_API(read_hadamard(operation, given, false, &descriptor));
  return pick_hadamard(operation, descriptor, *chip, false, choice);
}

}  // extern "C"
