// The C interface of the Haar family: checks, choice of kernel, dispatch to the builds.
#include <cstdio>

#include "../core/operations.h"
#include "../haar/algorithms.h"
#include "haar_check.h"
#include "overlap.h"

namespace peft_kernels_api {
namespace {

struct Haar {
  pk_haar_descriptor descriptor;
  bool inverse;
  bool placed;  // whether operands have addresses

  const pk_matrix& signal() const { return inverse ? descriptor.destination : descriptor.source; }
  const pk_matrix& coefficients() const { return inverse ? descriptor.source : descriptor.destination; }
  bool along_rows() const { return (descriptor.axes & PK_HAAR_ALONG_ROWS) != 0; }
  bool along_columns() const { return (descriptor.axes & PK_HAAR_ALONG_COLUMNS) != 0; }
  bool in_place() const { return placed && descriptor.source.data == descriptor.destination.data; }
  bool f32() const { return descriptor.source.element_type == PK_F32; }
  // Whether memory's contiguous extent is that of rows: the kernels see such a matrix transposed.
  bool transposed() const { return descriptor.source.column_stride != 1 && descriptor.source.row_stride == 1; }
  int32_t tile_levels() const {
    const bool rows = transposed() ? along_columns() : along_rows(), columns = transposed() ? along_rows() : along_columns();
    return haar_tile_levels(columns, rows, f32());
  }
  bool ragged() const {
    const int64_t mask = (int64_t{1} << descriptor.levels) - 1;
    return (along_rows() && (signal().rows & mask) != 0) || (along_columns() && (signal().columns & mask) != 0);
  }
};

int32_t read_haar(const char* operation, const pk_haar_descriptor* given, bool inverse, bool needs_data, Haar* haar) {
  if (given == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: the descriptor is null", operation);
  haar->inverse = inverse;
  haar->placed = needs_data;
  pk_haar_descriptor& descriptor = haar->descriptor;
  PK_TRY_API(read_descriptor(operation, given, given->size, &descriptor));
  PK_TRY_API(check_flags(operation, descriptor.flags));
  PK_TRY_API(check_element_types(operation, descriptor.source.element_type, descriptor.source.element_type));
  if (descriptor.destination.element_type != descriptor.source.element_type) {
    return fail(PK_ERROR_ELEMENT_TYPE, "%s: destination has element type %s, expected %s", operation, element_type_name(descriptor.destination.element_type),
                element_type_name(descriptor.source.element_type));
  }
  PK_TRY_API(check_range(operation, "axes", descriptor.axes, PK_HAAR_ALONG_COLUMNS, PK_HAAR_ALONG_BOTH));
  PK_TRY_API(check_range(operation, "levels", descriptor.levels, 1, kHaarLevels));
  PK_TRY_API(check_range(operation, "boundary", descriptor.boundary, PK_HAAR_BOUNDARY_NONE, PK_HAAR_BOUNDARY_PERIODIC));
  PK_TRY_API(check_range(operation, "layout", descriptor.layout, PK_HAAR_MALLAT, PK_HAAR_INTERLEAVED));
  PK_TRY_API(check_range(operation, "scaling", descriptor.scaling, PK_HAAR_ORTHONORMAL, PK_HAAR_SUMS));
  PK_TRY_API(check_range(operation, "adjoint", descriptor.adjoint, 0, 1));
  if (descriptor.batch_count < 0) return fail(PK_ERROR_ARGUMENT, "%s: %" PRId64 " batches, expected at least 1", operation, descriptor.batch_count);
  if (descriptor.batch_count == 0) descriptor.batch_count = 1;

  const pk_matrix& signal = haar->signal();
  PK_TRY_API(check_matrix(operation, inverse ? "destination" : "source", signal, -1, -1));
  if (signal.rows == 0 || signal.columns == 0) {
    return fail(PK_ERROR_ARGUMENT, "%s: the signal is [%" PRId64 ", %" PRId64 "], expected at least one element", operation, signal.rows, signal.columns);
  }
  constexpr int64_t kLargest = int64_t{1} << kHaarLevels;
  if (signal.rows > kLargest || signal.columns > kLargest) {
    return fail(PK_ERROR_ARGUMENT, "%s: the signal is [%" PRId64 ", %" PRId64 "], expected at most 2^%d rows and columns", operation, signal.rows, signal.columns, kHaarLevels);
  }
  if (haar->along_rows()) PK_TRY_API(check_haar_axis(operation, "rows", signal.rows, descriptor.levels, descriptor.boundary));
  if (haar->along_columns()) PK_TRY_API(check_haar_axis(operation, "columns", signal.columns, descriptor.levels, descriptor.boundary));
  const int64_t rows = haar->along_rows() ? haar_coefficient_extent(signal.rows, descriptor.levels, descriptor.layout) : signal.rows;
  const int64_t columns = haar->along_columns() ? haar_coefficient_extent(signal.columns, descriptor.levels, descriptor.layout) : signal.columns;
  PK_TRY_API(check_matrix(operation, inverse ? "source" : "destination", haar->coefficients(), rows, columns));
  if (!needs_data) return PK_OK;
  PK_TRY_API(check_data(operation, "source", descriptor.source));
  return check_data(operation, "destination", descriptor.destination);
}

int32_t check_in_place(const char* operation, const Haar& haar) {
  const pk_matrix &source = haar.descriptor.source, &destination = haar.descriptor.destination;
  if (!haar.in_place()) {
    Operands operands;
    operands.output("destination", destination, haar.descriptor.batch_count);
    operands.input("source", source, haar.descriptor.batch_count);
    return operands.check_disjoint(operation);
  }
  if (haar.descriptor.layout != PK_HAAR_INTERLEAVED) return fail(PK_ERROR_ARGUMENT, "%s: in place with the Mallat layout, expected the interleaved one", operation);
  const bool batch = haar.descriptor.batch_count == 1 || source.batch_stride == destination.batch_stride;
  if (haar.ragged() || source.row_stride != destination.row_stride || source.column_stride != destination.column_stride || !batch) {
    return fail(PK_ERROR_ARGUMENT, "%s: source and destination begin at %p with other extents or strides, expected the same or disjoint memory", operation, source.data);
  }
  return PK_OK;
}

int32_t pick_haar(const char* operation, const Haar& haar, pk_kernel_choice* choice) {
  const pk_haar_descriptor& descriptor = haar.descriptor;
  const int64_t tile_columns = haar_tile_columns(haar.f32());
  const auto tiles = [&](int64_t extent, int64_t tile) { return static_cast<double>((extent + 2 * tile - 1) / tile); };
  const bool transposed = haar.transposed();
  const double count = tiles(transposed ? haar.signal().columns : haar.signal().rows, kHaarTileRows) * tiles(transposed ? haar.signal().rows : haar.signal().columns, tile_columns);
  const bool folds = haar.inverse && descriptor.adjoint != 0 && haar.ragged() && descriptor.boundary != PK_HAAR_BOUNDARY_ZERO;
  const bool possible = descriptor.levels <= haar.tile_levels() && !folds && count * static_cast<double>(descriptor.batch_count) <= INT32_MAX;
  const int32_t algorithm = descriptor.algorithm != 0 ? descriptor.algorithm : possible ? PK_HAAR_TILE : PK_HAAR_SIMT;
  if (algorithm != PK_HAAR_SIMT && algorithm != PK_HAAR_TILE) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d does not exist, expected 0 (automatic), %d (simt) or %d (tile)", operation, algorithm, PK_HAAR_SIMT, PK_HAAR_TILE);
  }
  if (algorithm == PK_HAAR_TILE && !possible) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (tile) needs at most %d levels here, no adjoint of an extension and at most %d tiles; there are %d levels", operation, algorithm,
                haar.tile_levels(), INT32_MAX, descriptor.levels);
  }
  if (algorithm == PK_HAAR_SIMT && haar.in_place()) {
    return fail(PK_ERROR_ALGORITHM, "%s: algorithm %d (simt) in place, expected %d (tile), which has at most %d levels here", operation, algorithm, PK_HAAR_TILE, haar.tile_levels());
  }
  const bool tile = algorithm == PK_HAAR_TILE;
  const int64_t steps = tile ? haar_tile_rounding_steps(descriptor.levels, descriptor.axes == PK_HAAR_ALONG_BOTH ? 2 : 1) : kHaarSimtRoundingSteps;
  *choice = pk_kernel_choice{algorithm, 0, steps, {}};
  std::snprintf(choice->name, sizeof choice->name, "haar_%s_%s", haar.inverse ? "inverse" : "forward", tile ? "tile" : "simt");
  return PK_OK;
}

int32_t run(const char* operation, const pk_queue* queue, const pk_haar_descriptor* given, bool inverse) {
  pk_queue known_queue;
  Haar haar;
  pk_kernel_choice choice;
  PK_TRY_API(check_queue(operation, queue, &known_queue));
  PK_TRY_API(read_haar(operation, given, inverse, true, &haar));
  PK_TRY_API(check_in_place(operation, haar));
  PK_TRY_API(pick_haar(operation, haar, &choice));
  haar.descriptor.algorithm = choice.algorithm;
  // A queue that leads nowhere says so first of all.
  pk_chip chip{sizeof(pk_chip), 0, 0, 0};
  PK_TRY_API(PK_DISPATCH(known_queue, queue_chip(&known_queue, &chip)));
  return PK_DISPATCH(known_queue, haar(&known_queue, &haar.descriptor, inverse ? 1 : 0));
}

}  // namespace
}  // namespace peft_kernels_api

using namespace peft_kernels_api;

extern "C" {

int32_t pk_haar_forward(const pk_queue* queue, const pk_haar_descriptor* descriptor) { return run("pk_haar_forward", queue, descriptor, false); }

int32_t pk_haar_inverse(const pk_queue* queue, const pk_haar_descriptor* descriptor) { return run("pk_haar_inverse", queue, descriptor, true); }

int32_t pk_haar_pick(const pk_chip* chip, const pk_haar_descriptor* given, int32_t inverse, pk_kernel_choice* choice) {
  const char* operation = "pk_haar_pick";
  Haar haar;
  if (choice == nullptr) return fail(PK_ERROR_ARGUMENT, "%s: choice is null", operation);
  if (chip == nullptr || chip->size < sizeof(pk_chip)) return fail(PK_ERROR_VERSION, "%s: chip is null or of fewer than %zu bytes", operation, sizeof(pk_chip));
  PK_TRY_API(check_range(operation, "inverse", inverse, 0, 1));
  PK_TRY_API(read_haar(operation, given, inverse != 0, false, &haar));
  return pick_haar(operation, haar, choice);
}

}  // extern "C"
